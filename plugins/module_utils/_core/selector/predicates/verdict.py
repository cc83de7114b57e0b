# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on verdicts: `stuck`, `stranded` and `superseded`, and their parsers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ... import values
from ...errors import InputError
from ...netlink import bytecode, constants, inet_diag
from ...sockets.needs import Need
from ...values import Names, Path
from ...verdicts import stuck
from ...verdicts.route_state import ROUTES
from ...verdicts.stranded import ADDRESS_GONE, REROUTED, STRANDED, is_link_local
from ...verdicts.stuck import PROVABLE_MS, STUCK
from ...verdicts.superseded import DEFAULT_SILENT_MS, PEERS, SUPERSEDED, PeerActivity
from ...verdicts.verdict import request_verdict
from .. import kernel_filter
from ..kernel_filter import Condition, Filter
from ..tree import FilterContext, Possible, Predicate, any_of
from .address import parse_device
from .socket import WITHOUT_CLOCKS

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound, Test

_TCP = frozenset({"tcp"})
_WITHOUT_PEER = frozenset(
    {constants.LISTENING, constants.CLOSED, constants.BOUND_INACTIVE},
)
# For these states the kernel does not report whether sockets are transparent or free-bound.
_WITHOUT_OPTIONS = frozenset({constants.TIME_WAIT, constants.SYN_RECV})
# The kernel compares each socket with one address after the other.
_MAX_FILTER_ADDRESSES = 64


class StuckFor(NamedTuple):
    """A requested verdict of stuck.STUCK. for_ms: minimum duration; None: its default."""

    verdict: str
    for_ms: int | None


class StrandedBy(NamedTuple):
    """A requested verdict of stranded.STRANDED.

    path, value: where the user wrote it, and what. to: interfaces for `rerouted`; None: any.
    """

    path: Path
    value: object
    verdict: str
    to: frozenset[str] | None


class StuckIs(Predicate):
    """One of the verdicts has been true for its minimum duration."""

    applies_to = _TCP
    extensions = (inet_diag.INFO,)
    cost = 2

    def __init__(self, path: Path, value: object, verdicts: Sequence[StuckFor]) -> None:
        super().__init__(path, value)
        self.verdicts = tuple(verdicts)
        self._states = frozenset().union(
            *(stuck.STATES[requested.verdict] for requested in self.verdicts)
        )

    @property
    def silent(self) -> bool:
        """Whether silence alone makes it true; a pool of idle connections is silent too."""
        return any(verdict == stuck.SILENT for verdict, _for_ms in self.verdicts)

    @property
    def restricts(self) -> bool:  # type: ignore[override]
        return not self.silent

    def bind(self, snapshot: Snapshot) -> Bound:
        for verdict, for_ms in self.verdicts:
            default = stuck.DEFAULT_FOR_MS[verdict]
            request_verdict(snapshot, verdict, default if for_ms is None else min(for_ms, default))

        def is_stuck(verdict: str, for_ms: int | None) -> Test:
            return lambda sock: stuck.evaluate(sock, verdict, for_ms)

        return any_of([is_stuck(verdict, for_ms) for verdict, for_ms in self.verdicts])

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.applies_to
        return known and state in self._states, known


class StrandedIs(Predicate):
    """One of the verdicts is true. Unknown until the route state of the snapshot is loaded."""

    applies_to = frozenset(constants.PROTOCOLS) - {"mptcp"}
    needs = frozenset({Need.ADDRESSES, Need.LINKS, Need.ROUTES, Need.RULES})
    extensions = (inet_diag.TOS, inet_diag.TCLASS)
    cost = 2

    def __init__(self, path: Path, value: object, verdicts: Sequence[StrandedBy]) -> None:
        super().__init__(path, value)
        self.verdicts = tuple(verdicts)

    def bind(self, snapshot: Snapshot) -> Bound:
        requested = tuple((requested.verdict, requested.to) for requested in self.verdicts)

        def test(sock: Socket) -> bool | None:
            routes = snapshot.get(ROUTES)
            return None if routes is None else routes.evaluate_any(sock, requested)

        return test

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.applies_to and state not in _WITHOUT_PEER
        return known and state not in _WITHOUT_OPTIONS, known

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        """For `address_gone` alone: accept only addresses that no interface has.

        Link-local addresses are not filtered, because they belong to a link and not to the host.
        """
        if context.protocol not in self.applies_to:
            return kernel_filter.REJECT, kernel_filter.REJECT
        if {requested.verdict for requested in self.verdicts} != {ADDRESS_GONE}:
            return kernel_filter.ACCEPT, kernel_filter.ACCEPT
        assigned = [
            address for address in context.snapshot.local_addresses if not is_link_local(address)
        ]
        if len(assigned) > _MAX_FILTER_ADDRESSES:
            return kernel_filter.ACCEPT, kernel_filter.ACCEPT
        accepted = kernel_filter.all_of(
            _not_from(address, context.family) for address in sorted(assigned)
        )
        return accepted, kernel_filter.ACCEPT


def _not_from(address: bytes, family: str) -> Filter:
    """A filter for other local addresses; an IPv4 address includes its v4-mapped form."""
    if len(address) == 16 and family == "inet":
        return kernel_filter.ACCEPT
    number = constants.FAMILIES["inet6" if len(address) == 16 else "inet"]
    block = bytecode.src_host(number, 8 * len(address), address)
    return kernel_filter.negation(Condition(block))


class SupersededAfter(Predicate):
    """Superseded after silent_ms. Unknown until the peer activity of the snapshot is loaded."""

    applies_to = _TCP
    needs = frozenset({Need.PEERS})
    extensions = (inet_diag.INFO,)
    cost = 2

    def __init__(self, path: Path, value: object, silent_ms: int) -> None:
        super().__init__(path, value)
        self.silent_ms = silent_ms

    def bind(self, snapshot: Snapshot) -> Bound:
        silent_ms = self.silent_ms
        request_verdict(snapshot, SUPERSEDED, min(silent_ms, DEFAULT_SILENT_MS))
        no_activity = PeerActivity()

        def test(sock: Socket) -> bool | None:
            peers = snapshot.get(PEERS)
            return (no_activity if peers is None else peers).evaluate(sock, silent_ms)

        return test

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.applies_to and state not in WITHOUT_CLOCKS
        return known, known


STUCK_ALLOWED = (
    f"one of: {', '.join(STUCK)}; or {{verdict: NAME, for: DURATION}}; or a list of these"
)
STRANDED_ALLOWED = (
    f"one of: {', '.join(STRANDED)}; or {{verdict: rerouted, to: [INTERFACE, ...]}}; or a list of "
    "these"
)
SUPERSEDED_ALLOWED = "a mapping with the key silent_for, such as {silent_for: 30s}"
# The kernel's clocks of a connection are u32 milliseconds (struct tcp_info).
CLOCK_MAX_MS = 49 * 86_400_000
_INTERFACES = "the name of an interface, or a list of names"


def parse_stuck(value: object, path: Path, names: Names) -> StuckIs:  # noqa: ARG001
    requested: list[StuckFor] = []
    for at, item in values.items(value, path, STUCK_ALLOWED):
        if not isinstance(item, Mapping):
            requested.append(StuckFor(_verdict(item, at, STUCK), None))
            continue
        _check_keys(item, at, ("verdict", "for"), STUCK_ALLOWED)
        for _where, name in _verdicts(item, at, STUCK, STUCK_ALLOWED):
            for_ms = _for_ms(item["for"], (*at, "for"), name) if "for" in item else None
            requested.append(StuckFor(name, for_ms))
    return StuckIs(path, value, requested)


def _for_ms(value: object, path: Path, name: str) -> int:
    for_ms = values.parse_duration_ms(value, path, high_ms=CLOCK_MAX_MS)
    limit = PROVABLE_MS.get(name)
    if limit is not None and for_ms > limit:
        minutes = limit // 60_000
        raise InputError(
            path,
            value,
            f"longer than the kernel can prove for {name}, because it stops counting the backoff",
            f"at most {minutes}m",
        )
    return for_ms


def parse_stranded(value: object, path: Path, names: Names) -> StrandedIs:  # noqa: ARG001
    requested: list[StrandedBy] = []
    for at, item in values.items(value, path, STRANDED_ALLOWED):
        if not isinstance(item, Mapping):
            requested.append(StrandedBy(at, item, _verdict(item, at, STRANDED), None))
            continue
        if "for" in item:
            raise InputError(
                (*at, "for"),
                item["for"],
                "the kernel does not report since when a connection is stranded",
                "no for with stranded; in a policy, use hold of the rule",
            )
        _check_keys(item, at, ("verdict", "to"), STRANDED_ALLOWED)
        for where, name in _verdicts(item, at, STRANDED, STRANDED_ALLOWED):
            to = _interfaces(item["to"], (*at, "to"), name) if "to" in item else None
            requested.append(StrandedBy(where, item, name, to))
    return StrandedIs(path, value, requested)


def _interfaces(value: object, path: Path, name: str) -> frozenset[str]:
    if name != REROUTED:
        raise InputError(path, value, f"no key of {name}", f"to with verdict: {REROUTED} alone")
    return frozenset(parse_device(item, at) for at, item in values.items(value, path, _INTERFACES))


def parse_superseded(value: object, path: Path, names: Names) -> SupersededAfter:  # noqa: ARG001
    if not isinstance(value, Mapping):
        raise InputError(path, value, values.describe_type(value), SUPERSEDED_ALLOWED)
    _check_keys(value, path, ("silent_for",), SUPERSEDED_ALLOWED)
    if "silent_for" not in value:
        raise InputError(path, value, "without silent_for", SUPERSEDED_ALLOWED)
    at = (*path, "silent_for")
    silent = values.parse_duration_ms(value["silent_for"], at, low_ms=1, high_ms=CLOCK_MAX_MS)
    return SupersededAfter(path, value, silent)


def _verdicts(
    item: Mapping[object, object], path: Path, known: Mapping[str, str], allowed: str
) -> Iterator[tuple[Path, str]]:
    if "verdict" not in item:
        raise InputError(path, dict(item), "names no verdict", allowed)
    at = (*path, "verdict")
    for where, name in values.items(item["verdict"], at, allowed):
        yield where, _verdict(name, where, known)


def _verdict(value: object, path: Path, known: Mapping[str, str]) -> str:
    word = value.strip().replace("-", "_") if isinstance(value, str) else value
    try:
        return values.choice(word, path, known, "verdict")
    except InputError as error:
        others = STRANDED if known is STUCK else STUCK
        if isinstance(word, str) and word.lower() in others:
            key = "stranded" if known is STUCK else "stuck"
            problem = f"no such verdict (it belongs to the key {key})"
            raise InputError(path, value, problem, error.allowed) from None
        raise values.error_of_whole(error, value) from None


def _check_keys(
    item: Mapping[object, object], path: Path, known: tuple[str, ...], allowed: str
) -> None:
    if not item:
        raise InputError(path, {}, "an empty mapping", allowed)
    for key, value in item.items():
        if key not in known:
            hint = values.suggestion(key, known) if isinstance(key, str) else ""
            raise InputError((*path, str(key)), value, f"no such key{hint}", allowed)
