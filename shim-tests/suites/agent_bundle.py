"""agent_bundle.py DIRECTORY ROOTFS SOCKET SCRIPT [KEY=VALUE]...

Makes a bundle of the example's configuration (examples/agent/config.json) that runs a
shell script: as uid=N, with metadata=TEXT, with the directory shared=PATH at /shared,
without no_new_privs (renounce=no), in a user namespace of size=N users from base=N on,
allowed one system call more (allow=NAME) and CAP_SYS_PTRACE, or with
action=SCMP_ACT_ERRNO for the key calls in place of the listener.
"""

import json
import os
import sys


def bundle(rootfs, socket, script, wishes):
    example = os.path.join(os.path.dirname(__file__), "../../examples/agent/config.json")
    with open(example, encoding="utf-8") as file:
        config = json.load(file)
    process, linux = config["process"], config["linux"]
    config["root"]["path"] = rootfs
    process["args"] = ["/bin/sh", "-c", script]
    seccomp = linux["seccomp"]
    seccomp["listenerPath"] = socket
    if "metadata" in wishes:
        seccomp["listenerMetadata"] = wishes["metadata"]
    if "action" in wishes:
        del seccomp["listenerPath"]
        seccomp["syscalls"][0]["action"] = wishes["action"]
    if "allow" in wishes:
        seccomp["syscalls"][1]["names"].append(wishes["allow"])
        for capabilities in process["capabilities"].values():
            capabilities.append("CAP_SYS_PTRACE")
    if "uid" in wishes:
        process["user"] = {"uid": int(wishes["uid"]), "gid": int(wishes["uid"])}
        del process["capabilities"]
    if "base" in wishes:
        size = int(wishes.get("size", 65536))
        ids = {"containerID": 0, "hostID": int(wishes["base"]), "size": size}
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = linux["gidMappings"] = [ids]
    if "shared" in wishes:
        mount = {"destination": "/shared", "type": "bind", "source": wishes["shared"]}
        config["mounts"].append({**mount, "options": ["bind", "rw"]})
    process["noNewPrivileges"] = wishes.get("renounce") != "no"
    return config


def main():
    directory, rootfs, socket, script, *wishes = sys.argv[1:]
    wishes = dict(wish.split("=", 1) for wish in wishes)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w", encoding="utf-8") as file:
        json.dump(bundle(rootfs, socket, script, wishes), file, indent=1)


main()
