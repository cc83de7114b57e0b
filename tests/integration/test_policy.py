# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Module socket_policy, run with Ansible: validation, holds, reports and limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.integration.controller import Controller, Result, cookies, task
from tests.integration.socket_process import SocketProcess
from tests.support.topologies.topology import Pair

ABORTED = "ECONNABORTED"


def enforce(
    policy: dict[str, Any] | None, *, check: bool = False, diff: bool = False, **options: Any
) -> Result:
    source = {} if policy is None else {"policy": policy}
    return task("socket_policy", {**source, **options}, check=check, diff=diff)


def policy(*rules: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"version": 1, "limits": {"max_sockets": 100, "per": "1m"}, "rules": list(rules), **more}


@pytest.fixture(scope="module")
def port(pair: Pair, server: SocketProcess) -> int:
    return server.listen(pair.server4)["port"]


def test_enforce_once(pair: Pair, client: SocketProcess, port: int, controller: Controller) -> None:
    """Check mode predicts the sockets that the next run destroys; a third run finds none."""
    made = client.connect(pair.server4, port, 3)
    numbers = [connection["number"] for connection in made]
    protected = client.connect(pair.server4, port, 1)[0]
    document = policy(
        {
            "name": "to-the-server",
            "while": {"interface": "lo", "is": "up"},
            "match": {"remote": f"{pair.server4}:{port}"},
            "hold": "500ms",
        },
        {"name": "report-only", "match": {"remote": pair.server4}, "action": "report", "hold": 0},
        protect={"selectors": [{"local_port": protected["port"]}]},
    )
    plan, done, second, reported = controller.play(
        enforce(document, check=True, diff=True),
        enforce(document),
        enforce(document),
        enforce({**document, "mode": "report"}),
    )
    expected = cookies(made)
    assert cookies(plan["destroyed"]) == expected
    assert plan["changed"]
    assert plan["diff"]["before"].count("\n") == 3
    assert cookies(done["destroyed"]) == expected
    assert done["outcomes"] == {"destroyed": 3, "protected": 1}
    assert [entry["reason"] for entry in done["protected"]] == ["selector"]
    assert set(client.state(*numbers)) == {ABORTED}
    rule, report_rule = done["rules"]
    assert (rule["by_status"], rule["holds_in"]) == ({"destroy": 3, "protected": 1}, ["current"])
    assert report_rule["by_status"] == {"reported": 4}
    assert len(done["violations"]) == done["matched"] == 8
    assert not second["changed"]
    assert second["outcomes"] == {"protected": 1}
    assert not reported["changed"]
    assert (reported["mode"], reported["digest"] == done["digest"]) == ("report", False)


def test_invalid_policy_rejected_on_controller(controller: Controller, tmp_path: Path) -> None:
    bad = policy(
        {"name": "a", "match": {"remot": "10.0.0.1"}},
        {"name": "a", "match": {"remote": []}, "hold": "soon"},
    )
    (tmp_path / "empty.yml").write_text("---\n")
    (tmp_path / "twice.yml").write_text("version: 1\nversion: 1\n")
    wrong, empty, missing, twice, both, neither = controller.play(
        enforce(bad),
        enforce(None, src=str(tmp_path / "empty.yml")),
        enforce(None, src=str(tmp_path / "nowhere.yml")),
        enforce(None, src=str(tmp_path / "twice.yml")),
        enforce(bad, src=str(tmp_path / "empty.yml")),
        enforce(None),
    )
    assert wrong["failed"]
    assert not wrong["changed"]
    # The module did not run: only it returns outcomes.
    assert "outcomes" not in wrong
    errors = " ".join(wrong["errors"])
    for word in ("policy.rules[0].match", "remot", "policy.rules[1]", "soon"):
        assert word in errors
    assert "empty.yml" in empty["msg"]
    assert "nowhere.yml" in missing["msg"]
    assert "twice.yml" in twice["msg"]
    assert "'version'" in twice["msg"]
    for result in (both, neither):
        assert {"policy", "src"} <= set(re.findall(r"\w+", result["msg"]))
    assert all(result["failed"] for result in (empty, missing, twice, both, neither))


def test_limits(
    pair: Pair, client: SocketProcess, port: int, controller: Controller, tmp_path: Path
) -> None:
    made = client.connect(pair.server4, port, 3)
    rule = {"name": "all", "match": {"remote": f"{pair.server4}:{port}"}, "hold": 0}
    file = tmp_path / "policy.yml"
    file.write_text(
        "version: 1\n"
        "limits: {max_sockets: 2, per: 1m}\n"
        "rules:\n"
        f"  - name: all\n    hold: 0\n    match: {{remote: '{pair.server4}:{port}'}}\n"
    )
    rejected, paced = controller.play(
        enforce(None, src=str(file)),
        enforce(policy(rule, limits={"max_sockets": 2, "per": "1m", "on_excess": "pace"})),
    )
    assert rejected["failed"]
    assert not rejected["changed"]
    assert "limits.max_sockets" in rejected["msg"]
    assert rejected["outcomes"]["limit"] == len(rejected["survivors"]) >= 3
    assert paced["failed"]
    assert paced["outcomes"]["destroyed"] == 2
    states = client.state(*(connection["number"] for connection in made))
    assert states.count(ABORTED) <= 2
