"""Run code in a child process and tell every socket that it, or a child of its own, asks for.

Python's audit hooks see Python's sockets alone; a native library looks a host's name up without
them. So the kernel is asked: a seccomp filter in the child hands every call of ``socket`` to the
parent, which writes it down and refuses it. Needs Linux 5.5, but no rights.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import select
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ARCHITECTURES = {"x86_64": (41, 317), "aarch64": (198, 277)}  # numbers of socket and seccomp
PR_SET_NO_NEW_PRIVS = 38
SET_MODE_FILTER, FLAG_NEW_LISTENER = 1, 1 << 3
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06  # of the filter's machine
ALLOW, ASK = 0x7FFF0000, 0x7FC00000
RECEIVE, ANSWER = 0xC0502100, 0xC0182101  # ioctls of the listener
NOTE, REPLY = struct.Struct("QII iI Q 6Q"), struct.Struct("Q q i I")
REFUSED = -13  # EACCES
LIBC = ctypes.CDLL(None, use_errno=True)


def asked(command: Sequence[str], env: Mapping[str, str], folder: Path) -> tuple[list[int], int]:
    """Run a command in a folder until it and all its children have ended.

    Returns
    -------
    address families of the sockets asked for, and the exit code

    Raises
    ------
    OSError
        Where the system has no such filters.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = [sys.executable, __file__, str(theirs.fileno()), *command]
        with subprocess.Popen(child, env=env, cwd=folder, pass_fds=[theirs.fileno()]) as process:
            theirs.close()
            message, listeners, _, _ = socket.recv_fds(ours, 64, 1)
            if not listeners:
                raise OSError(message.decode() or "the watched process did not start")
            try:
                families = _listen(listeners[0])
            finally:
                os.close(listeners[0])
        return families, process.returncode


def _listen(listener: int) -> list[int]:
    """Note and refuse every call until no process with the filter is left."""
    families: list[int] = []
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    note = ctypes.create_string_buffer(NOTE.size)
    while True:
        events = poll.poll()[0][1]
        if not events & select.POLLIN:
            return families
        ctypes.memset(note, 0, NOTE.size)
        if LIBC.ioctl(listener, ctypes.c_ulong(RECEIVE), note):
            continue  # the asking process ended meanwhile
        fields = NOTE.unpack(note.raw)
        families.append(fields[6])
        reply = ctypes.create_string_buffer(REPLY.pack(fields[0], 0, REFUSED, 0))
        LIBC.ioctl(listener, ctypes.c_ulong(ANSWER), reply)


def _filtered() -> int:
    """Filter this process and its children from now on; return the listener."""
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        raise OSError("no filter is written for this machine")
    socket_call, seccomp = ARCHITECTURES[platform.machine()]
    steps = [
        (LOAD, 0, 0, 0),  # the number of the call
        (JUMP_IF_EQUAL, 0, 1, socket_call),
        (RETURN, 0, 0, ASK),
        (RETURN, 0, 0, ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    listener = LIBC.syscall(seccomp, SET_MODE_FILTER, FLAG_NEW_LISTENER, program)
    if listener < 0:
        raise OSError("the kernel gives no seccomp listener here")
    return int(listener)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as parent, contextlib.suppress(BrokenPipeError):
        try:
            listener = _filtered()
        except OSError as error:
            parent.send(str(error).encode())
            sys.exit(1)
        socket.send_fds(parent, [b"."], [listener])
        os.close(listener)
    os.execv(sys.argv[2], sys.argv[2:])
