# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs of an unprivileged user that try to keep a connection which a policy forbids.

Each connects to the address and the port in its arguments, prints a line, and keeps the connection
until its input ends. A last line `skip: REASON` says that this kernel does not allow the way.
"""

from __future__ import annotations

# Arguments: address, port, and a local port or 0.
CONNECT = """
import socket, sys
def connect():
    sock = socket.socket()
    if len(sys.argv) > 3:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", int(sys.argv[3])))
    sock.connect((sys.argv[1], int(sys.argv[2])))
    return sock
def wait():
    print("connected", flush=True)
    sys.stdin.read()
"""

PLAIN = (
    CONNECT
    + """
sock = connect()
wait()
"""
)

# The command name of the process is that of sshd (PR_SET_NAME).
NAMED_SSHD = (
    CONNECT
    + """
import ctypes
ctypes.CDLL(None).prctl(15, b"sshd", 0, 0, 0)
sock = connect()
wait()
"""
)

# The process is not dumpable: its directory in /proc belongs to root (PR_SET_DUMPABLE).
NOT_DUMPABLE = (
    CONNECT
    + """
import ctypes
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
sock = connect()
wait()
"""
)

# The user tries to give the socket to root.
GIVEN_TO_ROOT = (
    CONNECT
    + """
import os
sock = connect()
try:
    os.fchown(sock.fileno(), 0, 0)
except PermissionError:
    pass
wait()
"""
)

# A thread has a descriptor table of its own (unshare with CLONE_FILES).
OWN_TABLE = (
    CONNECT
    + """
import ctypes, threading
def hold():
    assert ctypes.CDLL(None).unshare(0x400) == 0
    sock = connect()
    wait()
threading.Thread(target=hold).start()
"""
)

# The main thread has ended, so /proc/PID/fd is empty.
EXITED_LEADER = (
    CONNECT
    + """
import ctypes, os, threading
def hold():
    sock = connect()
    wait()
    os._exit(0)
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(os.uname().machine, 93), 0)
"""
)

# The only reference to the socket is a message that nobody has received.
IN_FLIGHT = (
    CONNECT
    + """
sock = connect()
ours, theirs = socket.socketpair()
socket.send_fds(ours, [b"x"], [sock.fileno()])
sock.close()
wait()
"""
)

# The only reference to the socket is an entry in the file table of io_uring.
IO_URING = (
    CONNECT
    + """
import ctypes
SETUP, REGISTER, REGISTER_FILES = 425, 427, 2
libc = ctypes.CDLL(None, use_errno=True)
ring = libc.syscall(SETUP, 4, ctypes.create_string_buffer(120))
if ring < 0:
    print("skip: this kernel does not allow io_uring", flush=True)
    sys.exit()
sock = connect()
files = (ctypes.c_int * 1)(sock.fileno())
assert libc.syscall(REGISTER, ring, REGISTER_FILES, files, 1) == 0
sock.close()
wait()
"""
)
