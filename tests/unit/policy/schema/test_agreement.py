# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers, words and keys: the JSON Schema and the parser take and refuse the very same.

To JSON, and so to draft 7, 1.0 and 1 are one number. The schema cannot refuse the one and take the
other, and templates that divide make the one of the other: the parser takes both.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets.netlink import constants
from linuxnet_sockets.policy.model import (
    ACTIONS,
    MAX_DURATION_MS,
    MAX_SOCKETS,
    MIN_PER_MS,
    MODES,
    ON_EXCESS,
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

# Where a number stands, and the bounds that it has.
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
# Bounds in microseconds, and the least that can be said.
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
# By key: what stands around the value.
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
    said = by_parser(value)
    assert by_schema(value) is said, value
    return said


def test_what_the_numbers_stand_in_is_valid() -> None:
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
    said = agreed(with_number(path, number))
    assert said is (
        not isinstance(number, bool) and number == int(number) and low <= number <= high
    )


@pytest.mark.parametrize("path", DURATIONS, ids=lambda path: path[-1])
@given(data=st.data())
def test_durations(path: tuple[Any, ...], data: st.DataObject) -> None:
    """Of numbers that are no finer than what is counted: the schema cannot tell these."""
    *bounds, step = DURATIONS[path]
    low, high = (bound // step for bound in bounds)
    near = st.sampled_from([low, high]).flatmap(lambda bound: st.integers(bound - 2, bound + 2))
    units = data.draw(st.one_of(near, st.integers(-10, 10), st.integers(-(10**12), 10**16)))
    in_a_second = 1_000_000 // step
    number = data.draw(st.sampled_from([units / in_a_second, units // in_a_second]))
    said = agreed(with_number(path, number))
    assert said is (low <= round(number * in_a_second) <= high)


# Words.

WORDS: list[tuple[tuple[Any, ...], Any]] = [
    (("mode",), MODES),
    (("limits", "on_excess"), ON_EXCESS),
    ((*HERE, "action"), ACTIONS),
    ((*HERE, "match", "protocol"), constants.PROTOCOLS),
    ((*HERE, "match", "family"), constants.FAMILIES),
    ((*HERE, "match", "state"), STATES_BY_NAME),
    ((*HERE, "match", "stuck"), STUCK),
    ((*HERE, "match", "stranded"), STRANDED),
    ((*HERE, "while", "is"), ("present", "up")),
]
# What somebody may write for a character, and what Python's lower() makes one of.
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
def test_words(one: tuple[tuple[Any, ...], str], data: st.DataObject) -> None:
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
    """One key is written in another way, with and without the right one beside it."""
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
