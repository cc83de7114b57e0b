# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Programs of the BPF virtual machine, as bytes (Documentation/bpf/standardization).

Pure functions: each makes one instruction, and `assemble` resolves the labels of jumps.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

# struct bpf_insn, include/uapi/linux/bpf.h: opcode, registers, offset, immediate.
_INSTRUCTION = struct.Struct("=BBhi")
SIZE = _INSTRUCTION.size

# Registers.
R0, R1, R2, R6, R7, FRAME = 0, 1, 2, 6, 7, 10

# Sizes of loads and stores.
WORD, BYTE, DOUBLE = 0x00, 0x10, 0x18

_LDX_MEM, _STX_MEM, _LD_IMM_DOUBLE = 0x61, 0x63, 0x18
_ST_MEM = 0x62
_MOV, _MOV_IMMEDIATE, _ADD_IMMEDIATE = 0xBF, 0xB7, 0x07
_JEQ_IMMEDIATE, _JUMP, _CALL, _EXIT = 0x15, 0x05, 0x85, 0x95
_PSEUDO_MAP_FD = 1
_PSEUDO_KFUNC_CALL = 2

MAP_LOOKUP_ELEM = 1  # BPF_FUNC_map_lookup_elem


class Instruction(NamedTuple):
    """One instruction. target: the label that a jump goes to; it replaces `offset`."""

    opcode: int
    destination: int = 0
    source: int = 0
    offset: int = 0
    immediate: int = 0
    target: str | None = None


Item = Union[Instruction, str]


def load(size: int, destination: int, source: int, offset: int) -> Instruction:
    """destination = *(source + offset)"""
    return Instruction(_LDX_MEM | size, destination, source, offset)


def store(size: int, destination: int, offset: int, source: int) -> Instruction:
    """*(destination + offset) = source"""
    return Instruction(_STX_MEM | size, destination, source, offset)


def store_number(size: int, destination: int, offset: int, number: int) -> Instruction:
    """*(destination + offset) = number"""
    return Instruction(_ST_MEM | size, destination, 0, offset, number)


def load_map(destination: int, descriptor: int) -> Sequence[Instruction]:
    """destination = the map with this descriptor; two instructions."""
    return (
        Instruction(_LD_IMM_DOUBLE, destination, _PSEUDO_MAP_FD, 0, descriptor),
        Instruction(0),
    )


def move(destination: int, source: int) -> Instruction:
    """destination = source"""
    return Instruction(_MOV, destination, source)


def move_number(destination: int, number: int) -> Instruction:
    """destination = number"""
    return Instruction(_MOV_IMMEDIATE, destination, 0, 0, number)


def add_number(destination: int, number: int) -> Instruction:
    """destination += number"""
    return Instruction(_ADD_IMMEDIATE, destination, 0, 0, number)


def jump_if_equal(register: int, number: int, target: str) -> Instruction:
    """if register == number: goto target"""
    return Instruction(_JEQ_IMMEDIATE, register, 0, 0, number, target)


def jump(target: str) -> Instruction:
    """goto target"""
    return Instruction(_JUMP, target=target)


def call_helper(number: int) -> Instruction:
    """r0 = helper(r1, ...)"""
    return Instruction(_CALL, 0, 0, 0, number)


def call_kfunc(type_id: int) -> Instruction:
    """r0 = kfunc(r1, ...), a function of the kernel with this BTF type id."""
    return Instruction(_CALL, 0, _PSEUDO_KFUNC_CALL, 0, type_id)


def leave() -> Instruction:
    """return r0"""
    return Instruction(_EXIT)


def assemble(items: Sequence[Item]) -> bytes:
    """Assemble instructions and labels. A label (a string) marks the instruction after it.

    Raises ValueError: a label is missing or stands twice, or a number does not fit its field.
    """
    positions: dict[str, int] = {}
    instructions: list[Instruction] = []
    for item in items:
        if isinstance(item, Instruction):
            instructions.append(item)
        elif item in positions:
            raise ValueError(f"the label {item} stands twice")
        else:
            positions[item] = len(instructions)
    return b"".join(
        _encode(instruction, number, positions) for number, instruction in enumerate(instructions)
    )


def _encode(instruction: Instruction, number: int, positions: Mapping[str, int]) -> bytes:
    offset = instruction.offset
    if instruction.target is not None:
        if instruction.target not in positions:
            raise ValueError(f"no label {instruction.target}")
        # Relative to the next instruction.
        offset = positions[instruction.target] - number - 1
    for register in (instruction.destination, instruction.source):
        if not 0 <= register <= FRAME:
            raise ValueError(f"no register {register}")
    low, high = instruction.destination, instruction.source
    if sys.byteorder == "big":
        low, high = high, low
    try:
        return _INSTRUCTION.pack(instruction.opcode, low | high << 4, offset, instruction.immediate)
    except struct.error as error:
        raise ValueError(f"instruction {number}: {error}") from None
