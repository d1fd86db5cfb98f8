#!/bin/bash
# Kerberos credential caches in keyrings (KEYRING:session, user, persistent,
# process): Debian's own kinit, klist, kvno and kdestroy, against a key
# distribution centre on the loopback address.
#
#   krb5.sh [--kernel | --control] [-m REGEX]
#
# Nothing is installed: the packages are unpacked below target/, no name service
# is asked, and the realm lives in a temporary directory. Needs keyutils, and
# apt-get to fetch the packages.

. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/debian.sh"

packages=(krb5-user krb5-kdc krb5-admin-server libkadm5srv-mit12 libkadm5clnt-mit12 libkdb5-10 libgssrpc4
    libverto1 libverto-libev1 libev4 libgssapi-krb5-2 libkrb5-3 libkrb5support0 libk5crypto3 libcom-err2 libss2)
kdc=

end_realm() {
    [ -z "$kdc" ] || { kill "$kdc" && wait "$kdc"; } 2>/dev/null
    rm -rf "$realm"
}

write_configuration() {
    cat >"$KRB5_CONFIG" <<CONF
[libdefaults]
    default_realm = KEYSHIM.TEST
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    plugin_base_dir = $packages_root$libraries/krb5/plugins
[realms]
    KEYSHIM.TEST = {
        kdc = 127.0.0.1:$port
    }
[dbmodules]
    db_module_dir = $packages_root$libraries/krb5/plugins/kdb
CONF
    cat >"$KRB5_KDC_PROFILE" <<CONF
[kdcdefaults]
    kdc_listen = 127.0.0.1:$port
    kdc_tcp_listen = 127.0.0.1:$port
[realms]
    KEYSHIM.TEST = {
        database_name = $realm/principal
        key_stash_file = $realm/stash
        acl_file = $realm/acl
    }
CONF
}

# The realm with its two users and one service; the centre serves it until we end.
begin_realm() {
    write_configuration &&
        kdb5_util create -s -P master -r KEYSHIM.TEST &&
        kadmin.local -q 'addprinc -pw secret alice' &&
        kadmin.local -q 'addprinc -pw secret bob' &&
        kadmin.local -q 'addprinc -randkey host/localhost' || return 1
    krb5kdc -n &
    kdc=$!
    local tenth
    for tenth in {1..100}; do
        echo secret | KRB5CCNAME=FILE:$realm/probe kinit alice && return
        kill -0 $kdc || return 1
        sleep 0.1
    done
    return 1
}

session() {
    selected "$1" || return 0
    check "$1" in_world timeout -k 5 60 keyctl session krb5 bash "$suites/krb5_session.sh" "$1"
}

options "$@"
command -v keyctl >/dev/null || skip_all "needs keyctl (package keyutils)"
choose_wrapper
packages_root=$scratch/root libraries=/usr/lib/$(uname -m)-linux-gnu
if [ ! -e "$scratch/unpacked" ]; then
    debian_unpack "$packages_root" "${packages[@]}" >"$scratch/fetch.log" 2>&1 ||
        skip_all "cannot fetch the packages: $(tail -n 1 "$scratch/fetch.log")"
    touch "$scratch/unpacked"
fi

realm=$(mktemp -d) || die "cannot make a temporary directory"
trap end_realm EXIT
trap 'exit 130' INT TERM HUP
port=$((20000 + RANDOM % 10000))
export KRB5_CONFIG=$realm/krb5.conf KRB5_KDC_PROFILE=$realm/kdc.conf
export PATH=$packages_root/usr/bin:$packages_root/usr/sbin:$PATH
export LD_LIBRARY_PATH=$packages_root$libraries:$packages_root${libraries#/usr}
begin_realm >"$scratch/realm.log" 2>&1 || die "the realm does not start: see $scratch/realm.log"

session KEYRING:session:keyshim
session KEYRING:user:keyshim
session "KEYRING:persistent:$(id -u)"
session "KEYRING:persistent:$(id -u):keyshim"
session KEYRING:process:keyshim
session KEYRING:thread:keyshim
finish
