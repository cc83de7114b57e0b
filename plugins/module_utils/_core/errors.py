# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Errors, and the warnings and failures that results report, as typed values.

``messages`` turns them into sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Union

PathStep = Union[str, int]


class SocketsError(Exception):
    """Base of every error that the core raises on purpose."""


class InputError(SocketsError):
    """A value that the user gave cannot be taken.

    path: keys and list indexes that lead to the value, outermost first.
    problem, allowed: short phrases without path and value.
    """

    def __init__(self, path: Sequence[PathStep], value: object, problem: str, allowed: str) -> None:
        super().__init__(tuple(path), value, problem, allowed)
        self.path = tuple(path)
        self.value = value
        self.problem = problem
        self.allowed = allowed


class PolicyErrors(SocketsError):
    """A policy that cannot be taken, and everything that is wrong with it."""

    def __init__(self, errors: Sequence[InputError]) -> None:
        super().__init__(tuple(errors))
        self.errors = tuple(errors)


class PolicyWarning(NamedTuple):
    """Something in a policy that is not wrong, but hardly meant; short phrases."""

    path: tuple[PathStep, ...]
    problem: str
    remedy: str


class NetlinkError(SocketsError):
    """The kernel answered an operation with an errno."""

    def __init__(self, operation: str, errno: int) -> None:
        super().__init__(operation, errno)
        self.operation = operation
        self.errno = errno


class NetlinkTimeout(SocketsError):
    """The kernel did not finish its answer in so many seconds."""

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(operation, seconds)
        self.operation = operation
        self.seconds = seconds


class MalformedMessage(SocketsError):
    """Bytes from the kernel that are not what its headers promise."""

    def __init__(self, what: str, detail: str) -> None:
        super().__init__(what, detail)
        self.what = what
        self.detail = detail


class DumpInterrupted(SocketsError):
    """The kernel's tables changed (NLM_F_DUMP_INTR) or overran the buffer during every attempt."""

    def __init__(self, operation: str, attempts: int) -> None:
        super().__init__(operation, attempts)
        self.operation = operation
        self.attempts = attempts


class HandlerMissing(SocketsError):
    """The kernel has no socket diag handler for the protocol (its dump ends with ENOENT)."""

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self.protocol = protocol


class BytecodeTooLong(SocketsError):
    """A filter that does not fit one attribute, or whose jump does not fit its u16."""

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(length, limit)
        self.length = length
        self.limit = limit


class NamespaceNotFound(SocketsError):
    """There is no network namespace of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NamespaceDenied(SocketsError):
    """The network namespace is there, but may not be entered."""

    def __init__(self, name: str, errno: int) -> None:
        super().__init__(name, errno)
        self.name = name
        self.errno = errno


class ProtectFileError(SocketsError):
    """A file of the protect directory cannot be obeyed, so nothing may be destroyed."""

    def __init__(self, file: str, problem: str, allowed: str) -> None:
        super().__init__(file, problem, allowed)
        self.file = file
        self.problem = problem
        self.allowed = allowed


class EngineUnavailable(SocketsError):
    """The engine that was asked for cannot work here."""

    def __init__(self, engine: str, why: str) -> None:
        super().__init__(engine, why)
        self.engine = engine
        self.why = why


class PackageMissing(SocketsError):
    """A Python package that the agent needs cannot be imported."""

    def __init__(self, package: str, purpose: str, why: str) -> None:
        super().__init__(package, purpose, why)
        self.package = package
        self.purpose = purpose
        self.why = why


class AgentOutOfReach(SocketsError):
    """Who asks may not tell the agent something, or there is none to be told.

    operation: what was asked, such as `pause the agent`. place: the agent's directory. group: whose
    members may; None where that cannot be told.
    """

    def __init__(self, operation: str, place: str, errno: int, group: str | None) -> None:
        super().__init__(operation, place, errno, group)
        self.operation = operation
        self.place = place
        self.errno = errno
        self.group = group


# Warnings and failures that a result reports beside its data.


class ProtocolUnlisted(NamedTuple):
    """A protocol that the selector admits, but that this kernel cannot list."""

    protocol: str


class OwnersUnreadable(NamedTuple):
    """So many sockets were protected because the caller cannot read which processes hold them."""

    sockets: int


class InterfacesMissing(NamedTuple):
    """Interfaces that rules name and that no namespace has, as (interface, rule)."""

    interfaces: tuple[tuple[str, str], ...]


class ViolationsUntracked(NamedTuple):
    """So many violations beyond those for which holds are tracked; they were skipped."""

    violations: int


class SocketsNotDestroyed(NamedTuple):
    """Selected sockets that should have been destroyed and were not.

    outcomes: how often each outcome occurred. matched: how many sockets were selected.
    """

    outcomes: Mapping[str, int]
    matched: int


class TooManySockets(NamedTuple):
    """More sockets were selected than max_sockets allows.

    number, share: the limit; one of them is set. population: the unprotected sockets of which
    share allows a part. destroyed: how many an earlier step of the same drain had destroyed.
    """

    selected: int
    number: int | None
    share: float | None
    population: int | None
    destroyed: int = 0


class NewConnections(NamedTuple):
    """Connections that began to match while a drain with ``arrivals: fail`` waited.

    examples: records of the first of them. destroyed: how many the drain had destroyed before.
    """

    connections: int
    examples: tuple[Mapping[str, object], ...]
    destroyed: int = 0


class OverBudget(NamedTuple):
    """More violations than the policy's limits allow to destroy.

    due: sockets to destroy. max_sockets, per_ms, on_excess: the limits. destroyed: how many of
    them were destroyed; None where the policy only reports.
    """

    due: int
    max_sockets: int
    per_ms: int
    on_excess: str
    destroyed: int | None = None


class NotEvaluated(NamedTuple):
    """A namespace, or one rule's sockets in it, that could not be evaluated.

    rule: None for the whole namespace. identity: (device, inode) of the namespace file; None if no
    namespace of that name exists.
    """

    namespace: str
    rule: str | None
    error: SocketsError
    identity: tuple[int, int] | None = None


class EvaluationIncomplete(NamedTuple):
    """The namespaces and rules that a pass could not evaluate."""

    not_evaluated: tuple[NotEvaluated, ...]


ResultWarning = Union[
    ProtocolUnlisted,
    OwnersUnreadable,
    InterfacesMissing,
    ViolationsUntracked,
    OverBudget,
    PolicyWarning,
]
Failure = Union[
    SocketsNotDestroyed, TooManySockets, NewConnections, OverBudget, EvaluationIncomplete
]
