"""agent_callers.py SOCKET: runtimes that do everything wrong; none gets an answer, and
what does not keep silent is hung up on. Exits 1 when one is not."""

import array
import os
import socket
import sys
import tempfile

STATE = b'{"ociVersion":"1.0.2","fds":["seccompFd"],"pid":1,"state":{"id":"x"}}'


def connected(path):
    caller = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    caller.settimeout(30)
    caller.connect(path)
    return caller


def call(path, pieces, descriptors, at=0):
    """Says the pieces, with the descriptors beside one; true when hung up on."""
    caller = connected(path)
    try:
        for number, piece in enumerate(pieces):
            rights = array.array("i", descriptors if number == at else [])
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)] if rights else []
            sent = caller.sendmsg([piece], beside)
            caller.sendall(piece[sent:])
        return caller.recv(1) == b""
    except (BrokenPipeError, ConnectionResetError):
        return True
    finally:
        caller.close()


def main():
    path = sys.argv[1]
    file = tempfile.TemporaryFile()
    reader, writer = os.pipe()
    some = file.fileno()
    long = b'{"a":"' + b"x" * (2 << 20)
    wrong = {
        "no JSON": ([b"GET / HTTP/1.0\r\n\r\n"], []),
        "an array": ([b"[1]"], []),
        "no state": ([b"{}"], []),
        "two states": ([STATE + STATE], [some]),
        "bad bytes": ([b'{"\xff\xfe":1}'], []),
        "nothing beside": ([STATE], []),
        "a file beside": ([STATE], [some]),
        "a pipe beside": ([STATE], [reader]),
        "its own socket": ([STATE], [sys.stdin.fileno()]),
        "too many beside": ([STATE], [some, reader, writer]),
        "as many as the kernel takes": ([STATE], [some] * 253),
        "descriptors too late": ([STATE[:9], STATE[9:]], [some], 1),
        "too long": ([long], []),
        "in small pieces, then wrong": ([bytes([byte]) for byte in STATE[:-2]] + [b"]]"], [some]),
    }
    silent, half = connected(path), connected(path)
    half.sendall(STATE[:20])
    held = [name for name, saying in wrong.items() if not call(path, *saying)]
    for name in held:
        print(f"not hung up on: {name}")
    # Half a state, and gone; nothing at all, and gone.
    for said in (STATE[:20], b""):
        caller = connected(path)
        caller.sendall(said)
        caller.close()
    # Half a state, and no more: not for ever.
    if half.recv(1) != b"":
        held.append("half a state")
    # Who has not begun may take its time.
    silent.setblocking(False)
    try:
        silent.recv(1)
        held.append("hung up on: nothing")
    except BlockingIOError:
        pass
    sys.exit(1 if held else 0)


main()
