# shellcheck shell=bash
# Debian's packages without installing them; sourced after lib.sh.
#
# apt-get works in a directory of its own: the system's lists, sources and
# packages stay as they are, and no root is needed. Packages come from the
# archives that the machine itself uses, checked by its own keys.

apt_home=$target/debian

# Lines for a sources.list: the machine's own Debian archives, of that type.
apt_lines() {
    local type=$1 key=/usr/share/keyrings/debian-archive-keyring.gpg
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' 'Created-By: Packages' |
        grep -E ' main$' | grep -E '/debian(-security)?/? ' | sort -u |
        while read -r uri codename component; do
            echo "$type ${key:+[signed-by=$key]} $uri $codename $component"
        done
}

apt_private() {
    apt-get -q -o "Dir::Etc::SourceList=$apt_home/sources.list" -o "Dir::Etc::SourceParts=$apt_home/none" \
        -o "Dir::State::Lists=$apt_home/lists" -o "Dir::Cache=$apt_home/cache" \
        -o APT::Sandbox::User=root "$@"
}

# Lists that are less than a day old are good enough.
apt_update() {
    command -v apt-get >/dev/null || { echo "needs apt-get"; return 1; }
    [ -n "$(find "$apt_home/updated" -mmin -1440 2>/dev/null)" ] && return
    mkdir -p "$apt_home/lists/partial" "$apt_home/cache/archives/partial" "$apt_home/none" &&
        { apt_lines deb; apt_lines deb-src; } >"$apt_home/sources.list" &&
        apt_private update && touch "$apt_home/updated"
}

# debian_source NAME DIR: the upstream sources as Debian packs them, without
# Debian's patches, unpacked into DIR.
debian_source() {
    local name=$1 into=$2 kept=$apt_home/sources/$1
    if ! ls "$kept"/*.dsc >/dev/null 2>&1; then
        command -v dpkg-source >/dev/null || { echo "needs dpkg-source (package dpkg-dev)"; return 1; }
        apt_update && mkdir -p "$kept" && (cd "$kept" && apt_private source --download-only "$name") || return 1
    fi
    dpkg-source --no-copy --skip-patches -x "$kept"/*.dsc "$into"
}

# debian_unpack DIR PACKAGE...: the files of these binary packages, below DIR. A
# library that Debian renamed for 64-bit times is found under its new name.
debian_unpack() {
    local into=$1 debs=$apt_home/debs package
    shift
    mkdir -p "$into" "$debs"
    for package in "$@"; do
        if ! ls "$debs/$package"_*.deb "$debs/${package}t64"_*.deb >/dev/null 2>&1; then
            apt_update && (cd "$debs" && { apt_private download "$package" || apt_private download "${package}t64"; }) ||
                return 1
        fi
        dpkg-deb -x "$(ls -t "$debs/$package"_*.deb "$debs/${package}t64"_*.deb 2>/dev/null | head -n 1)" "$into" ||
            return 1
    done
}
