# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsing of policies, and their errors."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.errors import PolicyErrors, ProtectFileError
from linuxnet_sockets.messages import describe, path_text
from linuxnet_sockets.policy.parse import AnyNames, parse_policy
from linuxnet_sockets.sockets.needs import Need
from tests.support.policy_documents import PolicyNames, document, policy, rule


def errors_of(value: Any) -> dict[str, str]:
    """The problems of an invalid policy, by path."""
    with pytest.raises(PolicyErrors) as caught:
        parse_policy(value, names=PolicyNames(), files=None)
    assert caught.value.errors
    for error in caught.value.errors:
        # Each names the path, the value and the remedy.
        assert error.problem
        assert error.allowed or "(did you mean" in error.problem
        assert path_text(error.path) in describe(error)
    return {path_text(error.path): error.problem for error in caught.value.errors}


def test_defaults() -> None:
    found = policy(rule())
    assert (found.version, found.mode, found.namespaces) == (1, "enforce", ("current",))
    assert (found.limits.max_sockets, found.limits.per_ms) == (100, 60_000)
    assert found.limits.on_excess == "refuse"
    assert found.guard.control_connection
    assert found.guard.kernel
    (only,) = found.rules
    assert (only.hold_ms, only.action, only.condition) == (2_000, "destroy", None)
    assert found.warnings == ()


def test_all_keys() -> None:
    found = policy(
        rule(
            "all-through-the-vpn",
            while_={"interface": "wg0", "is": "up"},
            match={
                "user": "1000-60000",
                "not": {"any": [{"local": "interface:wg0"}, {"remote": ["10.0.0.0/8"]}]},
            },
            hold="1500ms",
        ),
        rule("camera", match={"local_port": 5000, "superseded": {"silent_for": "5s"}}, hold=0),
        rule(
            "moved",
            match={"stranded": {"verdict": "rerouted", "to": ["wg1"]}},
            while_={"route": "default", "via": "wg1"},
        ),
        rule("watch-only", match={"stuck": ["zero_window"]}, action="report", hold="5m"),
        mode="report",
        namespaces=["current", "blue"],
        limits={"max_sockets": "500", "per": "10s", "on_excess": "pace"},
        protect={"kernel": False, "selectors": [{"remote": "10.0.0.53"}]},
    )
    assert found.mode == "report"
    assert found.namespaces == ("current", "blue")
    assert (found.limits.max_sockets, found.limits.per_ms, found.limits.on_excess) == (
        500,
        10_000,
        "pace",
    )
    assert not found.guard.kernel
    assert len(found.guard.selectors) == 1
    assert [each.hold_ms for each in found.rules] == [1_500, 0, 2_000, 300_000]
    assert [each.action for each in found.rules] == ["destroy"] * 3 + ["report"]
    assert [each.interfaces for each in found.rules] == [("wg0",), (), ("wg1",), ()]
    assert found.longest_hold_ms == 300_000
    assert [each.hold_ms for each in found.without_holds().rules] == [0] * 4


@pytest.mark.parametrize(
    ("given", "needs"),
    [
        (rule(), set()),
        (rule(match={"local": "interface:wg0"}), {Need.LINKS, Need.ADDRESSES}),
        (rule(match={"device": "wg0"}), {Need.LINKS}),
        (
            rule(match={"stranded": "address_gone"}),
            {Need.LINKS, Need.ADDRESSES, Need.ROUTES, Need.RULES},
        ),
        (rule(while_={"interface": "wg0", "is": "present"}), {Need.LINKS}),
        (rule(while_={"not": {"address": "10.0.0.1", "is": "present"}}), {Need.ADDRESSES}),
        (rule(while_={"route": "10.0.0.0/8", "via": "wg0"}), {Need.LINKS, Need.ROUTES}),
    ],
)
def test_needs_of_policy(given: Any, needs: set[Need]) -> None:
    assert policy(given).needs == needs


@pytest.mark.parametrize("empty", [None, "", {}, [], 0, False])
@pytest.mark.parametrize(
    "key", ["version", "mode", "namespaces", "limits", "protect", "rules", None]
)
def test_empty_value_is_rejected(key: str | None, empty: Any) -> None:
    """As a template without a value produces: for the document, and for each key."""
    found = errors_of(empty if key is None else document(rule(), **{key: empty}))
    assert set(found) == {"" if key is None else key}


@pytest.mark.parametrize("empty", [None, "", {}, []])
@pytest.mark.parametrize("key", ["name", "while", "match", "hold", "action"])
def test_empty_value_in_rule_is_rejected(key: str, empty: Any) -> None:
    assert set(errors_of(document(rule(**{key: empty})))) == {f"rules[0].{key}"}


@pytest.mark.parametrize("empty", [None, "", {}, []])
@pytest.mark.parametrize("action", ["destroy", "report"])
def test_empty_value_in_selector_is_rejected_at_any_depth(action: str, empty: Any) -> None:
    for match in (
        {"remote": empty},
        {"remote": "10.0.0.1", "not": empty},
        {"remote": "10.0.0.1", "any": [{"local_port": 1}, empty]},
        {"all": [{"remote": "10.0.0.1"}, {"not": {"any": [empty]}}]},
        {"remote": "10.0.0.1", "stuck": empty},
    ):
        (path,) = errors_of(document(rule(match=match, action=action)))
        assert path.startswith("rules[0].match.")


def test_all_errors_are_reported_together() -> None:
    found = errors_of(
        {
            "version": 2,
            "mode": "dry-run",
            "namespace": ["current"],
            "limits": {"max_sockets": 0, "per": "0.5s", "on_excess": "drop", "pace": "1/s"},
            "protect": {"loopback": "yes please"},
            "rules": [
                rule("one", match={"remote": "no-address"}),
                rule("two words", hold="2 moons"),
                rule("three", while_={"interface": "wg0"}, actoin="report"),
                {"name": "four"},
                "five",
            ],
        }
    )
    assert set(found) == {
        "version",
        "mode",
        "namespace",
        "limits.max_sockets",
        "limits.per",
        "limits.on_excess",
        "limits.pace",
        "protect.loopback",
        "rules[0].match.remote",
        "rules[1].name",
        "rules[1].hold",
        "rules[2].while.is",
        "rules[2].actoin",
        "rules[3].match",
        "rules[4]",
    }
    assert "namespaces" in found["namespace"]
    assert "action" in found["rules[2].actoin"]


def test_total_of_the_limits() -> None:
    """The default is ten times max_sockets, and more for many rules."""

    def total(number_of_rules: int = 1, **limits: object) -> int:
        rules = [rule(f"rule-{number}") for number in range(number_of_rules)]
        return policy(*rules, limits={"max_sockets": 3, **limits}).limits.max_total

    assert [total(number) for number in (1, 5, 6, 20)] == [30, 30, 36, 120]
    assert total(total="7") == 7
    assert total(scope="total") == 3
    assert total(max_sockets=10**9) == 10**9
    reported = policy(rule(action="report"), limits={"max_sockets": 3})
    assert reported.limits.max_total == 30


@pytest.mark.parametrize(
    "limits",
    [
        {"max_sockets": 5, "total": 4},
        {"max_sockets": 5, "total": 0},
        {"max_sockets": 5, "total": None},
        {"max_sockets": 5, "total": 10, "scope": "total"},
        {"max_sockets": 5, "total": 10**9 + 1},
    ],
)
def test_invalid_total(limits: dict[str, object]) -> None:
    assert set(errors_of(document(limits=limits))) == {"limits.total"}


def test_message_of_many_errors_is_bounded() -> None:
    rules = [rule(f"rule-{number}", hold="soon") for number in range(500)]
    with pytest.raises(PolicyErrors) as caught:
        parse_policy(document(*rules), names=PolicyNames(), files=None)
    assert len(caught.value.errors) == 500
    text = describe(caught.value)
    numbers = [int(number) for number in re.findall(r"\b\d+\b", text)]
    # The message states the total and the number of omitted errors.
    assert (numbers[0], numbers[-1]) == (500, 480)
    assert len(re.findall(r"rules\[\d+\]\.hold", text)) == 20
    assert len(text) < 10_000


def test_missing_required_keys_are_rejected() -> None:
    assert set(errors_of({"mode": "enforce"})) == {"version", "limits", "rules"}
    assert set(errors_of(document(limits={"per": "1m"}))) == {"limits.max_sockets"}
    assert set(errors_of(document({"hold": "1s"}))) == {"rules[0].name", "rules[0].match"}


def test_duplicate_rule_name_is_rejected() -> None:
    found = errors_of(document(rule("same"), rule("other"), rule("same", hold="1s")))
    assert set(found) == {"rules[2].name"}
    assert "rules[0]" in found["rules[2].name"]


@pytest.mark.parametrize(
    "strange",
    [
        {1: "one"},
        {"key": datetime.date(2026, 1, 1)},
        {"key": {1, 2}},
        {"key": float("nan")},
        {"key": b"bytes"},
        # A hexadecimal number in YAML.
        {"key": 16**5_000},
        [[[[]]]] * 3,
    ],
)
def test_values_without_json_form_are_rejected(strange: Any) -> None:
    assert errors_of(strange)
    assert errors_of(document(rule(match={"remote": strange})))


def test_deep_nesting_and_long_lists_are_rejected() -> None:
    nested: Any = {"remote": "10.0.0.1"}
    for _level in range(10_000):
        nested = {"not": nested}
    assert "nested" in next(iter(errors_of(document(rule(match=nested))).values()))
    long = document(rule(match={"remote_port": list(range(60_000)) * 2}))
    assert "more than" in next(iter(errors_of(long).values()))


def test_digest_depends_on_content_only() -> None:
    given = document(rule(hold="2s"))
    shuffled = dict(reversed(list(given.items())))
    assert (
        parse_policy(given, names=PolicyNames(), files=None).digest
        == policy(rule(hold="2s")).digest
    )
    assert (
        parse_policy(shuffled, names=PolicyNames(), files=None).digest
        == policy(rule(hold="2s")).digest
    )
    assert policy(rule(hold="2000ms")).digest != policy(rule(hold="2s")).digest
    assert len(policy().digest) == 64


def test_any_names_accepts_unknown_users_and_services() -> None:
    given = document(
        rule(match={"user": "someone-there", "remote_port": "their-service"}),
        rule("both", match={"user": "one", "not": {"user": "another"}}),
    )
    assert len(parse_policy(given, names=AnyNames(), files=None).rules) == 2
    assert set(errors_of(given)) == {
        "rules[0].match.user",
        "rules[1].match.user",
    }


def test_protection_files_add_to_guard(tmp_path: Path) -> None:
    (tmp_path / "dns.json").write_text('[{"remote": "10.0.0.53"}]')
    found = parse_policy(document(), names=PolicyNames(), files=str(tmp_path))
    assert len(found.guard.selectors) == 1
    (tmp_path / "dns.json").write_text("garbage")
    with pytest.raises(ProtectFileError):
        parse_policy(document(), names=PolicyNames(), files=str(tmp_path))


@pytest.mark.parametrize("name", ["pid:0", "pid:x", "", " ", 7, None])
def test_invalid_namespace_is_rejected(name: Any) -> None:
    assert set(errors_of(document(namespaces=["current", name]))) == {"namespaces[1]"}
