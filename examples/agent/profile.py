#!/usr/bin/env python3
"""profile.py SOCKET [METADATA] <PROFILE >PROFILE-WITH-KEYS

Takes a seccomp profile of Docker, Podman or Kubernetes, and has it hand add_key,
request_key and keyctl to the agent at SOCKET. Whatever else it says stays as it is.
Containers whose profiles have the same METADATA share their keys.
"""

import json
import sys

KEY_CALLS = ["add_key", "request_key", "keyctl"]


def with_keys(profile, socket, metadata):
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in KEY_CALLS]
    rules = [rule for rule in profile["syscalls"] if rule["names"]]
    profile["syscalls"] = [{"names": KEY_CALLS, "action": "SCMP_ACT_NOTIFY"}] + rules
    profile["listenerPath"] = socket
    if metadata:
        profile["listenerMetadata"] = metadata
    return profile


def main():
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    json.dump(with_keys(json.load(sys.stdin), sys.argv[1], "".join(sys.argv[2:])), sys.stdout, indent=4)
    print()


main()
