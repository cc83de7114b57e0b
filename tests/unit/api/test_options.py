# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of options: accepted and rejected values, and its agreement with the code."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linuxnet_sockets import api
from linuxnet_sockets.api.options import (
    OPERATIONS,
    Kind,
    Option,
    check_option,
    check_options,
)
from linuxnet_sockets.api.summary import GROUP_KEYS
from linuxnet_sockets.destroy.engines.registry import NAMES as ENGINES
from linuxnet_sockets.drain.model import ARRIVALS, UNTIL
from linuxnet_sockets.errors import InputError
from linuxnet_sockets.guard.options import SWITCHES
from linuxnet_sockets.query.record import DETAILS
from linuxnet_sockets.verdicts.stranded import STRANDED
from linuxnet_sockets.verdicts.stuck import STUCK
from tests.support.fake_machine import connection
from tests.unit.api.conftest import Target
from tests.unit.api.test_public_names import imported_by

ALL = {"state": "all"}
POLICY = {"version": 1, "limits": {"max_sockets": 1, "per": "1m"}, "rules": []}

WRONG: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("find", {"namespaces": True}, ("namespaces",)),
    ("find", {"namespaces": {"name": "current"}}, ("namespaces",)),
    ("find", {"namespaces": ["current", None]}, ("namespaces", 1)),
    ("find", {"namespaces": []}, ("namespaces",)),
    ("find", {"namespaces": ""}, ("namespaces", 0)),
    ("find", {"details": "verdict"}, ("details",)),
    ("find", {"details": ["verdict"]}, ("details", 0)),
    ("find", {"details": ["info", 7]}, ("details", 1)),
    ("find", {"group_by": "foo"}, ("group_by",)),
    ("find", {"group_by": ["state"]}, ("group_by",)),
    ("find", {"limit": "many"}, ("limit",)),
    ("find", {"limit": True}, ("limit",)),
    ("find", {"limit": 1.5}, ("limit",)),
    ("find", {"limit": -1}, ("limit",)),
    ("find", {"limit": "-1"}, ("limit",)),
    ("find", {"match": []}, ("match",)),
    ("find", {"match": {"remotee": "192.0.2.1"}}, ("match", "remotee")),
    ("facts", {"limit": 201}, ("limit",)),
    ("facts", {"limit": "201"}, ("limit",)),
    ("support", {"namespace": ["current"]}, ("namespace",)),
    ("destroy", {"match": {}}, ("match",)),
    ("destroy", {"match": None}, ("match",)),
    ("destroy", {"match": ALL, "pace": "fast"}, ("pace",)),
    ("destroy", {"match": ALL, "max_sockets": "a few"}, ("max_sockets",)),
    ("destroy", {"match": ALL, "engine": "netlinks"}, ("engine",)),
    ("destroy", {"match": ALL, "check": "perhaps"}, ("check",)),
    ("destroy", {"match": ALL, "check": 2}, ("check",)),
    ("destroy", {"match": ALL, "protect": False}, ("protect",)),
    ("destroy", {"match": ALL, "protect": {"all": True}}, ("protect", "all")),
    ("destroy", {"match": ALL, "protect": {"kernel": "some"}}, ("protect", "kernel")),
    ("destroy", {"match": ALL, "protect": {"selectors": {}}}, ("protect", "selectors")),
    ("destroy", {"match": ALL, "protect": {"selectors": [7]}}, ("protect", "selectors", 0)),
    ("drain", {"match": ALL, "until": "foo"}, ("until",)),
    ("drain", {"match": ALL, "arrivals": "welcome"}, ("arrivals",)),
    ("drain", {"match": ALL, "grace": "soon"}, ("grace",)),
    ("drain", {"match": ALL, "settle": "1us"}, ("settle",)),
    ("drain", {"match": ALL, "step": "1ms"}, ("step",)),
    ("drain", {"match": ALL, "destroy": "later"}, ("destroy",)),
    ("drain", {"match": ALL, "resume": {"token": 1}}, ("resume", "version")),
    ("check_policy", {"policy": POLICY, "resolve_names": "some"}, ("resolve_names",)),
    ("enforce_policy", {"policy": {}, "limit": -1}, ("limit",)),
    ("enforce_policy", {"policy": {}, "engine": "magic"}, ("engine",)),
    ("stuck_report", {"stuck": "close_waits"}, ("stuck", 0)),
    ("stuck_report", {"stuck": [{"verdict": "silent", "for": "x"}]}, ("stuck", 0, "for")),
    ("stuck_report", {"stranded": ["gone"]}, ("stranded", 0)),
    ("stuck_report", {"superseded_ports": [1, "no-such"]}, ("superseded_ports", 1)),
    ("stuck_report", {"silent_for": "long"}, ("silent_for",)),
    ("stuck_report", {"silent_for": 0, "superseded_ports": 7}, ("silent_for",)),
    ("stuck_report", {"stuck": [], "stranded": []}, ("stuck",)),
    ("stuck_report", {"match": {"remotee": "192.0.2.1"}}, ("match", "remotee")),
]


@pytest.mark.parametrize(("operation", "options", "path"), WRONG)
def test_wrong_option_is_named(
    target: Target, operation: str, options: dict[str, Any], path: tuple[Any, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        getattr(api, operation)(**options, host=target.host)
    assert caught.value.path == path
    assert api.describe(caught.value)


@pytest.mark.parametrize(
    ("operation", "options", "path", "near"),
    [
        ("find", {"detail": ["info"]}, ("detail",), "details"),
        ("find", {"group-by": "state"}, ("group-by",), "group_by"),
        ("drain", {"match": ALL, "arrival": "fail"}, ("arrival",), "arrivals"),
        ("find", {"details": ["verdict"]}, ("details", 0), "verdicts"),
        ("find", {"group_by": "processs"}, ("group_by",), "processes"),
        ("destroy", {"match": ALL, "protect": {"loop": 1}}, ("protect", "loop"), "loopback"),
    ],
)
def test_similar_word_is_suggested(
    operation: str, options: dict[str, Any], path: tuple[Any, ...], near: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_options(operation, options)
    assert caught.value.path == path
    assert f"(did you mean {near}?)" in caught.value.problem
    assert not caught.value.allowed


def test_wrong_choice_lists_the_choices() -> None:
    with pytest.raises(InputError) as caught:
        check_options("drain", {"match": ALL, "until": "foo"})
    assert all(choice in caught.value.allowed for choice in UNTIL)


@pytest.mark.parametrize("operation", ["destroy", "drain", "check_policy", "enforce_policy"])
def test_missing_option_is_named(operation: str) -> None:
    (name,) = (option.name for option in OPERATIONS[operation].values() if option.required)
    with pytest.raises(InputError) as caught:
        check_options(operation, {})
    assert caught.value.path == (name,)
    assert caught.value.problem == "missing"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_null_is_the_default(operation: str) -> None:
    required = {name: ALL for name, option in OPERATIONS[operation].items() if option.required}
    nulls = dict.fromkeys(set(OPERATIONS[operation]) - set(required))
    assert check_options(operation, {**required, **nulls}) == check_options(operation, required)


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("namespaces", "all", ["all"]),
        ("namespaces", ("current", "blue"), ["current", "blue"]),
        ("namespaces", 7, ["7"]),
        ("details", "info", ["info"]),
        ("details", {"info"}, ["info"]),
        ("details", (), []),
        ("limit", "10", 10),
        ("limit", " 10 ", 10),
        ("limit", 10.0, 10),
        ("group_by", "STATE", "state"),
    ],
)
def test_values_of_find_are_converted(name: str, given: object, expected: object) -> None:
    assert check_options("find", {name: given})[name] == expected


@pytest.mark.parametrize("given", [True, 1, "yes", "Yes", "on", "true", "TRUE", "y", "t", "1"])
def test_words_for_true(given: object) -> None:
    assert check_options("drain", {"match": ALL, "check": given})["check"] is True


@pytest.mark.parametrize("given", [False, 0, "no", "No", "off", "false", "FALSE", "n", "f", "0"])
def test_words_for_false(given: object) -> None:
    options = check_options("drain", {"match": ALL, "destroy": given})
    assert options["destroy"] is False
    options = check_options("drain", {"match": ALL, "protect": {"kernel": given}})
    assert options["protect"] == {"kernel": False}


def test_single_verdict_is_a_list_of_one() -> None:
    verdict = {"verdict": "close_wait", "for": "10m"}
    options = check_options("stuck_report", {"stuck": verdict, "superseded_ports": 443})
    assert options["stuck"] == [verdict]
    assert options["superseded_ports"] == [443]


def test_operations_receive_converted_options(target: Target) -> None:
    target.add(connection())
    as_text = {"namespaces": "current", "details": "process", "limit": "1"}
    found = api.find(**as_text, host=target.host)  # type: ignore[arg-type]
    assert found.sockets[0]["processes"] is not None
    result = api.destroy(
        {"state": "all"},
        check="yes",  # type: ignore[arg-type]
        protect={"loopback": "no"},
        engine="NETLINK",
        host=target.host,
    )
    assert result.outcomes == {"destroyed": 1}
    assert target.sockets.destroyed == []
    assert result.engine == "netlink"


def every_option() -> Iterator[tuple[str, Option]]:
    for operation, table in OPERATIONS.items():
        for option in table.values():
            yield operation, option
            for key in option.keys:
                yield f"{operation}.{option.name}", key


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1", "10s", "5/s", "25%", "yes", "all", "info", "none", "current"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.just("kernel"), inner),
    max_leaves=5,
)


@given(option=st.sampled_from([option for _place, option in every_option()]), value=VALUES)
@settings(deadline=None, max_examples=500)
def test_any_value_is_converted_once_or_rejected_with_its_path(
    option: Option, value: object
) -> None:
    problem: InputError | None = None
    try:
        checked = check_option(option, value)
    except InputError as error:
        problem = error
    if problem is not None:
        assert problem.path[0] == option.name
        assert api.describe(problem)
        return
    assert repr(check_option(option, checked)) == repr(checked)
    if option.kind is Kind.BOOL:
        assert isinstance(checked, bool)
    if option.kind is Kind.INT:
        assert isinstance(checked, int)
        assert not isinstance(checked, bool)
        assert checked >= option.low
    if option.many and option.kind is not Kind.SELECTOR:
        assert isinstance(checked, list)
    if option.choices and option.kind is Kind.STR and checked is not None:
        assert set(checked if option.many else [checked]) <= set(option.choices)


@given(number=st.integers(0, 10**9))
def test_digits_are_numbers(number: int) -> None:
    assert check_options("find", {"limit": str(number)})["limit"] == number


# The table against the code.


def test_every_operation_is_in_the_table() -> None:
    functions = {name for name in api.__all__ if name.islower() and not name.startswith("describe")}
    assert set(OPERATIONS) == functions


@pytest.mark.parametrize("operation", OPERATIONS)
def test_options_are_the_parameters_of_the_function(operation: str) -> None:
    """Names, order and defaults are equal, and the function checks them."""
    function = getattr(api, operation)
    parameters = inspect.signature(function).parameters
    table = OPERATIONS[operation]
    assert list(table) == [name for name in parameters if name not in ("host", "progress")]
    for name, option in table.items():
        assert option.name == name
        if option.required:
            assert parameters[name].default is inspect.Parameter.empty
        else:
            assert parameters[name].default == option.default
    assert function.__wrapped__.__name__ == operation


@pytest.mark.parametrize(
    ("operation", "name", "choices"),
    [
        ("find", "details", DETAILS),
        ("find", "group_by", GROUP_KEYS),
        ("destroy", "engine", ENGINES),
        ("drain", "engine", ENGINES),
        ("enforce_policy", "engine", ENGINES),
        ("drain", "until", UNTIL),
        ("drain", "arrivals", ARRIVALS),
        ("stuck_report", "stuck", STUCK),
        ("stuck_report", "stranded", STRANDED),
    ],
)
def test_choices_are_those_of_the_code(operation: str, name: str, choices: Any) -> None:
    assert OPERATIONS[operation][name].choices == tuple(choices)


@pytest.mark.parametrize("operation", ["destroy", "drain"])
def test_keys_of_protect_are_those_of_the_guard(operation: str) -> None:
    *switches, selectors = OPERATIONS[operation]["protect"].keys
    assert [switch.name for switch in switches] == list(SWITCHES)
    assert all(switch.kind is Kind.BOOL and switch.default is True for switch in switches)
    assert selectors.name == "selectors"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_defaults_are_valid(operation: str) -> None:
    for option in OPERATIONS[operation].values():
        default = check_option(option, option.default)
        assert default == (list(option.default) if option.many else option.default)


@pytest.mark.parametrize(("place", "option"), list(every_option()))
def test_option_is_described(place: str, option: Option) -> None:
    assert option.description.endswith("."), place
    assert 0 < option.description.count(". ") + 1 <= 2, place
    assert option.allowed


def test_table_can_be_read_without_the_kernel_code() -> None:
    assert imported_by("from linuxnet_sockets.api import options") == {"api", "errors", "values"}
