# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON Schema and the parser accept the same numbers, words and keys.

Draft 7 does not distinguish 1.0 from 1, and templates that divide produce 1.0. Both accept it.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.destroy.engines.registry import NAMES
from linuxnet_sockets.netlink import constants
from linuxnet_sockets.policy.model import (
    ACTIONS,
    MAX_DURATION_MS,
    MAX_SOCKETS,
    MIN_PER_MS,
    MODES,
    ON_EXCESS,
    SCOPES,
)
from linuxnet_sockets.selector.predicates.numeric import QUANTITIES
from linuxnet_sockets.selector.predicates.socket import STATES_BY_NAME
from linuxnet_sockets.selector.predicates.verdict import CLOCK_MAX_MS
from linuxnet_sockets.values import MAX_DURATION_US, MAX_INTEGER, PORT_MAX, UID_MAX
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.policy_documents import document
from tests.unit.policy.schema.test_policy import VALID, by_parser, by_schema, places, with_value

HERE = ("rules", 0)
_MATCH = {"state": "all", "protocol": "tcp"}
WHOLE = document({"name": "a-rule", "match": _MATCH, "action": "report"})

# Paths of whole numbers, with their bounds.
WHOLE_NUMBERS: dict[tuple[Any, ...], tuple[int, int]] = {
    ("version",): (1, 1),
    ("limits", "max_sockets"): (1, MAX_SOCKETS),
    (*HERE, "match", "local_port"): (0, PORT_MAX),
    (*HERE, "match", "remote_port"): (0, PORT_MAX),
    (*HERE, "match", "mark"): (0, 2**32 - 1),
    (*HERE, "match", "user"): (0, UID_MAX),
    (*HERE, "match", "pid"): (1, 2**22),
    **{
        (*HERE, "match", name): (0, MAX_INTEGER)
        for name, quantity in QUANTITIES.items()
        if quantity.unit != "duration"
    },
}
# Paths of durations, with their bounds and resolution in microseconds.
DURATIONS: dict[tuple[Any, ...], tuple[int, int, int]] = {
    ("limits", "per"): (MIN_PER_MS * 1000, MAX_DURATION_MS * 1000, 1000),
    (*HERE, "hold"): (0, MAX_DURATION_MS * 1000, 1000),
    (*HERE, "match", "idle"): (1000, CLOCK_MAX_MS * 1000, 1000),
    (*HERE, "match", "stuck"): (0, CLOCK_MAX_MS * 1000, 1000),
    (*HERE, "match", "superseded"): (1000, CLOCK_MAX_MS * 1000, 1000),
    **{
        (*HERE, "match", name): (0, MAX_DURATION_US, 1)
        for name, quantity in QUANTITIES.items()
        if quantity.unit == "duration"
    },
}
# By key: the mapping around the value.
AROUND = {
    "stuck": lambda value: {"verdict": "close_wait", "for": value},
    "superseded": lambda value: {"silent_for": value},
}


def with_number(path: tuple[Any, ...], number: object) -> Any:
    around = AROUND.get(path[-1], lambda value: value)
    whole = WHOLE
    if path[-1] == "superseded":
        whole = with_value(whole, (*HERE, "match", "local_port"), 5000)
    return with_value(whole, path, around(number))


def agreed(value: Any) -> bool:
    valid = by_parser(value)
    assert by_schema(value) is valid, value
    return valid


def test_bounds_are_valid() -> None:
    assert agreed(WHOLE)
    for path, (low, high) in WHOLE_NUMBERS.items():
        for number in (low, high):
            assert agreed(with_number(path, number)), path
    for path, (low, _high, step) in DURATIONS.items():
        assert agreed(with_number(path, max(low, step) / 1_000_000)), path


NUMBERS = st.one_of(
    st.integers(-10, 10),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 2**64).map(float),
    st.booleans(),
)


@pytest.mark.parametrize("path", WHOLE_NUMBERS, ids=lambda path: path[-1])
@given(data=st.data())
def test_whole_numbers(path: tuple[Any, ...], data: st.DataObject) -> None:
    low, high = WHOLE_NUMBERS[path]
    near = st.sampled_from([low, high]).flatmap(lambda bound: st.integers(bound - 2, bound + 2))
    number = data.draw(st.one_of(NUMBERS, near, near.map(float), near.map(lambda each: each + 0.5)))
    valid = agreed(with_number(path, number))
    assert valid is (
        not isinstance(number, bool) and number == int(number) and low <= number <= high
    )


@pytest.mark.parametrize("path", DURATIONS, ids=lambda path: path[-1])
@given(data=st.data())
def test_durations(path: tuple[Any, ...], data: st.DataObject) -> None:
    """Multiples of the resolution; the schema cannot check finer numbers."""
    *bounds, step = DURATIONS[path]
    low, high = (bound // step for bound in bounds)
    near = st.sampled_from([low, high]).flatmap(lambda bound: st.integers(bound - 2, bound + 2))
    units = data.draw(st.one_of(near, st.integers(-10, 10), st.integers(-(10**12), 10**16)))
    in_a_second = 1_000_000 // step
    number = data.draw(st.sampled_from([units / in_a_second, units // in_a_second]))
    valid = agreed(with_number(path, number))
    assert valid is (low <= round(number * in_a_second) <= high)


# Words and keys.

WORDS: list[tuple[tuple[Any, ...], Any]] = [
    (("mode",), MODES),
    (("engine",), NAMES),
    (("limits", "on_excess"), ON_EXCESS),
    (("limits", "scope"), SCOPES),
    ((*HERE, "action"), ACTIONS),
    ((*HERE, "match", "protocol"), constants.PROTOCOLS),
    ((*HERE, "match", "family"), constants.FAMILIES),
    ((*HERE, "match", "state"), STATES_BY_NAME),
    ((*HERE, "match", "stuck"), STUCK),
    ((*HERE, "match", "stranded"), STRANDED),
    ((*HERE, "while", "is"), ("present", "up")),
]
# Other spellings of a character, and characters that lower() maps to it.
LIKE = {"k": "\N{KELVIN SIGN}", "s": "\N{LATIN SMALL LETTER LONG S}", "_": "-", "-": "_"}


@st.composite
def written(draw: st.DrawFn, word: str) -> str:
    characters = [
        draw(st.sampled_from([each, each, each.upper(), LIKE.get(each, each)])) for each in word
    ]
    around = st.sampled_from(
        ["", "", " ", "\t", "\n", "\N{NO-BREAK SPACE}", "\N{ZERO WIDTH SPACE}"]
    )
    return draw(around) + "".join(characters) + draw(around)


@settings(max_examples=400)
@given(st.sampled_from([(path, word) for path, words in WORDS for word in words]), st.data())
def test_choices(one: tuple[tuple[Any, ...], str], data: st.DataObject) -> None:
    path, word = one
    value = WHOLE
    if path[-1] == "protocol":
        # Not every protocol has every state.
        value = with_value(WHOLE, (*HERE, "match"), {"remote": "192.0.2.1"})
    elif path[-1] == "is":
        value = with_value(WHOLE, (*HERE, "while"), {"interface": "wg0"})
    agreed(with_value(value, path, data.draw(written(word))))


@given(VALID, st.data())
def test_keys(value: Any, data: st.DataObject) -> None:
    """A key in another spelling, alone or besides the right one."""
    mappings = []
    for path in places(value):
        found = value
        for step in path:
            found = found[step]
        if isinstance(found, dict):
            mappings.append((path, found))
    path, found = data.draw(st.sampled_from(mappings))
    key = data.draw(st.sampled_from(sorted(found)))
    other = data.draw(written(key))
    changed = {**found, other: found[key]}
    if data.draw(st.booleans()) and other != key:
        del changed[key]
    agreed(with_value(value, path, changed))
