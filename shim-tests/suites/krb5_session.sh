#!/bin/bash
# One user's session with a credential cache in a keyring: krb5_session.sh CACHE.
# Run by krb5.sh in the world under test; stops at the first surprise.

set -eu
export KRB5CCNAME=$1

step() { echo "$KRB5CCNAME: $*"; }
surprise() { echo "$KRB5CCNAME: $*"; exit 1; }
principal_of() { klist 2>/dev/null | sed -n 's/^Default principal: //p'; }

step "kinit"
echo secret | kinit alice >/dev/null || surprise "kinit failed"

if [[ $KRB5CCNAME == KEYRING:process:* || $KRB5CCNAME == KEYRING:thread:* ]]; then
    # The keyring ended with kinit: what another process still sees is a leak.
    ! klist 2>/dev/null || surprise "klist sees a cache that ended with its process"
    exit 0
fi

step "klist in a process of its own"
[ "$(principal_of)" = alice@KEYSHIM.TEST ] || surprise "klist says: $(klist 2>&1 | head -n 2 | tr '\n' ' ')"

step "kvno fetches a service's ticket and keeps it"
kvno host/localhost >/dev/null || surprise "kvno failed"
klist | grep -q host/localhost@KEYSHIM.TEST || surprise "the ticket is not in the cache"

step "a second user's cache beside it"
case $KRB5CCNAME in
    # Behind the user's number comes a name.
    KEYRING:persistent:*[!0-9]*) other=${KRB5CCNAME}2 ;;
    KEYRING:persistent:*) other=$KRB5CCNAME:keyshim2 ;;
    *) other=${KRB5CCNAME}2 ;;
esac
echo secret | KRB5CCNAME=$other kinit bob >/dev/null || surprise "the second kinit failed"
[ "$(principal_of)" = alice@KEYSHIM.TEST ] || surprise "the second cache replaced the first"
KRB5CCNAME=$other kdestroy || surprise "kdestroy of the second cache failed"

step "kdestroy"
kdestroy || surprise "kdestroy failed"
! klist 2>/dev/null || surprise "klist still finds the cache"
