# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: kernel filters as trees, before they become bytecode.

A filter here holds conjunctions, disjunctions and single conditions, negations only on the last.
So one that is too long for a netlink attribute can be split into several whose union is the same,
or made to accept more than it should: every match is checked again in Python.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from ..netlink import bytecode

# Beyond so many dumps the kernel's filter costs more than it saves.
MAX_PROGRAMS = 8
_JUMP = len(bytecode.REJECT)


@dataclass(frozen=True)
class Condition:
    """One block of bytecode."""

    block: bytes


@dataclass(frozen=True)
class AllOf:
    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class AnyOf:
    parts: tuple[Filter, ...]


Filter = Union[Condition, AllOf, AnyOf]

ACCEPT = AllOf(())
REJECT = AnyOf(())
# IPv4's sockets, and v4-mapped ones.
_OF_FOUR = Condition(bytecode.src_host(socket.AF_INET, 0, bytes(4)))


def all_of(filters: Iterable[Filter]) -> Filter:
    parts: list[Filter] = []
    for each in filters:
        if isinstance(each, AllOf):
            parts += each.parts
        elif each == REJECT:
            return REJECT
        else:
            parts.append(each)
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def any_of(filters: Iterable[Filter]) -> Filter:
    parts: list[Filter] = []
    for each in filters:
        if isinstance(each, AnyOf):
            parts += each.parts
        elif each == ACCEPT:
            return ACCEPT
        else:
            parts.append(each)
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def negation(filter_: Filter) -> Filter:
    if isinstance(filter_, Condition):
        return Condition(bytecode.negation(filter_.block))
    negated = [negation(part) for part in filter_.parts]
    return any_of(negated) if isinstance(filter_, AllOf) else all_of(negated)


def length(filter_: Filter) -> int:
    """Of its bytecode, in bytes."""
    if isinstance(filter_, Condition):
        return len(filter_.block)
    between = _JUMP if isinstance(filter_, AnyOf) else 0
    parts = filter_.parts
    return sum(map(length, parts)) + between * max(len(parts) - 1, 0)


def assemble(filter_: Filter) -> bytes:
    """Raises BytecodeTooLong."""
    if isinstance(filter_, Condition):
        return filter_.block
    blocks = [assemble(part) for part in filter_.parts]
    if isinstance(filter_, AllOf):
        return bytecode.conjunction(blocks)
    return bytecode.disjunction(blocks)


def programs(filter_: Filter, *, whole: bool = False) -> list[bytes]:
    """Programs of which each accepted socket is accepted by one at least.

    []: nothing can be accepted. [b""]: everything may be. whole: just this filter, in one program;
    raises BytecodeTooLong.
    """
    if filter_ == REJECT:
        return []
    if whole:
        return [assemble(filter_)]
    split = _split(filter_, bytecode.MAX_LENGTH)
    if len(split) > MAX_PROGRAMS:
        return [b""]
    return [assemble(part) for part in split]


def program_of_both(four: Filter, six: Filter) -> bytes | None:
    """One program that accepts at least what the filter of each family accepts of its sockets;
    None: it would be too long."""
    both = four if four == six else any_of((all_of((_OF_FOUR, four)), six))
    return assemble(both) if length(both) <= bytecode.MAX_LENGTH else None


def _split(filter_: Filter, budget: int) -> list[Filter]:
    """Filters that fit the budget and together accept at least what this one accepts."""
    if length(filter_) <= budget:
        return [filter_]
    if isinstance(filter_, AnyOf):
        parts = [piece for part in filter_.parts for piece in _split(part, budget)]
        return [any_of(group) for group in _grouped(parts, budget)]
    if isinstance(filter_, AllOf):
        parts = sorted(filter_.parts, key=length)
        longest = parts.pop()
        rest = all_of(_within(parts, budget // 2))
        return [all_of((rest, piece)) for piece in _split(longest, budget - length(rest))]
    return [ACCEPT]


def _grouped(parts: Sequence[Filter], budget: int) -> list[list[Filter]]:
    groups: list[list[Filter]] = []
    used = budget
    for part in parts:
        used += _JUMP + length(part)
        if used > budget:
            groups.append([])
            used = length(part)
        groups[-1].append(part)
    return groups


def _within(parts: Sequence[Filter], budget: int) -> list[Filter]:
    """As many of the parts of a conjunction, the shortest first, as fit the budget."""
    kept: list[Filter] = []
    for part in parts:
        budget -= length(part)
        if budget < 0:
            break
        kept.append(part)
    return kept
