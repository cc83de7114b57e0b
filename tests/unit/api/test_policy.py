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
from tests.support.policy_documents import document as written
from tests.support.policy_documents import rule
from tests.unit.api.conftest import Answer, Target, numbers
from tests.unit.module.test_documentation import module, text

KILL = rule("kill", hold=0)
TELL = rule("tell", hold=0, action="report")

RESULT_KEYS = {
    "changed",
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
    """The made-up machine has one namespace; other names lead nowhere."""
    resolve = evaluate.resolve

    def resolved(names: list[str], **places: Any) -> Any:
        return [target.namespace] if names == ["current"] else resolve(names, **places)

    monkeypatch.setattr(evaluate, "resolve", resolved)


def enforce(target: Target, policy: Any, **options: Any) -> Answer:
    return target.task(api.enforce_policy, policy=policy, **options)


def added(target: Target, count: int, **fields: int) -> list[str]:
    """The cookies of connections that violate both rules."""
    ports = range(len(target.sockets.sockets) + 1, len(target.sockets.sockets) + 1 + count)
    made = [target.add(connection(local_port=port, **fields)) for port in ports]
    return [f"{each.cookie:x}" for each in made]


def named(entries: list[dict[str, Any]]) -> list[str]:
    return [each["cookie"] for each in entries]


def test_nothing_violates(target: Target) -> None:
    policy = written(KILL)
    answer = enforce(target, policy, diff=True)
    assert (answer.failure, answer.warnings) == (None, [])
    assert answer.result == {
        "changed": False,
        "mode": "enforce",
        "digest": model.digest(policy),
        "rules": [
            {
                "name": "kill",
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
    }


def test_each_socket_is_in_one_list_and_each_violation_is_told(target: Target) -> None:
    doomed = added(target, 2)
    protected = f"{target.add(connection(remote_port=4505)).cookie:x}"
    stubborn = added(target, 1, errno=errno.EPERM)
    answer = enforce(target, written(KILL, TELL, rule("later", hold=0, match={"state": "all"})))
    result = answer.result
    assert set(result) == RESULT_KEYS
    # What a module returns as `skipped` makes Ansible say that the task was.
    assert "skipped" not in result
    assert result["changed"]
    assert named(result["destroyed"]) == doomed
    assert named(result["protected"]) == [protected]
    assert named(result["survivors"]) == stubborn
    assert result["outcomes"] == {"destroyed": 2, "protected": 1, "not_permitted": 1}
    assert set(result["outcomes"]) <= set(outcomes.OUTCOMES)
    assert {each["name"]: each["by_status"] for each in result["rules"]} == {
        "kill": {"destroy": 3, "protected": 1},
        "tell": {"reported": 4},
        "later": {"other_rule": 4},
    }
    assert result["matched"] == len(result["violations"]) == 12
    protected = [each for each in result["violations"] if each["status"] == "protected"]
    assert [(each["rule"], each["protected_by"]) for each in protected] == [
        ("kill", "control_connection")
    ]
    assert "4505" in protected[0]["protected_detail"]
    assert all(set(each["record"]) == set(RECORD_KEYS) for each in result["violations"])
    assert answer.failure is not None
    assert numbers(answer.failure)[:3] == [1, 4, 1]
    assert "not_permitted" in answer.failure
    assert "CAP_NET_ADMIN" in answer.failure


def test_check_mode_fails_where_the_run_would(target: Target) -> None:
    added(target, 3)
    target.kernel.abilities.destroys = False
    before = enforce(target, written(KILL), check=True, diff=True)
    done = enforce(target, written(KILL), diff=True)
    assert before == done
    assert done.result["outcomes"] == {"kernel_without_destroy": 3}
    assert "CONFIG_INET_DIAG_DESTROY" in (done.failure or "")


def test_check_mode_promises_what_the_run_does(target: Target) -> None:
    doomed = added(target, 3)
    before = enforce(target, written(KILL), check=True, diff=True)
    assert target.sockets.destroyed == []
    done = enforce(target, written(KILL), diff=True)
    assert named(before.result["destroyed"]) == named(done.result["destroyed"]) == doomed
    assert before.result["diff"] == done.result["diff"]
    assert before.result["diff"]["before"].count("\n") == 3
    assert not enforce(target, written(KILL)).result["changed"]


def test_the_limit_refuses_all_or_paces(target: Target) -> None:
    cookies = added(target, 3)
    refuse = written(KILL, limits={"max_sockets": 2, "per": "10s"})
    for check in (True, False):
        answer = enforce(target, refuse, check=check)
        assert target.sockets.destroyed == []
        assert (answer.result["changed"], answer.result["outcomes"]) == (False, {"limit": 3})
        assert named(answer.result["survivors"]) == cookies
        assert answer.failure is not None
        assert numbers(answer.failure) == [3, 2, 10]
        assert "survivors" in answer.failure
        assert "limits.max_sockets" in answer.failure
    pace = written(KILL, limits={"max_sockets": 2, "on_excess": "pace"})
    answer = enforce(target, pace)
    assert answer.result["outcomes"] == {"destroyed": 2, "limit": 1}
    assert answer.result["changed"]
    assert numbers(answer.failure) == [3, 2, 60, 2]
    assert "oldest" in str(answer.failure)


def test_what_failed_beside_the_limit_is_told_too(target: Target) -> None:
    added(target, 1, errno=errno.EPERM)
    added(target, 2)
    pace = written(KILL, limits={"max_sockets": 2, "on_excess": "pace"})
    answer = enforce(target, pace)
    assert answer.result["outcomes"] == {"destroyed": 1, "not_permitted": 1, "limit": 1}
    assert "limits.max_sockets" in str(answer.failure)
    assert "CAP_NET_ADMIN" in str(answer.failure)
    assert numbers(answer.failure) == [3, 2, 60, 2, 1, 2, 1]


def test_mode_report_touches_nothing_and_does_not_fail(target: Target) -> None:
    added(target, 3)
    policy = written(KILL, mode="report", limits={"max_sockets": 3})
    answer = enforce(target, policy)
    assert (answer.failure, answer.warnings) == (None, [])
    assert answer.result["rules"][0]["by_status"] == {"inhibited": 3}
    answer = enforce(target, {**policy, "limits": {"max_sockets": 2}})
    assert answer.failure is None
    assert (answer.result["changed"], answer.result["outcomes"]) == (False, {})
    assert answer.result["rules"][0]["by_status"] == {"limit": 3}
    (warning,) = answer.warnings
    assert numbers(warning) == [3, 2, 60]
    assert "mode report" in warning.lower()
    assert target.sockets.destroyed == []


def test_lists_end_at_the_limit_and_counts_do_not(target: Target) -> None:
    added(target, 4)
    answer = enforce(target, written(KILL, TELL), limit=2)
    result = answer.result
    assert result["truncated"]
    assert (len(result["violations"]), len(result["destroyed"])) == (2, 2)
    assert (result["matched"], result["outcomes"]) == (8, {"destroyed": 4})


def test_what_cannot_be_looked_at_fails_the_task_and_is_bounded(target: Target) -> None:
    doomed = added(target, 1)
    names = [f"nowhere{number}" for number in range(15)]
    answer = enforce(target, written(KILL, namespaces=["current", *names]), limit=12)
    result = answer.result
    assert named(result["destroyed"]) == doomed
    assert [each["namespace"] for each in result["not_evaluated"]] == names[:12]
    assert result["truncated"]
    assert answer.failure is not None
    assert all(f"namespace {name}: " in answer.failure for name in names[:10])
    assert numbers(answer.failure)[-1] == 5


def test_a_rule_that_cannot_be_looked_at_fails_the_task_and_hides_no_other(target: Target) -> None:
    doomed = added(target, 1)
    target.kernel.abilities.handlers = frozenset({6})
    udp = rule("udp", hold=0, match={"protocol": "udp", "remote_port": 53})
    answer = enforce(target, written(udp, KILL))
    assert named(answer.result["destroyed"]) == doomed
    (not_evaluated,) = answer.result["not_evaluated"]
    assert (not_evaluated["namespace"], not_evaluated["rule"]) == ("current", "udp")
    assert "rule udp in namespace current: " in str(answer.failure)
    assert not_evaluated["error"] in str(answer.failure)


def test_an_interface_that_is_nowhere_is_told(target: Target) -> None:
    added(target, 1)
    vpn = rule("vpn", hold=0, while_={"not": {"interface": "wg00", "is": "up"}})
    answer = enforce(target, written(vpn))
    (only,) = answer.result["rules"]
    assert (only["missing_interfaces"], only["holds_in"]) == (["wg00"], [])
    assert (answer.failure, answer.result["matched"]) == (None, 0)
    (warning,) = answer.warnings
    assert {"wg00", "vpn"} <= set(re.findall(r"\w+", warning))
    absent = rule("vpn", hold=0, while_={"not": {"interface": "wg00", "is": "present"}})
    meant = enforce(target, written(absent))
    assert (meant.warnings, meant.result["outcomes"]) == ([], {"destroyed": 1})


def test_what_is_odd_about_a_policy_is_a_warning(target: Target) -> None:
    (warning,) = enforce(target, written(KILL, rule("again"))).warnings
    assert warning.startswith("policy.rules[1] ")
    assert "rules[0]" in warning


def test_more_than_can_be_kept_in_mind_is_told(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(target, 3)
    monkeypatch.setattr(holds, "MAX_HOLDS", 2)
    answer = enforce(target, written(KILL))
    assert answer.result["outcomes"] == {"destroyed": 2}
    assert answer.result["rules"][0]["by_status"] == {"destroy": 2, "hold": 1}
    (warning,) = answer.warnings
    assert numbers(warning) == [1]


def test_a_hold_is_waited_for(target: Target) -> None:
    doomed = added(target, 1)
    answer = enforce(target, written(rule("kill", hold="90s")))
    assert target.now >= 90
    assert named(answer.result["destroyed"]) == doomed


def test_wrong_policy_is_rejected_with_all_its_errors(target: Target) -> None:
    policy = written(rule("a", match={"user": "nobody-here"}), rule("b", hold="soon"))
    with pytest.raises(PolicyErrors) as rejected:
        enforce(target, policy)
    assert [error.path for error in rejected.value.errors] == [
        ("policy", "rules", 0, "match", "user"),
        ("policy", "rules", 1, "hold"),
    ]


def test_an_engine_that_cannot_work_is_told_before_anything_is_done(target: Target) -> None:
    added(target, 1)
    with pytest.raises((EngineUnavailable, InputError)):
        enforce(target, written(KILL), engine="nothing")
    assert target.sockets.destroyed == []


def test_all_that_it_returns_is_documented() -> None:
    documented = module("socket_policy")["RETURN"]
    # `errors` comes with a refusal, and `diff` is Ansible's own.
    assert set(documented) - {"errors", "msg"} == RESULT_KEYS
    described = text(documented["violations"]["contains"]["status"]["description"])
    assert [status for status in findings.STATUSES if f"V({status})" not in described] == []


def test_its_examples_are_taken(target: Target) -> None:
    tasks = module("socket_policy")["EXAMPLES"]
    given = [task.get("linuxnet.sockets.socket_policy") or {} for task in tasks]
    policies = [each["policy"] for each in given if "policy" in each]
    assert policies
    for policy in policies:
        answer = enforce(target, policy)
        assert (answer.failure, answer.warnings) == (None, [])


def test_check_of_a_valid_policy(target: Target) -> None:
    checked = api.check_policy(written(KILL), host=target.host)
    assert checked.valid
    assert checked.to_dict()["digest"] == model.digest(written(KILL))


def test_check_returns_all_errors(target: Target) -> None:
    policy = written(rule("a", match={"user": "nobody-here"}), rule("b", hold="soon"))
    checked = api.check_policy(policy, host=target.host)
    assert not checked.valid
    assert len(checked.errors) == len(checked.to_dict()["errors"]) == 2


def test_check_for_other_machines_looks_up_no_names(target: Target) -> None:
    policy = written(rule("a", match={"user": "nobody-here"}))
    assert not api.check_policy(policy, host=target.host).valid
    assert api.check_policy(policy, resolve_names=False, host=target.host).valid


def test_plan_forecasts_and_changes_nothing(target: Target) -> None:
    cookies = added(target, 2)
    plan = api.plan_policy(written(rule("kill", hold="90s"), TELL), host=target.host)
    kill, tell = plan.rules
    assert [each["record"]["cookie"] for each in kill["sockets"]] == cookies
    assert [(each["status"], each["expected"]) for each in kill["sockets"]] == [
        ("destroy", "destroyed")
    ] * 2
    assert [(each["status"], each["expected"]) for each in tell["sockets"]] == [
        ("reported", None)
    ] * 2
    assert (plan.outcomes, plan.budget_exceeded) == ({"destroyed": 2}, None)
    assert (plan.failures, plan.not_evaluated) == ((), [])
    assert (target.sockets.destroyed, target.now) == ([], 0)


def test_plan_over_budget(target: Target) -> None:
    added(target, 3)
    plan = api.plan_policy(written(KILL, limits={"max_sockets": 2}), host=target.host)
    assert plan.budget_exceeded == {
        "due": 3,
        "max_sockets": 2,
        "per_ms": 60_000,
        "on_excess": "refuse",
    }
    assert {each["status"] for each in plan.rules[0]["sockets"]} == {"limit"}


def test_plan_of_a_missing_namespace_fails(target: Target) -> None:
    plan = api.plan_policy(written(KILL, namespaces=["current", "nowhere"]), host=target.host)
    (missing,) = plan.not_evaluated
    assert (missing["namespace"], missing["rule"]) == ("nowhere", None)
    assert len(plan.failures) == 1


def test_plan_of_a_wrong_policy_is_an_error(target: Target) -> None:
    with pytest.raises(PolicyErrors):
        api.plan_policy({"version": 1}, host=target.host)
