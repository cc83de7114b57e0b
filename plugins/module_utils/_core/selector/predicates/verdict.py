# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: conditions by verdict: stuck, stranded, superseded."""

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
from ..tree import Possible, Predicate, Target, any_of
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
# The kernel does not tell of their sockets whether they are transparent or free-bound.
_WITHOUT_OPTIONS = frozenset({constants.TIME_WAIT, constants.SYN_RECV})
# The kernel compares each socket with one after the other.
_MOST_ADDRESSES = 64


class StuckFor(NamedTuple):
    """verdict: out of stuck.STUCK. for_ms: at least so long; None: its default."""

    verdict: str
    for_ms: int | None


class StrandedBy(NamedTuple):
    """verdict: out of stranded.STRANDED. to: the interfaces that `rerouted` is asked of; None: any.

    path, value: where it was written.
    """

    path: Path
    value: object
    verdict: str
    to: frozenset[str] | None


class StuckIs(Predicate):
    """Any of these verdicts has held for its time."""

    meaning = _TCP
    extensions = (inet_diag.INFO,)
    cost = 2

    def __init__(self, path: Path, value: object, verdicts: Sequence[StuckFor]) -> None:
        super().__init__(path, value)
        self.verdicts = tuple(verdicts)
        self._states = frozenset().union(*(stuck.STATES[each.verdict] for each in self.verdicts))

    @property
    def silent(self) -> bool:
        """Silence is enough for it, which a pool of idle connections keeps as well."""
        return any(each.verdict == stuck.SILENT for each in self.verdicts)

    @property
    def restricts(self) -> bool:  # type: ignore[override]
        return not self.silent

    def bind(self, snapshot: Snapshot) -> Bound:
        for verdict, for_ms in self.verdicts:
            usual = stuck.DEFAULT_FOR_MS[verdict]
            request_verdict(snapshot, verdict, usual if for_ms is None else min(for_ms, usual))

        def is_stuck(verdicts: StuckFor) -> Test:
            return lambda sock: stuck.evaluate(sock, *verdicts)

        return any_of([is_stuck(each) for each in self.verdicts])

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.meaning
        return known and state in self._states, known


class StrandedIs(Predicate):
    """Any of these verdicts holds; unknown until the look has asked for routes."""

    meaning = frozenset(constants.PROTOCOLS) - {"mptcp"}
    needs = frozenset({Need.ADDRESSES, Need.LINKS, Need.ROUTES, Need.RULES})
    extensions = (inet_diag.TOS, inet_diag.TCLASS)
    cost = 2

    def __init__(self, path: Path, value: object, verdicts: Sequence[StrandedBy]) -> None:
        super().__init__(path, value)
        self.verdicts = tuple(verdicts)

    def bind(self, snapshot: Snapshot) -> Bound:
        def is_stranded(verdict: str, to: frozenset[str] | None) -> Test:
            def test(sock: Socket) -> bool | None:
                routes = snapshot.get(ROUTES)
                return None if routes is None else routes.evaluate(sock, verdict, to)

            return test

        return any_of([is_stranded(each.verdict, each.to) for each in self.verdicts])

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.meaning and state not in _WITHOUT_PEER
        return known and state not in _WITHOUT_OPTIONS, known

    def filters(self, target: Target) -> tuple[Filter, Filter]:
        """A socket whose address some interface holds has not lost it; link-local addresses are
        held by a link, and not by the host."""
        if target.protocol not in self.meaning:
            return kernel_filter.REJECT, kernel_filter.REJECT
        if {each.verdict for each in self.verdicts} != {ADDRESS_GONE}:
            return kernel_filter.ACCEPT, kernel_filter.ACCEPT
        held = [each for each in target.snapshot.local_addresses if not is_link_local(each)]
        if len(held) > _MOST_ADDRESSES:
            return kernel_filter.ACCEPT, kernel_filter.ACCEPT
        accepted = kernel_filter.all_of(_not_from(each, target.family) for each in sorted(held))
        return accepted, kernel_filter.ACCEPT


def _not_from(address: bytes, family: str) -> Filter:
    """The local address is another one; IPv4's are those of v4-mapped sockets too."""
    if len(address) == 16 and family == "inet":
        return kernel_filter.ACCEPT
    number = constants.FAMILIES["inet6" if len(address) == 16 else "inet"]
    block = bytecode.src_host(number, 8 * len(address), address)
    return kernel_filter.negation(Condition(block))


class SupersededAfter(Predicate):
    """Silent for so long while its peer went on elsewhere; unknown until the look has listened."""

    meaning = _TCP
    needs = frozenset({Need.PEERS})
    extensions = (inet_diag.INFO,)
    cost = 2

    def __init__(self, path: Path, value: object, silent_ms: int) -> None:
        super().__init__(path, value)
        self.silent_ms = silent_ms

    def bind(self, snapshot: Snapshot) -> Bound:
        silent_ms = self.silent_ms
        request_verdict(snapshot, SUPERSEDED, min(silent_ms, DEFAULT_SILENT_MS))
        nobody = PeerActivity()

        def test(sock: Socket) -> bool | None:
            peers = snapshot.get(PEERS)
            return (nobody if peers is None else peers).evaluate(sock, silent_ms)

        return test

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        known = protocol in self.meaning and state not in WITHOUT_CLOCKS
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
    verdicts: list[StuckFor] = []
    for at, item in values.items(value, path, STUCK_ALLOWED):
        if not isinstance(item, Mapping):
            verdicts.append(StuckFor(_verdict(item, at, STUCK), None))
            continue
        _check_keys(item, at, ("verdict", "for"), STUCK_ALLOWED)
        for _where, name in _verdicts(item, at, STUCK, STUCK_ALLOWED):
            least = _least(item["for"], (*at, "for"), name) if "for" in item else None
            verdicts.append(StuckFor(name, least))
    return StuckIs(path, value, verdicts)


def _least(value: object, path: Path, name: str) -> int:
    least = values.parse_duration_ms(value, path, high_ms=CLOCK_MAX_MS)
    most = PROVABLE_MS.get(name)
    if most is not None and least > most:
        minutes = most // 60_000
        raise InputError(
            path,
            value,
            f"longer than the kernel proves for {name}: its backoff is not counted any further",
            f"at most {minutes}m",
        )
    return least


def parse_stranded(value: object, path: Path, names: Names) -> StrandedIs:  # noqa: ARG001
    verdicts: list[StrandedBy] = []
    for at, item in values.items(value, path, STRANDED_ALLOWED):
        if not isinstance(item, Mapping):
            verdicts.append(StrandedBy(at, item, _verdict(item, at, STRANDED), None))
            continue
        if "for" in item:
            raise InputError(
                (*at, "for"),
                item["for"],
                "the kernel does not tell since when a connection is stranded",
                "no for here: a policy's hold waits until a rule has held for its time",
            )
        _check_keys(item, at, ("verdict", "to"), STRANDED_ALLOWED)
        for where, name in _verdicts(item, at, STRANDED, STRANDED_ALLOWED):
            to = _interfaces(item["to"], (*at, "to"), name) if "to" in item else None
            verdicts.append(StrandedBy(where, item, name, to))
    return StrandedIs(path, value, verdicts)


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
            problem = f"no such verdict (it is one of the key {key})"
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
