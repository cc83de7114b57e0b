# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destruction of sockets by an iterator program that calls bpf_sock_destroy.

The program runs once for each TCP or UDP socket of a network namespace (bpf_iter_tcp,
bpf_iter_udp). It looks the socket's cookie up in a map of the selected ones and, if it is there,
aborts the socket as SOCK_DESTROY does: both call the protocol's diag_destroy (net/core/filter.c).
Requires Linux 6.5, BTF, CAP_BPF and CAP_PERFMON.
"""

from __future__ import annotations

import errno
import os
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import NamedTuple

from ..errors import MalformedBtf
from . import btf, syscalls
from .assembler import (
    BYTE,
    DOUBLE,
    FRAME,
    MAP_LOOKUP_ELEM,
    R0,
    R1,
    R2,
    R6,
    R7,
    SIZE,
    WORD,
    add_number,
    assemble,
    call_helper,
    call_kfunc,
    jump_if_equal,
    leave,
    load,
    load_map,
    move,
    move_number,
    store,
    store_number,
)

# Verdicts.
SUPPORTED = "supported"
NO_BTF = "no_btf"
BTF_UNREADABLE = "btf_unreadable"
KERNEL_TOO_OLD = "kernel_too_old"
NO_SYSTEM_CALL = "no_system_call"
NOT_PERMITTED = "not_permitted"
REJECTED = "rejected"
NO_ITERATOR = "no_iterator"

ITERATORS = {"tcp": "bpf_iter_tcp", "udp": "bpf_iter_udp"}
_KFUNC = "bpf_sock_destroy"
_COMMON = "sock_common"
_COOKIE = (_COMMON, "skc_cookie")
_STATE = (_COMMON, "skc_state")

# struct bpf_iter__tcp and bpf_iter__udp: the socket is their second pointer.
_SOCKET_AT = 8
# Sockets in these states have no struct sock, of which bpf_sock_destroy reads a member.
_TIME_WAIT, _NEW_SYN_RECV = 6, 12

# Results in the map: 0 or a negative errno of bpf_sock_destroy, or one of these.
UNSEEN = 1
NOT_FULL = 2

_KEY_SIZE, _VALUE_SIZE = 8, 4
_BUFFER_SIZE = 4096

_OUT = "out"
_SMALL = "not a full socket"

Enter = Callable[[Callable[[], int]], int]


class Types(NamedTuple):
    """What the program needs to know of the running kernel.

    iterators: the BTF type ids of the iterators, by protocol. kfunc: that of bpf_sock_destroy.
    cookie, state: offsets in struct sock_common, in bytes.
    """

    iterators: dict[str, int]
    kfunc: int
    cookie: int
    state: int


class Support(NamedTuple):
    """Whether the program can be loaded for a protocol. errno: of the call that failed; 0: none.

    verdict: supported, or: no_iterator (the protocol has none); no_btf (no CONFIG_DEBUG_INFO_BTF);
    btf_unreadable (it is malformed, or not readable); kernel_too_old (BTF has no bpf_sock_destroy);
    no_system_call (no CONFIG_BPF_SYSCALL, or an unknown architecture); not_permitted; rejected (by
    the verifier or another check of the kernel).
    """

    verdict: str
    errno: int = 0


def types_in(blob: bytes) -> Types | None:
    """Find the types in the BTF of a kernel; None: it is too old. Raises MalformedBtf."""
    found = btf.find(blob, [*ITERATORS.values(), _KFUNC], [_COOKIE, _STATE])
    if _KFUNC not in found.functions or not {_COOKIE, _STATE} <= found.members.keys():
        return None
    return Types(
        {
            protocol: found.functions[name]
            for protocol, name in ITERATORS.items()
            if name in found.functions
        },
        found.functions[_KFUNC],
        found.members[_COOKIE],
        found.members[_STATE],
    )


@cache
def read_types(path: str = btf.VMLINUX) -> Types | None:
    """Read the types of the running kernel, once in a process; None: it is too old.

    Raises OSError and MalformedBtf.
    """
    with open(path, "rb") as file:
        return types_in(file.read())


def assemble_program(types: Types, map_descriptor: int) -> bytes:
    """The iterator program. It destroys the sockets whose cookies are keys of the map.

    The map's value becomes the result. A socket that is visited twice is destroyed once.
    """
    return assemble(
        [
            load(DOUBLE, R6, R1, _SOCKET_AT),
            # The last call, after all sockets, has none.
            jump_if_equal(R6, 0, _OUT),
            load(DOUBLE, R2, R6, types.cookie),
            store(DOUBLE, FRAME, -_KEY_SIZE, R2),
            *load_map(R1, map_descriptor),
            move(R2, FRAME),
            add_number(R2, -_KEY_SIZE),
            call_helper(MAP_LOOKUP_ELEM),
            jump_if_equal(R0, 0, _OUT),
            move(R7, R0),
            load(WORD, R1, R7, 0),
            jump_if_equal(R1, 0, _OUT),
            load(BYTE, R1, R6, types.state),
            jump_if_equal(R1, _TIME_WAIT, _SMALL),
            jump_if_equal(R1, _NEW_SYN_RECV, _SMALL),
            move(R1, R6),
            call_kfunc(types.kfunc),
            store(WORD, R7, 0, R0),
            _OUT,
            move_number(R0, 0),
            leave(),
            _SMALL,
            store_number(WORD, R7, 0, NOT_FULL),
            move_number(R0, 0),
            leave(),
        ]
    )


def probe(protocol: str) -> Support:
    """Load the program for a protocol and unload it. Changes nothing."""
    if protocol not in ITERATORS:
        return Support(NO_ITERATOR)
    try:
        types = read_types()
    except FileNotFoundError:
        return Support(NO_BTF)
    except OSError as error:
        return Support(BTF_UNREADABLE, error.errno or errno.EIO)
    except MalformedBtf:
        return Support(BTF_UNREADABLE)
    if types is None or protocol not in types.iterators:
        return Support(KERNEL_TOO_OLD)
    try:
        with _loaded(types, protocol, 1):
            return Support(SUPPORTED)
    except OSError as error:
        number = error.errno or errno.EIO
        verdict = {errno.ENOSYS: NO_SYSTEM_CALL, errno.EPERM: NOT_PERMITTED}.get(number, REJECTED)
        return Support(verdict, number)


def destroy(protocol: str, cookies: Sequence[int], enter: Enter) -> dict[int, int]:
    """Destroy the sockets of a protocol that have these cookies. Returns the result by cookie.

    enter(work): call work() inside the network namespace, and return its result. A result is 0, a
    negative errno, UNSEEN (no such socket was visited) or NOT_FULL (it is in TIME_WAIT, or half
    open). Raises OSError and MalformedBtf.
    """
    types = read_types()
    if types is None or protocol not in types.iterators:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    unique = array("Q", dict.fromkeys(cookies))
    count = len(unique)
    if not count:
        return {}
    with _loaded(types, protocol, count) as (entries, program):
        unseen = array("i", [UNSEEN]) * count
        syscalls.fill_map(entries, unique.tobytes(), unseen.tobytes(), count)
        with ExitStack() as opened:
            link = syscalls.link_iterator(program)
            opened.callback(os.close, link)
            results: dict[int, int] = {}
            # Before Linux 6.16, an iterator may skip sockets of a bucket that changes meanwhile.
            for _walk in range(2):
                iterator = enter(lambda: syscalls.create_iterator(link))
                try:
                    _run(iterator)
                finally:
                    os.close(iterator)
                results = _results(entries, count)
                if UNSEEN not in results.values():
                    break
    return results


def _results(entries: int, count: int) -> dict[int, int]:
    keys, values = array("Q"), array("i")
    key_bytes, value_bytes = syscalls.read_map(entries, _KEY_SIZE, _VALUE_SIZE, count)
    keys.frombytes(key_bytes)
    values.frombytes(value_bytes)
    return dict(zip(keys, values))


@contextmanager
def _loaded(types: Types, protocol: str, count: int) -> Iterator[tuple[int, int]]:
    """A map for this many sockets and the loaded program: their descriptors."""
    with ExitStack() as opened:
        entries = syscalls.create_map(_KEY_SIZE, _VALUE_SIZE, count)
        opened.callback(os.close, entries)
        code = assemble_program(types, entries)
        program = syscalls.load_iterator(code, len(code) // SIZE, types.iterators[protocol])
        opened.callback(os.close, program)
        yield entries, program


def _run(iterator: int) -> None:
    """Run the program for each socket. The program writes nothing, so all reads are empty."""
    while True:
        try:
            if not os.read(iterator, _BUFFER_SIZE):
                return
        except BlockingIOError:
            # After a million sockets without output, bpf_seq_read returns EAGAIN.
            continue
