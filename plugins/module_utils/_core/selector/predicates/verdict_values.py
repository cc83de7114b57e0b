# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: how the keys stuck, stranded and superseded are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ... import values
from ...errors import InputError
from ...values import Names, Path
from ...verdicts.stranded import REROUTED, STRANDED
from ...verdicts.stuck import PROVABLE_MS, STUCK
from .address import parse_device
from .verdict import StrandedBy, StrandedIs, StuckFor, StuckIs, SupersededAfter

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
    wanted: list[StuckFor] = []
    for at, item in values.items(value, path, STUCK_ALLOWED):
        if not isinstance(item, Mapping):
            wanted.append(StuckFor(_verdict(item, at, STUCK), None))
            continue
        _check_keys(item, at, ("verdict", "for"), STUCK_ALLOWED)
        for _where, name in _verdicts(item, at, STUCK, STUCK_ALLOWED):
            least = _least(item["for"], (*at, "for"), name) if "for" in item else None
            wanted.append(StuckFor(name, least))
    return StuckIs(path, value, wanted)


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
    wanted: list[StrandedBy] = []
    for at, item in values.items(value, path, STRANDED_ALLOWED):
        if not isinstance(item, Mapping):
            wanted.append(StrandedBy(at, item, _verdict(item, at, STRANDED), None))
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
            wanted.append(StrandedBy(where, item, name, to))
    return StrandedIs(path, value, wanted)


def _interfaces(value: object, path: Path, name: str) -> frozenset[str]:
    if name != REROUTED:
        raise InputError(path, value, f"no key of {name}", f"to with verdict: {REROUTED} alone")
    return frozenset(parse_device(item, at) for at, item in values.items(value, path, _INTERFACES))


def parse_superseded(value: object, path: Path, names: Names) -> SupersededAfter:  # noqa: ARG001
    if not isinstance(value, Mapping):
        raise InputError(path, value, values.kind(value), SUPERSEDED_ALLOWED)
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
        raise values.of_whole(error, value) from None


def _check_keys(
    item: Mapping[object, object], path: Path, known: tuple[str, ...], allowed: str
) -> None:
    if not item:
        raise InputError(path, {}, "an empty mapping", allowed)
    for key, value in item.items():
        if key not in known:
            hint = values.near(key, known) if isinstance(key, str) else ""
            raise InputError((*path, str(key)), value, f"no such key{hint}", allowed)
