# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What socket_policy returns, on the fake kernel."""

from __future__ import annotations

import errno
import re
from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.destroy import outcomes
from linuxnet_sockets.errors import EngineUnavailable, InputError, PolicyErrors
from linuxnet_sockets.policy import evaluate, findings, holds, model
from linuxnet_sockets.query.record import RECORD_KEYS
from tests.support.fake_machine import connection
from tests.support.policy_documents import document, rule
from tests.unit.api.conftest import PlainResult, Target, numbers
from tests.unit.module.test_documentation import module, text

DESTROY = rule("cut", hold=0)
REPORT = rule("report", hold=0, action="report")

RESULT_KEYS = {
    "changed",
    "warnings",
    "mode",
    "digest",
    "rules",
    "violations",
    "matched",
    "outcomes",
    "destroyed",
    "protected",
    "survivors",
    "truncated",
    "not_evaluated",
}


@pytest.fixture(autouse=True)
def _current(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake machine has one namespace. Other names do not exist."""
    resolve = evaluate.resolve

    def resolve_current(names: list[str], **paths: Any) -> Any:
        return [target.namespace] if names == ["current"] else resolve(names, **paths)

    monkeypatch.setattr(evaluate, "resolve", resolve_current)


def enforce(target: Target, policy: Any, **options: Any) -> PlainResult:
    return target.task(api.enforce_policy, policy=policy, **options)


def add_connections(target: Target, count: int, **fields: int) -> list[str]:
    """Add connections that violate both rules. Returns their cookies."""
    ports = range(len(target.sockets.sockets) + 1, len(target.sockets.sockets) + 1 + count)
    made = [target.add(connection(local_port=port, **fields)) for port in ports]
    return [f"{sock.cookie:x}" for sock in made]


def cookies_of(entries: list[dict[str, Any]]) -> list[str]:
    return [entry["cookie"] for entry in entries]


def test_no_violations(target: Target) -> None:
    policy = document(DESTROY)
    answer = enforce(target, policy, diff=True)
    assert (answer.failure, answer.warnings) == (None, [])
    assert answer.result == {
        "changed": False,
        "mode": "enforce",
        "digest": model.digest(policy),
        "rules": [
            {
                "name": "cut",
                "action": "destroy",
                "violations": 0,
                "by_status": {},
                "holds_in": ["current"],
                "missing_interfaces": [],
            }
        ],
        "violations": [],
        "matched": 0,
        "outcomes": {},
        "destroyed": [],
        "protected": [],
        "survivors": [],
        "truncated": False,
        "not_evaluated": [],
        "diff": {"before": "", "after": ""},
        "warnings": [],
    }


def test_sockets_are_listed_once_and_all_violations_returned(target: Target) -> None:
    violating = add_connections(target, 2)
    protected = f"{target.add(connection(remote_port=4505)).cookie:x}"
    stubborn = add_connections(target, 1, errno=errno.EPERM)
    answer = enforce(
        target, document(DESTROY, REPORT, rule("later", hold=0, match={"state": "all"}))
    )
    result = answer.result
    assert set(result) == RESULT_KEYS
    # With a key `skipped`, Ansible would report the task as skipped.
    assert "skipped" not in result
    assert result["changed"]
    assert cookies_of(result["destroyed"]) == violating
    assert cookies_of(result["protected"]) == [protected]
    assert cookies_of(result["survivors"]) == stubborn
    assert result["outcomes"] == {"destroyed": 2, "protected": 1, "not_permitted": 1}
    assert set(result["outcomes"]) <= set(outcomes.OUTCOMES)
    assert {entry["name"]: entry["by_status"] for entry in result["rules"]} == {
        "cut": {"destroy": 3, "protected": 1},
        "report": {"reported": 4},
        "later": {"other_rule": 4},
    }
    assert result["matched"] == len(result["violations"]) == 12
    protected = [entry for entry in result["violations"] if entry["status"] == "protected"]
    assert [(entry["rule"], entry["protected_by"]) for entry in protected] == [
        ("cut", "control_connection")
    ]
    assert "4505" in protected[0]["protected_detail"]
    assert all(set(entry["record"]) == set(RECORD_KEYS) for entry in result["violations"])
    assert answer.failure is not None
    assert numbers(answer.failure)[:3] == [1, 4, 1]
    assert "not_permitted" in answer.failure
    assert "CAP_NET_ADMIN" in answer.failure


def test_check_mode_predicts_failure(target: Target) -> None:
    add_connections(target, 3)
    target.kernel.abilities.destroys = False
    before = enforce(target, document(DESTROY), check=True, diff=True)
    done = enforce(target, document(DESTROY), diff=True)
    assert before == done
    assert done.result["outcomes"] == {"kernel_without_destroy": 3}
    assert "CONFIG_INET_DIAG_DESTROY" in (done.failure or "")


def test_check_mode_predicts_the_cookies(target: Target) -> None:
    violating = add_connections(target, 3)
    before = enforce(target, document(DESTROY), check=True, diff=True)
    assert target.sockets.destroyed == []
    done = enforce(target, document(DESTROY), diff=True)
    assert (
        cookies_of(before.result["destroyed"]) == cookies_of(done.result["destroyed"]) == violating
    )
    assert before.result["diff"] == done.result["diff"]
    assert before.result["diff"]["before"].count("\n") == 3
    assert not enforce(target, document(DESTROY)).result["changed"]


def test_budget_exceeded_refuses_or_paces(target: Target) -> None:
    cookies = add_connections(target, 3)
    refuse = document(DESTROY, limits={"max_sockets": 2, "per": "10s"})
    for check in (True, False):
        answer = enforce(target, refuse, check=check)
        assert target.sockets.destroyed == []
        assert (answer.result["changed"], answer.result["outcomes"]) == (False, {"limit": 3})
        assert cookies_of(answer.result["survivors"]) == cookies
        assert answer.failure is not None
        assert numbers(answer.failure)[-3:] == [3, 2, 10]
        assert "survivors" in answer.failure
        assert "limits.max_sockets" in answer.failure
    pace = document(DESTROY, limits={"max_sockets": 2, "on_excess": "pace"})
    answer = enforce(target, pace)
    assert answer.result["outcomes"] == {"destroyed": 2, "limit": 1}
    assert answer.result["changed"]
    assert numbers(answer.failure)[-4:] == [3, 2, 60, 2]
    assert "oldest" in str(answer.failure)


def test_other_failures_are_reported_beside_the_budget(target: Target) -> None:
    add_connections(target, 1, errno=errno.EPERM)
    add_connections(target, 2)
    pace = document(DESTROY, limits={"max_sockets": 2, "on_excess": "pace"})
    answer = enforce(target, pace)
    assert answer.result["outcomes"] == {"destroyed": 1, "not_permitted": 1, "limit": 1}
    assert "limits.max_sockets" in str(answer.failure)
    assert "CAP_NET_ADMIN" in str(answer.failure)
    assert numbers(answer.failure)[-7:] == [3, 2, 60, 2, 1, 2, 1]


def test_report_mode_destroys_nothing_and_does_not_fail(target: Target) -> None:
    add_connections(target, 3)
    policy = document(DESTROY, mode="report", limits={"max_sockets": 3})
    answer = enforce(target, policy)
    assert (answer.failure, answer.warnings) == (None, [])
    assert answer.result["rules"][0]["by_status"] == {"inhibited": 3}
    answer = enforce(target, {**policy, "limits": {"max_sockets": 2}})
    assert answer.failure is None
    assert (answer.result["changed"], answer.result["outcomes"]) == (False, {})
    assert answer.result["rules"][0]["by_status"] == {"limit": 3}
    (warning,) = answer.warnings
    assert numbers(warning)[-3:] == [3, 2, 60]
    assert "mode report" in warning.lower()
    assert target.sockets.destroyed == []


def test_limit_truncates_lists_but_not_counts(target: Target) -> None:
    add_connections(target, 4)
    answer = enforce(target, document(DESTROY, REPORT), limit=2)
    result = answer.result
    assert result["truncated"]
    assert (len(result["violations"]), len(result["destroyed"])) == (2, 2)
    assert (result["matched"], result["outcomes"]) == (8, {"destroyed": 4})


def test_missing_namespaces_fail_the_task(target: Target) -> None:
    violating = add_connections(target, 1)
    names = [f"nowhere{number}" for number in range(15)]
    answer = enforce(target, document(DESTROY, namespaces=["current", *names]), limit=12)
    result = answer.result
    assert cookies_of(result["destroyed"]) == violating
    assert [entry["namespace"] for entry in result["not_evaluated"]] == names[:12]
    assert result["truncated"]
    assert answer.failure is not None
    assert all(f"namespace {name}: " in answer.failure for name in names[:10])
    assert numbers(answer.failure)[-1] == 5


def test_rule_not_evaluated_fails_the_task_and_others_are_enforced(target: Target) -> None:
    violating = add_connections(target, 1)
    target.kernel.abilities.handlers = frozenset({6})
    udp = rule("udp", hold=0, match={"protocol": "udp", "remote_port": 53})
    answer = enforce(target, document(udp, DESTROY))
    assert cookies_of(answer.result["destroyed"]) == violating
    (not_evaluated,) = answer.result["not_evaluated"]
    assert (not_evaluated["namespace"], not_evaluated["rule"]) == ("current", "udp")
    assert "rule udp in namespace current: " in str(answer.failure)
    assert not_evaluated["error"] in str(answer.failure)


def test_missing_interface_is_a_warning(target: Target) -> None:
    add_connections(target, 1)
    vpn = rule("vpn", hold=0, while_={"not": {"interface": "wg00", "is": "up"}})
    answer = enforce(target, document(vpn))
    (only,) = answer.result["rules"]
    assert (only["missing_interfaces"], only["holds_in"]) == (["wg00"], [])
    assert (answer.failure, answer.result["matched"]) == (None, 0)
    (warning,) = answer.warnings
    assert {"wg00", "vpn"} <= set(re.findall(r"\w+", warning))
    absent = rule("vpn", hold=0, while_={"not": {"interface": "wg00", "is": "present"}})
    matching = enforce(target, document(absent))
    assert (matching.warnings, matching.result["outcomes"]) == ([], {"destroyed": 1})


def test_lint_findings_are_warnings(target: Target) -> None:
    (warning,) = enforce(target, document(DESTROY, rule("again"))).warnings
    assert warning.startswith("policy.rules[1] ")
    assert "rules[0]" in warning


def test_too_many_holds_are_a_warning(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    add_connections(target, 3)
    monkeypatch.setattr(holds, "MAX_HOLDS", 2)
    answer = enforce(target, document(DESTROY))
    assert answer.result["outcomes"] == {"destroyed": 2}
    assert answer.result["rules"][0]["by_status"] == {"destroy": 2, "hold": 1}
    (warning,) = answer.warnings
    assert numbers(warning) == [1]


def test_hold_is_awaited(target: Target) -> None:
    violating = add_connections(target, 1)
    answer = enforce(target, document(rule("cut", hold="90s")))
    assert target.now >= 90
    assert cookies_of(answer.result["destroyed"]) == violating


def test_invalid_policy_is_rejected_with_all_errors(target: Target) -> None:
    policy = document(rule("a", match={"user": "nobody-here"}), rule("b", hold="soon"))
    with pytest.raises(PolicyErrors) as rejected:
        enforce(target, policy)
    assert [error.path for error in rejected.value.errors] == [
        ("policy", "rules", 0, "match", "user"),
        ("policy", "rules", 1, "hold"),
    ]


def test_unavailable_engine_fails_before_anything_is_destroyed(target: Target) -> None:
    add_connections(target, 1)
    with pytest.raises((EngineUnavailable, InputError)):
        enforce(target, document(DESTROY), engine="nothing")
    assert target.sockets.destroyed == []


def test_keys_and_statuses_are_documented() -> None:
    documented = module("socket_policy")["RETURN"]
    # `errors` is returned for rejected policies; `diff` is defined by Ansible.
    assert set(documented) - {"errors", "msg"} == RESULT_KEYS
    described = text(documented["violations"]["contains"]["status"]["description"])
    assert [status for status in findings.STATUSES if f"V({status})" not in described] == []


def test_examples_are_accepted(target: Target) -> None:
    tasks = module("socket_policy")["EXAMPLES"]
    given = [task.get("linuxnet.sockets.socket_policy") or {} for task in tasks]
    policies = [options["policy"] for options in given if "policy" in options]
    assert policies
    for policy in policies:
        answer = enforce(target, policy)
        assert (answer.failure, answer.warnings) == (None, [])


def test_check_of_a_valid_policy(target: Target) -> None:
    checked = api.check_policy(document(DESTROY), host=target.host)
    assert checked.valid
    assert checked.to_dict()["digest"] == model.digest(document(DESTROY))


def test_check_returns_all_errors(target: Target) -> None:
    policy = document(rule("a", match={"user": "nobody-here"}), rule("b", hold="soon"))
    checked = api.check_policy(policy, host=target.host)
    assert not checked.valid
    assert len(checked.errors) == len(checked.to_dict()["errors"]) == 2


def test_check_for_other_machines_resolves_no_names(target: Target) -> None:
    policy = document(rule("a", match={"user": "nobody-here"}))
    assert not api.check_policy(policy, host=target.host).valid
    assert api.check_policy(policy, resolve_names=False, host=target.host).valid


def test_plan_predicts_outcomes_and_destroys_nothing(target: Target) -> None:
    cookies = add_connections(target, 2)
    plan = api.plan_policy(document(rule("cut", hold="90s"), REPORT), host=target.host)
    cut, report = plan.rules
    assert [entry["record"]["cookie"] for entry in cut["sockets"]] == cookies
    assert [(entry["status"], entry["expected"]) for entry in cut["sockets"]] == [
        ("destroy", "destroyed")
    ] * 2
    assert [(entry["status"], entry["expected"]) for entry in report["sockets"]] == [
        ("reported", None)
    ] * 2
    assert (plan.outcomes, plan.budget_exceeded) == ({"destroyed": 2}, None)
    assert (plan.failures, plan.not_evaluated) == ((), [])
    assert (target.sockets.destroyed, target.now) == ([], 0)


def test_plan_over_budget(target: Target) -> None:
    add_connections(target, 3)
    plan = api.plan_policy(document(DESTROY, limits={"max_sockets": 2}), host=target.host)
    assert plan.budget_exceeded == {
        "max_sockets": 2,
        "per_ms": 60_000,
        "on_excess": "refuse",
        "scope": "rule_and_user",
        "total": 20,
        "exceeded": [{"rule": "cut", "uid": 0, "user": "root", "due": 3, "destroyed_in_window": 0}],
    }
    assert {entry["status"] for entry in plan.rules[0]["sockets"]} == {"limit"}


def test_plan_of_a_missing_namespace_fails(target: Target) -> None:
    plan = api.plan_policy(document(DESTROY, namespaces=["current", "nowhere"]), host=target.host)
    (missing,) = plan.not_evaluated
    assert (missing["namespace"], missing["rule"]) == ("nowhere", None)
    assert len(plan.failures) == 1


def test_plan_of_an_invalid_policy_is_an_error(target: Target) -> None:
    with pytest.raises(PolicyErrors):
        api.plan_policy({"version": 1}, host=target.host)
