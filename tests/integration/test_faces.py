# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation, several faces: modules, socketctl and the API give the same answers.

The Salt side is tests/salt/functional/test_faces.py, which has the same cases.
"""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets import api
from tests.integration.controller import Controller, cookies, task
from tests.integration.socket_process import SocketProcess
from tests.support.faces import (
    CASES,
    OPERATIONS,
    SUCCESSFUL,
    Answer,
    Case,
    answer,
    ask_api,
    connected_cases,
)
from tests.support.socketctl import Socketctl
from tests.support.topologies.topology import Pair

# Ansible itself checks closed lists of values, and words its own error.
CHECKED_BY_ANSIBLE = {
    "destroy by a bad engine": ("engine", "magic", "auto, netlink, bpf, pidfd"),
    "drain until a bad word": ("until", "gone", "closed, sent"),
}


@pytest.fixture(scope="module")
def cases(pair: Pair, client: SocketProcess, server: SocketProcess) -> dict[str, Case]:
    return connected_cases(pair, client, server)


@pytest.fixture(scope="module")
def expected(pair: Pair, cases: dict[str, Case]) -> dict[str, Answer]:
    return {name: pair.client.run(ask_api, case) for name, case in cases.items()}


@pytest.fixture(scope="module")
def of_modules(cases: dict[str, Case], controller: Controller) -> dict[str, Answer]:
    results = controller.play(
        *(
            task(
                OPERATIONS[case.operation][1],
                {"match": case.match, **case.options},
                check=case.operation != "find",
            )
            for case in cases.values()
        )
    )
    return {
        name: answer(result, result["msg"] if result["failed"] else None)
        for name, result in zip(cases, results, strict=True)
    }


@pytest.fixture(scope="module")
def socketctl(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Socketctl:
    return Socketctl(pair.client, tmp_path_factory.mktemp("socketctl"))


def ask_socketctl(socketctl: Socketctl, case: Case) -> Answer:
    command = OPERATIONS[case.operation][2]
    modes = () if command == "list" else ("--dry-run",)
    done = socketctl(command, *case.words, *modes, "--json")
    error = None if done.status == 0 else done.err.removeprefix("socketctl: ").rstrip("\n")
    return answer(done.json if done.out else None, error)


@pytest.mark.parametrize("name", CASES)
def test_cases_cover_success_and_failure(expected: dict[str, Answer], name: str) -> None:
    found = expected[name]
    if name in SUCCESSFUL:
        assert found.error is None
        assert found.matched
    else:
        assert found.error


@pytest.mark.parametrize("name", CASES)
def test_module_answers_as_the_api(
    expected: dict[str, Answer], of_modules: dict[str, Answer], name: str
) -> None:
    found = of_modules[name]
    if name in CHECKED_BY_ANSIBLE:
        for words in CHECKED_BY_ANSIBLE[name]:
            assert words in str(found.error)
            assert words in str(expected[name].error)
        found = found._replace(error=expected[name].error)
    assert found == expected[name]


@pytest.mark.parametrize("name", CASES)
def test_socketctl_answers_as_the_api(
    cases: dict[str, Case], expected: dict[str, Answer], socketctl: Socketctl, name: str
) -> None:
    assert ask_socketctl(socketctl, cases[name]) == expected[name]


@pytest.mark.parametrize("face", ["api", "module", "socketctl"])
def test_each_face_destroys_the_selected_connections_only(
    pair: Pair,
    client: SocketProcess,
    server: SocketProcess,
    controller: Controller,
    socketctl: Socketctl,
    face: str,
) -> None:
    port, other = (server.listen(pair.server4)["port"] for _each in range(2))
    targets = client.connect(pair.server4, port, 3)
    others = client.connect(pair.server4, other, 2)
    match = {"remote_port": port}
    result: dict[str, Any]
    if face == "api":
        result = pair.client.run(api.destroy, match).to_dict()
    elif face == "module":
        (result,) = controller.play(task("socket_destroy", {"match": match}))
    else:
        done = socketctl("destroy", f"remote_port={port}", "--yes", "--json")
        assert (done.status, done.err) == (0, "")
        result = done.json
    assert result["outcomes"] == {"destroyed": 3}
    assert cookies(result["destroyed"]) == {each["cookie"] for each in targets}
    assert set(client.state(*(each["number"] for each in targets))) == {"ECONNABORTED"}
    assert set(client.state(*(each["number"] for each in others))) == {"open"}


def test_there_are_twenty_cases_at_least() -> None:
    assert len(CASES) >= 20
    assert {case.operation for case in CASES.values()} == set(OPERATIONS)
