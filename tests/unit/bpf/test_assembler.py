# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The assembler, and the program of engine bpf as bytes and in a small interpreter."""

from __future__ import annotations

import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.bpf import assembler, socket_destroy, syscalls
from linuxnet_sockets.bpf.assembler import R0, R1, R2, Instruction, assemble
from linuxnet_sockets.bpf.socket_destroy import NOT_FULL, UNSEEN, Types

TYPES = Types({"tcp": 7, "udp": 8}, kfunc=4711, cookie=88, state=18)

little_endian = pytest.mark.skipif(sys.byteorder == "big", reason="bytes of little-endian code")


@little_endian
@pytest.mark.parametrize(
    ("instruction", "code"),
    [
        # As llvm-objdump prints them.
        (assembler.move(R2, assembler.FRAME), "bf a2 00 00 00 00 00 00"),
        (assembler.add_number(R2, -8), "07 02 00 00 f8 ff ff ff"),
        (assembler.load(assembler.DOUBLE, 6, R1, 8), "79 16 08 00 00 00 00 00"),
        (assembler.load(assembler.BYTE, R1, 6, 18), "71 61 12 00 00 00 00 00"),
        (assembler.load(assembler.WORD, R1, 7, 0), "61 71 00 00 00 00 00 00"),
        (assembler.store(assembler.DOUBLE, 10, -8, R2), "7b 2a f8 ff 00 00 00 00"),
        (assembler.store_number(assembler.WORD, 7, 0, 2), "62 07 00 00 02 00 00 00"),
        (assembler.call_helper(1), "85 00 00 00 01 00 00 00"),
        (assembler.call_kfunc(4711), "85 20 00 00 67 12 00 00"),
        (assembler.move_number(R0, 0), "b7 00 00 00 00 00 00 00"),
        (assembler.leave(), "95 00 00 00 00 00 00 00"),
    ],
)
def test_instruction(instruction: Instruction, code: str) -> None:
    assert assemble([instruction]).hex(" ") == code


@little_endian
def test_map_takes_two_instructions() -> None:
    code = assemble(list(assembler.load_map(R1, 5))).hex(" ")
    assert code == "18 11 00 00 05 00 00 00 00 00 00 00 00 00 00 00"


@given(st.integers(0, 200), st.integers(0, 200))
def test_jumps_are_relative_to_the_next_instruction(before: int, after: int) -> None:
    filler = assembler.move(R0, R0)
    items = [*[filler] * before, assembler.jump("end"), *[filler] * after, "end", assembler.leave()]
    code = assemble(items)
    assert len(code) == (before + after + 2) * assembler.SIZE
    (offset,) = struct.unpack_from("=h", code, before * assembler.SIZE + 2)
    assert offset == after


@pytest.mark.parametrize(
    "items",
    [
        [assembler.jump("nowhere")],
        ["twice", assembler.leave(), "twice"],
        [assembler.move(11, R0)],
        [assembler.load(assembler.WORD, R0, R1, 40_000)],
        [assembler.move_number(R0, 1 << 31)],
    ],
    ids=["no label", "label twice", "register", "offset", "immediate"],
)
def test_error(items: list[assembler.Item]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        assemble(items)


class Machine:
    """Runs the program for one socket. Only what it uses; addresses are small numbers."""

    SOCKET, VALUE, STACK = 1 << 20, 1 << 21, 1 << 22

    def __init__(self, cookie: int, state: int, entries: dict[int, int], answer: int) -> None:
        self.cookie, self.state, self.entries, self.answer = cookie, state, entries, answer
        self.destroyed = 0
        self.stack = 0

    def run(self, code: bytes, sock: int) -> int:
        registers = [0] * 11
        registers[R1], registers[assembler.FRAME] = 1, self.STACK
        position = 0
        for _step in range(100):
            opcode, pair, offset, number = struct.unpack_from("=BBhi", code, position * 8)
            low, high = pair & 15, pair >> 4
            to, source = (low, high) if sys.byteorder == "little" else (high, low)
            position += 1
            if opcode == 0x95:
                return registers[R0]
            if opcode in (0x79, 0x71, 0x61):
                registers[to] = self.read(registers[source] + offset, sock)
            elif opcode == 0x7B:
                assert registers[to] + offset == self.STACK - 8
                self.stack = registers[source]
            elif opcode in (0x63, 0x62):
                assert registers[to] + offset == self.VALUE
                self.entries[self.cookie] = registers[source] if opcode == 0x63 else number
            elif opcode == 0xBF:
                registers[to] = registers[source]
            elif opcode == 0xB7:
                registers[to] = number
            elif opcode == 0x07:
                registers[to] += number
            elif opcode == 0x18:
                assert (source, number) == (1, 5)
                position += 1
            elif opcode == 0x15:
                position += offset if registers[to] == number else 0
            elif opcode == 0x85:
                registers[R0] = self.call(source, number, registers)
            else:
                raise AssertionError(f"opcode {opcode:#x}")
        raise AssertionError("it does not end")

    def read(self, address: int, sock: int) -> int:
        values = {
            1 + 8: sock,
            self.SOCKET + TYPES.cookie: self.cookie,
            self.SOCKET + TYPES.state: self.state,
            self.VALUE: self.entries.get(self.cookie, 0),
        }
        return values[address]

    def call(self, source: int, number: int, registers: list[int]) -> int:
        if source == 2:
            assert (number, registers[R1]) == (TYPES.kfunc, self.SOCKET)
            self.destroyed += 1
            return self.answer
        assert (number, registers[R2]) == (1, self.STACK - 8)
        return self.VALUE if self.stack in self.entries else 0


PROGRAM = socket_destroy.assemble_program(TYPES, 5)


@given(
    cookie=st.integers(1, 1 << 63),
    state=st.integers(1, 13),
    others=st.sets(st.integers(1, 1 << 63)),
    selected=st.booleans(),
    answer=st.sampled_from([0, -2, -95]),
)
def test_program(cookie: int, state: int, others: set[int], selected: bool, answer: int) -> None:
    """It destroys a socket if and only if its cookie is selected and it is a full socket."""
    entries = dict.fromkeys(others - {cookie}, UNSEEN)
    untouched = dict(entries)
    if selected:
        entries[cookie] = UNSEEN
    machine = Machine(cookie, state, entries, answer)
    assert machine.run(PROGRAM, Machine.SOCKET) == 0
    full = state not in (6, 12)
    assert machine.destroyed == (selected and full)
    if selected:
        assert entries.pop(cookie) == (answer if full else NOT_FULL)
    assert entries == untouched


def test_program_destroys_a_socket_once() -> None:
    machine = Machine(9, 1, {9: UNSEEN}, 0)
    machine.run(PROGRAM, Machine.SOCKET)
    machine.answer = -2
    machine.run(PROGRAM, Machine.SOCKET)
    assert (machine.destroyed, machine.entries) == (1, {9: 0})


def test_program_after_the_last_socket() -> None:
    machine = Machine(9, 1, {9: UNSEEN}, 0)
    assert machine.run(PROGRAM, 0) == 0
    assert (machine.destroyed, machine.entries) == (0, {9: UNSEEN})


@pytest.mark.parametrize(
    ("machine", "pointer_size", "number"),
    [
        ("x86_64", 8, 321),
        ("aarch64", 8, 280),
        ("s390x", 8, 351),
        ("ppc64le", 8, 361),
        ("riscv64", 8, 280),
        ("x86_64", 4, None),
        ("armv7l", 4, None),
        ("mips64", 8, None),
    ],
)
def testnumber_of_the_system_call(machine: str, pointer_size: int, number: int | None) -> None:
    assert syscalls.number_of(machine, pointer_size) == number
