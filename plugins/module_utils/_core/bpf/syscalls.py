# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The system call bpf(2), and the few of its commands that iterator programs need.

All descriptors that it returns are closed on exec. Functions raise OSError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from functools import cache

# enum bpf_cmd, include/uapi/linux/bpf.h
_MAP_CREATE, _PROG_LOAD = 0, 5
_MAP_LOOKUP_BATCH, _MAP_UPDATE_BATCH = 24, 26
_LINK_CREATE, _ITER_CREATE = 28, 33

_MAP_TYPE_HASH = 1
_PROG_TYPE_TRACING = 26
_TRACE_ITER = 28

# Members of union bpf_attr, up to the last that is used; the kernel takes the rest as zero.
_MAP_ATTRIBUTES = struct.Struct("=IIIIIII16s")
_BATCH_ATTRIBUTES = struct.Struct("=QQQQIIQQ")
_PROGRAM_ATTRIBUTES = struct.Struct("=IIQQIIQII16sIIIIQIIQII")
_LINK_ATTRIBUTES = struct.Struct("=IIII")
_ITER_ATTRIBUTES = struct.Struct("=II")

_NAME = b"linuxnet_socket"
# bpf_sock_destroy is for programs under the GPL only.
_LICENCE = b"GPL\0"

# By machine, as uname(2) names it, for programs of 64 bits and of 32 bits.
_NUMBERS_64 = {"x86_64": 321, "ppc64": 361, "ppc64le": 361, "s390x": 351}
_GENERIC = ("aarch64", "riscv64", "loongarch64")
_GENERIC_NUMBER = 280  # include/uapi/asm-generic/unistd.h


def number_of(machine: str, pointer_size: int) -> int | None:
    """The number of bpf(2); None: unknown. Only JITs of 64 bits can call kernel functions."""
    if pointer_size != struct.calcsize("=Q"):
        return None
    return _GENERIC_NUMBER if machine in _GENERIC else _NUMBERS_64.get(machine)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = number_of(os.uname().machine, struct.calcsize("P"))
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    result: int = _libc().syscall(
        ctypes.c_long(number),
        ctypes.c_int(command),
        attributes,
        ctypes.c_uint(ctypes.sizeof(attributes)),
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _attributes(content: bytes) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(content, len(content))


def create_map(key_size: int, value_size: int, entries: int) -> int:
    """Create a hash map for this many entries. Returns its descriptor."""
    return _call(
        _MAP_CREATE,
        _attributes(
            _MAP_ATTRIBUTES.pack(_MAP_TYPE_HASH, key_size, value_size, entries, 0, 0, 0, _NAME)
        ),
    )


def fill_map(descriptor: int, keys: bytes, values: bytes, count: int) -> None:
    """Add entries to a map."""
    keys_buffer, values_buffer = _attributes(keys), _attributes(values)
    _call(
        _MAP_UPDATE_BATCH,
        _attributes(
            _BATCH_ATTRIBUTES.pack(
                0,
                0,
                ctypes.addressof(keys_buffer),
                ctypes.addressof(values_buffer),
                count,
                descriptor,
                0,
                0,
            )
        ),
    )


def read_map(descriptor: int, key_size: int, value_size: int, count: int) -> tuple[bytes, bytes]:
    """The keys and values of a map that has at most this many entries."""
    keys = ctypes.create_string_buffer(key_size * count)
    values = ctypes.create_string_buffer(value_size * count)
    # The position after the batch: a hash of 32 bits.
    position = ctypes.create_string_buffer(8)
    attributes = _attributes(
        _BATCH_ATTRIBUTES.pack(
            0,
            ctypes.addressof(position),
            ctypes.addressof(keys),
            ctypes.addressof(values),
            count,
            descriptor,
            0,
            0,
        )
    )
    try:
        _call(_MAP_LOOKUP_BATCH, attributes)
    except OSError as error:
        # ENOENT: the end of the map was reached.
        if error.errno != errno.ENOENT:
            raise
    found = _BATCH_ATTRIBUTES.unpack(attributes.raw)[4]
    return keys.raw[: key_size * found], values.raw[: value_size * found]


def load_iterator(program: bytes, instructions: int, attach_type_id: int) -> int:
    """Load an iterator program for the iterator with this BTF type id. Returns its descriptor."""
    code, licence = _attributes(program), _attributes(_LICENCE)
    return _call(
        _PROG_LOAD,
        _attributes(
            _PROGRAM_ATTRIBUTES.pack(
                _PROG_TYPE_TRACING,
                instructions,
                ctypes.addressof(code),
                ctypes.addressof(licence),
                0,
                0,
                0,
                0,
                0,
                _NAME,
                0,
                _TRACE_ITER,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                attach_type_id,
            )
        ),
    )


def link_iterator(program: int) -> int:
    """Attach an iterator program. Returns the descriptor of the link."""
    return _call(_LINK_CREATE, _attributes(_LINK_ATTRIBUTES.pack(program, 0, _TRACE_ITER, 0)))


def create_iterator(link: int) -> int:
    """Create an iterator, which visits the network namespace of the calling thread.

    Read its descriptor to the end to run the program for each object.
    """
    return _call(_ITER_CREATE, _attributes(_ITER_ATTRIBUTES.pack(link, 0)))
