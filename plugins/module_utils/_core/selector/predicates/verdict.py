# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on verdicts: `stuck`, `stranded` and `superseded`, and their parsers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ... import values
from ...errors import Absent, InputError
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
from .socket import WITHOUT_CLOCKS, absent_interface

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

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        for requested in self.verdicts:
            for name in sorted(requested.to or ()):
                if snapshot.interface_index(name) is None:
                    # Beside the verdict, whose path ends with `verdict` or an index under it.
                    last = len(requested.path) - 1 - requested.path[::-1].index("verdict")
                    at = (*requested.path[:last], "to")
                    yield absent_interface(at, name, snapshot)

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
# `close_wait:10m`, `close_wait > 10m`, `rerouted to wg0`.
_VERDICT_AND_MORE = re.compile(r"\s*([\w-]+?)\s*(?:[:=]|>=?|\s(?:for|to|since)\s|\s)\s*([\w.]+)\s*")


def parse_stuck(value: object, path: Path, names: Names) -> StuckIs:  # noqa: ARG001
    def read(item: object, at: Path) -> list[StuckFor]:
        if not isinstance(item, Mapping):
            return [StuckFor(_verdict(item, at, STUCK), None)]
        _check_keys(item, at, ("verdict", "for"), STUCK_ALLOWED, STUCK)
        return [
            StuckFor(name, _for_ms(item["for"], (*at, "for"), name) if "for" in item else None)
            for _where, name in _verdicts(item, at, STUCK, STUCK_ALLOWED)
        ]

    found = values.each(value, path, STUCK_ALLOWED, read)
    return StuckIs(path, value, [each for _at, _item, several in found for each in several])


def _for_ms(value: object, path: Path, name: str) -> int:
    for_ms = values.parse_minimum_ms(value, path, low_ms=0, high_ms=CLOCK_MAX_MS)
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
    def read(item: object, at: Path) -> list[StrandedBy]:
        if not isinstance(item, Mapping):
            return [StrandedBy(at, item, _verdict(item, at, STRANDED), None)]
        if "for" in item:
            raise InputError(
                (*at, "for"),
                item["for"],
                "the kernel does not report since when a connection is stranded",
                "no for with stranded; in a policy, use hold of the rule",
            )
        _check_keys(item, at, ("verdict", "to"), STRANDED_ALLOWED, STRANDED)
        return [
            StrandedBy(
                where,
                item,
                name,
                _interfaces(item["to"], (*at, "to"), name) if "to" in item else None,
            )
            for where, name in _verdicts(item, at, STRANDED, STRANDED_ALLOWED)
        ]

    found = values.each(value, path, STRANDED_ALLOWED, read)
    return StrandedIs(path, value, [each for _at, _item, several in found for each in several])


def _interfaces(value: object, path: Path, name: str) -> frozenset[str]:
    if name != REROUTED:
        raise InputError(path, value, f"no key of {name}", f"to with verdict: {REROUTED} alone")
    return frozenset(parse_device(item, at) for at, item in values.items(value, path, _INTERFACES))


def parse_superseded(value: object, path: Path, names: Names) -> SupersededAfter:  # noqa: ARG001
    if not isinstance(value, Mapping):
        hint = SUPERSEDED_ALLOWED
        if isinstance(value, (str, int)) and not isinstance(value, bool):
            hint = f"{{silent_for: {value}}}"
        raise InputError(path, value, values.describe_type(value), hint)
    _check_keys(value, path, ("silent_for",), SUPERSEDED_ALLOWED, {})
    if "silent_for" not in value:
        raise InputError(path, value, "without silent_for", SUPERSEDED_ALLOWED)
    at = (*path, "silent_for")
    silent = values.parse_minimum_ms(value["silent_for"], at, low_ms=1, high_ms=CLOCK_MAX_MS)
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
    key = "stuck" if known is STUCK else "stranded"
    other, others = ("stranded", STRANDED) if known is STUCK else ("stuck", STUCK)
    every = f"[{', '.join(known)}]"
    if value is True:
        raise InputError(path, value, "a boolean", every)
    try:
        return values.choice(
            value, path, known, "verdict", hints={"all": every, "any": every, "true": every}
        )
    except InputError:
        if isinstance(value, str) and values.spelled(value, others):
            problem = f"no such verdict (it belongs to the key {other})"
            raise InputError(path, value, problem, "") from None
        hint = verdict_hint(value, known, key)
        if hint is not None:
            raise InputError(path, value, "no such verdict", hint) from None
        raise


def verdict_hint(value: object, known: Mapping[str, str], key: str) -> str | None:
    """The form to write instead of `close_wait:10m` or `{close_wait: 10m}`; None: unrecognised."""
    word: object = None
    rest: object = None
    if isinstance(value, Mapping) and len(value) == 1:
        ((word, rest),) = value.items()
    elif isinstance(value, str):
        found = _VERDICT_AND_MORE.fullmatch(value)
        word, rest = (None, None) if found is None else found.groups()
    name = values.spelled(word, known) if isinstance(word, str) else None
    if name is None or not isinstance(rest, (str, int)) or isinstance(rest, bool):
        return None
    return f"{{verdict: {name}, {f'for: {rest}' if key == 'stuck' else f'to: [{rest}]'}}}"


_SYNONYMS = {
    **dict.fromkeys(("name", "state", "is"), ("verdict",)),
    **dict.fromkeys(("since", "duration", "time", "longer_than", "min", "hold"), ("for",)),
    **dict.fromkeys(("interface", "interfaces", "via", "dev", "iface"), ("to",)),
    **dict.fromkeys(("silent", "after", "idle"), ("silent_for",)),
}


def _check_keys(
    item: Mapping[object, object],
    path: Path,
    known: tuple[str, ...],
    allowed: str,
    verdicts: Mapping[str, str],
) -> None:
    if not item:
        raise InputError(path, {}, "an empty mapping", allowed)
    for key, value in item.items():
        if key in known:
            continue
        hint = verdict_hint(item, verdicts, "stuck" if verdicts is STUCK else "stranded")
        if hint is not None:
            raise InputError(path, dict(item), "a verdict as a key", hint)
        near = {word: keys for word, keys in _SYNONYMS.items() if keys[0] in known}
        raise values.no_such(
            (*path, str(key)), value, "no such key", str(key), known, allowed, near
        )
