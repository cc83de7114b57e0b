# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Errors, and the warnings and failures that results report, as typed values.

Errors are exceptions. Each carries values; ``messages.describe`` turns them into a sentence.

- SocketsError
  + InputError: an invalid value in a selector, policy or option
  + PolicyErrors: an invalid policy, with an InputError for each problem
  + NetlinkError: the kernel returned an errno
  + NetlinkTimeout: the kernel did not reply in time
  + MalformedMessage: the kernel sent bytes that do not match its headers
  + MalformedBtf: the kernel's description of its types is invalid
  + DumpInterrupted: every attempt at a dump was interrupted
  + HandlerMissing: the kernel has no diag handler for a protocol
  + BytecodeTooLong: a filter exceeds the size of a netlink attribute
  + NamespaceNotFound: a network namespace does not exist
  + NamespaceDenied: a network namespace cannot be entered or inspected
  + ProtectFileError: a file of the protect directory is invalid
  + UntrustedPath: others than the trusted users may change a file
  + EngineUnavailable: the requested engine does not work on this host
  + NotExpressible: a packet filter cannot express a part of a policy
  + PackageMissing: a Python package of the agent cannot be imported
  + DirectoryUnusable: a directory of the agent does not exist, or cannot be written
  + LibraryFailed: a library raised an error of its own
  + AgentUnreachable: a request to the agent failed
  + AgentRefused: the agent refused a request
  + OtherPolicyOnTrial: the policy to confirm is not the one on trial

Warnings and failures are plain values beside the data of a result: PolicyWarning and the types
after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Union

PathStep = Union[str, int]


class SocketsError(Exception):
    """Base class of all errors that the core raises deliberately."""


class InputError(SocketsError):
    """An invalid value. Raised when a selector, policy, option or resume token is parsed.

    path: the keys and list indexes of the value, outermost first. value: as given. problem,
    allowed: phrases that name neither the path nor the value. allowed is '' if the problem says
    what to write.
    """

    def __init__(self, path: Sequence[PathStep], value: object, problem: str, allowed: str) -> None:
        super().__init__(tuple(path), value, problem, allowed)
        self.path = tuple(path)
        self.value = value
        self.problem = problem
        self.allowed = allowed

    def with_hint(self, allowed: str) -> InputError:
        """The same error, with another phrase for valid values."""
        return InputError(self.path, self.value, self.problem, allowed)


class PolicyErrors(SocketsError):
    """An invalid policy. Raised when a policy is parsed.

    errors: all problems of the document.
    """

    def __init__(self, errors: Sequence[InputError]) -> None:
        super().__init__(tuple(errors))
        self.errors = tuple(errors)


class PolicyWarning(NamedTuple):
    """A valid part of a policy that is probably a mistake. Returned by the lint of a policy.

    path: as in InputError. problem, remedy: phrases without the path.
    """

    path: tuple[PathStep, ...]
    problem: str
    remedy: str


class NetlinkError(SocketsError):
    """The kernel returned an errno. Raised by every operation over netlink.

    operation: a verb phrase, such as `list tcp sockets`. errno: positive.
    """

    def __init__(self, operation: str, errno: int) -> None:
        super().__init__(operation, errno)
        self.operation = operation
        self.errno = errno


class NetlinkTimeout(SocketsError):
    """The kernel did not complete its reply in time. Raised by every operation over netlink.

    operation: as in NetlinkError. seconds: the timeout.
    """

    def __init__(self, operation: str, seconds: float) -> None:
        super().__init__(operation, seconds)
        self.operation = operation
        self.seconds = seconds


class MalformedMessage(SocketsError):
    """A message whose bytes do not match its headers. Raised when a message is decoded.

    message: a phrase such as `a link message`. detail: the sizes or fields that do not fit.
    """

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message, detail)
        self.message = message
        self.detail = detail


class MalformedBtf(SocketsError):
    """The kernel's description of its types (BTF) is invalid. Raised when it is parsed.

    detail: a phrase, such as `its sections end after the file`.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class DumpInterrupted(SocketsError):
    """Every attempt at a dump was interrupted. Raised by dumps over netlink.

    The kernel's tables changed (NLM_F_DUMP_INTR), or messages were dropped. operation: as in
    NetlinkError. attempts: the number of dumps.
    """

    def __init__(self, operation: str, attempts: int) -> None:
        super().__init__(operation, attempts)
        self.operation = operation
        self.attempts = attempts


class HandlerMissing(SocketsError):
    """The kernel has no socket diag handler for a protocol. Raised by dumps of sockets.

    Such a dump ends with ENOENT. protocol: a name of constants.PROTOCOLS.
    """

    def __init__(self, protocol: str) -> None:
        super().__init__(protocol)
        self.protocol = protocol


class BytecodeTooLong(SocketsError):
    """A filter exceeds one netlink attribute or a u16 jump. Raised when a filter is assembled.

    length, limit: bytes.
    """

    def __init__(self, length: int, limit: int) -> None:
        super().__init__(length, limit)
        self.length = length
        self.limit = limit


class NamespaceNotFound(SocketsError):
    """A network namespace does not exist. Raised when one is resolved or entered.

    name: as the user calls it, or the path of a namespace or directory.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class NamespaceDenied(SocketsError):
    """A namespace exists, but may not be entered or inspected. Raised as NamespaceNotFound.

    name: as in NamespaceNotFound. errno: positive.
    """

    def __init__(self, name: str, errno: int) -> None:
        super().__init__(name, errno)
        self.name = name
        self.errno = errno


class ProtectFileError(SocketsError):
    """A file of the protect directory is invalid. Raised when the guard is prepared.

    Without it nothing may be destroyed. file: its path. problem, allowed: as in InputError.
    """

    def __init__(self, file: str, problem: str, allowed: str) -> None:
        super().__init__(file, problem, allowed)
        self.file = file
        self.problem = problem
        self.allowed = allowed


class UntrustedPath(SocketsError):
    """Users other than the trusted ones may change a file. Raised when it is opened.

    file: as given. place: the file, or the directory on its path, that is not trusted. problem:
    `owner`, `writable`, `type` (no regular file) or `links` (it has another hard link). mode, uid:
    of the place, as in stat(2).
    """

    def __init__(self, file: str, place: str, problem: str, mode: int, uid: int) -> None:
        super().__init__(file, place, problem, mode, uid)
        self.file = file
        self.place = place
        self.problem = problem
        self.mode = mode
        self.uid = uid


class EngineUnavailable(SocketsError):
    """The requested engine does not work on this host. Raised when engines are chosen.

    engine: its name. reason: a phrase.
    """

    def __init__(self, engine: str, reason: str) -> None:
        super().__init__(engine, reason)
        self.engine = engine
        self.reason = reason


class NotExpressible(SocketsError):
    """A packet filter cannot express a part of a policy.

    place: the rule, or the protection. key: what cannot be expressed. reason: why, as a clause.
    """

    def __init__(self, place: str, key: str, reason: str) -> None:
        super().__init__(place, key, reason)
        self.place = place
        self.key = key
        self.reason = reason


class PackageMissing(SocketsError):
    """A Python package of the agent cannot be imported. Raised when the agent subscribes.

    package: its name. purpose: a verb phrase, such as `receives rtnetlink events`. consequence: a
    sentence without the full stop. reason: the text of the ImportError.
    """

    def __init__(self, package: str, purpose: str, consequence: str, reason: str) -> None:
        super().__init__(package, purpose, consequence, reason)
        self.package = package
        self.purpose = purpose
        self.consequence = consequence
        self.reason = reason


class DirectoryUnusable(SocketsError):
    """A directory of the agent does not exist, or cannot be written. Raised by `socket-agent run`.

    directory: its path. purpose: a noun phrase for its content. option: the command line option
    that names it. errno: positive.
    """

    def __init__(self, directory: str, purpose: str, option: str, errno: int) -> None:
        super().__init__(directory, purpose, option, errno)
        self.directory = directory
        self.purpose = purpose
        self.option = option
        self.errno = errno


class LibraryFailed(SocketsError):
    """A library raised an exception other than OSError.

    library: its name. operation: a verb phrase, such as `receive rtnetlink events`. reason: type
    and text of the exception.
    """

    def __init__(self, library: str, operation: str, reason: str) -> None:
        super().__init__(library, operation, reason)
        self.library = library
        self.operation = operation
        self.reason = reason


@contextmanager
def errors_of_library(library: str, operation: str) -> Iterator[None]:
    """Raise LibraryFailed in place of any exception of a library. OSError passes.

    Libraries raise what they do not document: pyroute2 0.9.7 raises KeyError where bind(2) fails.
    """
    try:
        yield
    except (SocketsError, OSError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:  # also asyncio.CancelledError
        reason = f"{type(error).__name__}: {error}"
        raise LibraryFailed(library, operation, reason) from error


class AgentUnreachable(SocketsError):
    """A request to the agent failed: no permission, or no agent. Raised by `socket-agent`.

    operation: a verb phrase, such as `pause the agent`. directory: the agent's runtime directory.
    errno: positive. group: the group whose members have permission; None: unknown.
    """

    def __init__(self, operation: str, directory: str, errno: int, group: str | None) -> None:
        super().__init__(operation, directory, errno, group)
        self.operation = operation
        self.directory = directory
        self.errno = errno
        self.group = group


class AgentRefused(SocketsError):
    """The agent refused a request. Raised by `socket-agent`.

    operation: as in AgentUnreachable. error: a name of agent.protocol.ERRORS. detail: a sentence of
    the agent, or ''.
    """

    def __init__(self, operation: str, error: str, detail: str) -> None:
        super().__init__(operation, error, detail)
        self.operation = operation
        self.error = error
        self.detail = detail


class OtherPolicyOnTrial(SocketsError):
    """The policy to confirm is not the one on trial. Raised by `socket-agent confirm --digest`.

    on_trial, given: digests. on_trial is '' if it is unknown.
    """

    def __init__(self, on_trial: str, given: str) -> None:
        super().__init__(on_trial, given)
        self.on_trial = on_trial
        self.given = given


# Warnings and failures that a result reports beside its data.


class ProtocolUnlisted(NamedTuple):
    """A protocol that the selector admits, but that this kernel cannot list."""

    protocol: str


class OwnersUnreadable(NamedTuple):
    """Sockets were protected because the caller cannot read which processes hold them.

    sockets: the number of sockets.
    """

    sockets: int


class Absent(NamedTuple):
    """A part of a selector names something that does not exist, so it cannot match.

    path: as in InputError. value: the name as given. problem, remedy: phrases without them.
    """

    path: tuple[PathStep, ...]
    value: object
    problem: str
    remedy: str


class PortsShared(NamedTuple):
    """Sockets that were disconnected although other sockets share their port.

    sockets: the number of sockets.
    """

    sockets: int


class InterfacesMissing(NamedTuple):
    """Interfaces that rules name and that no namespace has, as (interface, rule).

    existing: the names of the interfaces that there are.
    """

    interfaces: tuple[tuple[str, str], ...]
    existing: tuple[str, ...] = ()


class PacketMarks(NamedTuple):
    """Namespaces where `rerouted` is unknown: rules match marks that the packet filter may set."""

    namespaces: tuple[str, ...]


class ViolationsUntracked(NamedTuple):
    """More violations than holds are tracked for; the others were skipped.

    violations: the number of skipped ones.
    """

    violations: int


class SocketsNotDestroyed(NamedTuple):
    """Selected sockets that should have been destroyed and were not.

    outcomes: how often each outcome occurred. matched: how many sockets were selected.
    """

    outcomes: Mapping[str, int]
    matched: int


class TooManySockets(NamedTuple):
    """More sockets were selected than max_sockets allows.

    number, share: the limit; one of them is set. population: the number of unprotected sockets
    that share applies to. destroyed: how many an earlier step of the same drain destroyed.
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


class BudgetExcess(NamedTuple):
    """More violations than the policy's limits allow to destroy, of one rule and user or of all.

    due: sockets to destroy. max_sockets, per_ms: the limit. rule, uid: None for all rules and
    users; uid also for sockets without an owner. user: the name of uid.
    """

    due: int
    max_sockets: int
    per_ms: int
    rule: str | None = None
    uid: int | None = None
    user: str | None = None


class OverBudget(NamedTuple):
    """More violations than the policy's limits allow to destroy.

    on_excess: of the limits. destroyed: how many sockets were destroyed nevertheless; None if the
    policy only reports.
    """

    exceeded: tuple[BudgetExcess, ...]
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
    Absent,
    PortsShared,
    InterfacesMissing,
    PacketMarks,
    ViolationsUntracked,
    OverBudget,
    PolicyWarning,
]
Failure = Union[
    SocketsNotDestroyed, TooManySockets, NewConnections, OverBudget, EvaluationIncomplete
]
