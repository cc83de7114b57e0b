# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Kernel filters as trees, before they are assembled into bytecode.

A filter consists of conjunctions, disjunctions and conditions; only conditions are negated. A
filter that is too long for a netlink attribute is split into several with the same union, or
widened: every match is evaluated again in Python.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Union

from ..netlink import bytecode

# With more dumps the kernel filter costs more than it saves.
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
# Matches IPv4 and v4-mapped sockets.
_IPV4 = Condition(bytecode.src_host(socket.AF_INET, 0, bytes(4)))


def all_of(filters: Iterable[Filter]) -> Filter:
    """Return the simplified conjunction of filters."""
    parts: list[Filter] = []
    for part in filters:
        if isinstance(part, AllOf):
            parts += part.parts
        elif part == REJECT:
            return REJECT
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else AllOf(tuple(parts))


def any_of(filters: Iterable[Filter]) -> Filter:
    """Return the simplified disjunction of filters."""
    parts: list[Filter] = []
    for part in filters:
        if isinstance(part, AnyOf):
            parts += part.parts
        elif part == ACCEPT:
            return ACCEPT
        else:
            parts.append(part)
    return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))


def negation(filter_: Filter) -> Filter:
    """Return the negated filter, with negations only on conditions."""
    if isinstance(filter_, Condition):
        return Condition(bytecode.negation(filter_.block))
    negated = [negation(part) for part in filter_.parts]
    return any_of(negated) if isinstance(filter_, AllOf) else all_of(negated)


def length(filter_: Filter) -> int:
    """The length of the bytecode in bytes."""
    if isinstance(filter_, Condition):
        return len(filter_.block)
    between = _JUMP if isinstance(filter_, AnyOf) else 0
    parts = filter_.parts
    return sum(map(length, parts)) + between * max(len(parts) - 1, 0)


def assemble(filter_: Filter) -> bytes:
    """Return the bytecode of a filter. Raises BytecodeTooLong."""
    if isinstance(filter_, Condition):
        return filter_.block
    blocks = [assemble(part) for part in filter_.parts]
    if isinstance(filter_, AllOf):
        return bytecode.conjunction(blocks)
    return bytecode.disjunction(blocks)


def programs(filter_: Filter, *, whole: bool = False) -> list[bytes]:
    """Return programs that together accept at least the sockets that the filter accepts.

    []: no socket is accepted. [b""]: every socket may be. whole: one program that is exactly the
    filter; raises BytecodeTooLong.
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
    """Return one program for a dump of both families, from the filter of each.

    None: the program would be too long.
    """
    both = four if four == six else any_of((all_of((_IPV4, four)), six))
    return assemble(both) if length(both) <= bytecode.MAX_LENGTH else None


def _split(filter_: Filter, budget: int) -> list[Filter]:
    """Filters of at most budget bytes that together accept at least the same sockets."""
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
    """The shortest parts of a conjunction that fit into budget bytes together."""
    kept: list[Filter] = []
    for part in parts:
        budget -= length(part)
        if budget < 0:
            break
        kept.append(part)
    return kept
