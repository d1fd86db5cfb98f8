"""A session with the package `keyutils` from PyPI, which ships no tests.

Prints `pass NAME` or `fail NAME: why` for each test below, in their order.
"""

import errno
import os
import subprocess
import sys
import threading
import traceback

import keyutils
from keyutils import KEY_SPEC_PROCESS_KEYRING, KEY_SPEC_SESSION_KEYRING, KEY_SPEC_THREAD_KEYRING

EKEYEXPIRED, EKEYREVOKED = errno.EKEYEXPIRED, errno.EKEYREVOKED


def errno_of(call, *args):
    try:
        result = call(*args)
    except keyutils.Error as error:
        return error.args[0]
    raise AssertionError(f"{call.__name__}{args} gave {result!r} and no error")


def in_child(test):
    """Runs the test in a forked child; true when it returned true there."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if test() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def add_request_read():
    key = keyutils.add_key(b"colour", b"green", KEY_SPEC_PROCESS_KEYRING)
    assert keyutils.request_key(b"colour", KEY_SPEC_PROCESS_KEYRING) == key
    assert keyutils.read_key(key) == b"green"


def a_miss_is_none():
    assert keyutils.request_key(b"never added", KEY_SPEC_PROCESS_KEYRING) is None
    assert keyutils.search(KEY_SPEC_PROCESS_KEYRING, b"never added") is None


def binary_payloads_survive():
    payload = bytes(range(256)) * 100
    key = keyutils.add_key(b"binary", payload[:15000], KEY_SPEC_PROCESS_KEYRING)
    assert keyutils.read_key(key) == payload[:15000]


def update_keeps_the_serial():
    key = keyutils.add_key(b"shape", b"round", KEY_SPEC_PROCESS_KEYRING)
    keyutils.update_key(key, b"square")
    assert keyutils.read_key(key) == b"square"
    assert keyutils.add_key(b"shape", b"oval", KEY_SPEC_PROCESS_KEYRING) == key


def describe():
    key = keyutils.add_key(b"described", b"x", KEY_SPEC_PROCESS_KEYRING)
    text = f"user;{os.getuid()};{os.getgid()};3f010000;described"
    assert keyutils.describe_key(key).rstrip(b"\0").decode() == text


def link_unlink_and_search():
    ring = keyutils.add_key(b"ring", None, KEY_SPEC_PROCESS_KEYRING, b"keyring")
    key = keyutils.add_key(b"linked", b"x", KEY_SPEC_PROCESS_KEYRING)
    keyutils.link(key, ring)
    assert keyutils.search(ring, b"linked") == key
    keyutils.unlink(key, ring)
    assert errno_of(keyutils.unlink, key, ring) == errno.ENOENT
    assert keyutils.search(ring, b"linked") is None


def clear():
    ring = keyutils.add_key(b"to clear", None, KEY_SPEC_PROCESS_KEYRING, b"keyring")
    keyutils.add_key(b"inside", b"x", ring)
    keyutils.clear(ring)
    assert keyutils.search(ring, b"inside") is None


def revoke():
    key = keyutils.add_key(b"revoked", b"x", KEY_SPEC_PROCESS_KEYRING)
    keyutils.revoke(key)
    assert errno_of(keyutils.read_key, key) == EKEYREVOKED


def expiry():
    key = keyutils.add_key(b"short", b"x", KEY_SPEC_PROCESS_KEYRING)
    keyutils.set_timeout(key, 1)
    threading.Event().wait(1.1)
    assert errno_of(keyutils.read_key, key) == EKEYEXPIRED
    assert keyutils.request_key(b"short", KEY_SPEC_PROCESS_KEYRING) is None


def permissions_are_kept():
    key = keyutils.add_key(b"closed", b"x", KEY_SPEC_PROCESS_KEYRING)
    keyutils.set_perm(key, 0x21000000)
    assert errno_of(keyutils.update_key, key, b"y") == errno.EACCES
    assert errno_of(keyutils.set_perm, key, 0x40000000) == errno.EINVAL


def logon_keys_are_not_read():
    key = keyutils.add_key(b"svc:me", b"secret", KEY_SPEC_PROCESS_KEYRING, b"logon")
    assert errno_of(keyutils.read_key, key) == errno.EOPNOTSUPP
    assert errno_of(keyutils.add_key, b"me", b"x", KEY_SPEC_PROCESS_KEYRING, b"logon") == errno.EINVAL


def a_session_crosses_fork_and_exec():
    keyutils.join_session_keyring(b"python")
    key = keyutils.add_key(b"shared", b"x", KEY_SPEC_SESSION_KEYRING)
    assert in_child(lambda: keyutils.search(KEY_SPEC_SESSION_KEYRING, b"shared") == key)
    text = subprocess.run(
        [sys.executable, "-c", f"import keyutils; print(keyutils.read_key({key}).decode())"],
        stdout=subprocess.PIPE, check=True).stdout
    assert text == b"x\n"


def a_process_keyring_does_not_cross_fork():
    keyutils.add_key(b"mine", b"x", KEY_SPEC_PROCESS_KEYRING)
    assert in_child(lambda: keyutils.search(KEY_SPEC_PROCESS_KEYRING, b"mine") is None)


def each_thread_has_a_keyring_of_its_own():
    keyutils.add_key(b"of main", b"x", KEY_SPEC_THREAD_KEYRING)
    found = []

    def other():
        keyutils.add_key(b"of other", b"x", KEY_SPEC_THREAD_KEYRING)
        found.append(keyutils.search(KEY_SPEC_THREAD_KEYRING, b"of main"))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [None]
    assert keyutils.search(KEY_SPEC_THREAD_KEYRING, b"of other") is None


def threads_at_once():
    right = []

    def work(number):
        for turn in range(100):
            name, value = b"t%d" % number, b"%d.%d" % (number, turn)
            key = keyutils.add_key(name, value, KEY_SPEC_THREAD_KEYRING)
            if keyutils.read_key(key) == value:
                right.append(value)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(right) == 800, len(right)


def a_child_gives_its_session_to_its_parent():
    keyutils.join_session_keyring(b"before")
    ours = keyutils.describe_key(KEY_SPEC_SESSION_KEYRING)

    def give():
        keyutils.join_session_keyring(b"of child")
        keyutils.session_to_parent()
        return True

    assert in_child(give)
    assert ours.rstrip(b"\0").endswith(b";before")
    assert keyutils.describe_key(KEY_SPEC_SESSION_KEYRING).rstrip(b"\0").endswith(b";of child")


TESTS = [
    add_request_read, a_miss_is_none, binary_payloads_survive, update_keeps_the_serial, describe,
    link_unlink_and_search, clear, revoke, expiry, permissions_are_kept, logon_keys_are_not_read,
    a_session_crosses_fork_and_exec, a_process_keyring_does_not_cross_fork,
    each_thread_has_a_keyring_of_its_own, threads_at_once, a_child_gives_its_session_to_its_parent,
]


def main():
    failed = 0
    for test in TESTS:
        try:
            test()
            print("pass", test.__name__, flush=True)
        except Exception as error:
            failed += 1
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            print(f"fail {test.__name__}: {type(error).__name__} {error} at line {line}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
