# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation, several faces: the functions that Salt loads give the answers of the API.

tests/integration/test_faces.py compares the modules and socketctl with the API by the same cases.
No option needs other words here: those of the functions have the names of the API, except ``test``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import salt.payload
from salt.exceptions import CommandExecutionError

from tests.integration.socket_process import SocketProcess
from tests.salt.conftest import Minion
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
from tests.support.topologies.topology import Pair, pair, unavailable_reason


@pytest.fixture(scope="module")
def network() -> Iterator[Pair]:
    reason = unavailable_reason()
    if reason is not None:
        pytest.skip(reason)
    with pair() as made:
        yield made


@pytest.fixture(scope="module")
def cases(network: Pair) -> dict[str, Case]:
    client, server = (SocketProcess(each.spawn) for each in (network.client, network.server))
    return connected_cases(network, client, server)


@pytest.fixture(scope="module")
def expected(network: Pair, cases: dict[str, Case]) -> dict[str, Answer]:
    return {name: network.client.run(ask_api, case) for name, case in cases.items()}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Minion:
    return Minion(tmp_path_factory.mktemp("faces"))


def ask_salt(minion: Minion, case: Case, selector: dict[str, Any]) -> tuple[Answer, int]:
    """The answer of the function, after Salt's transport, and the return code that it sets.

    selector: the arguments that select. The function runs in the calling thread, and therefore in
    its network namespace.
    """
    command = OPERATIONS[case.operation][2]
    options = {**selector, **case.options, "__pub_jid": "20260101", "__pub_ret": ""}
    if command != "list":
        options["test"] = True
    try:
        returned = minion(f"sockets.{command}", **options)
    except CommandExecutionError as error:
        return answer(None, str(error)), minion.retcode
    result = salt.payload.loads(salt.payload.dumps(returned))
    return answer(result, " ".join(result["failures"]) or None), minion.retcode


@pytest.mark.parametrize("form", ["keywords", "match"])
@pytest.mark.parametrize("name", CASES)
def test_salt_answers_as_the_api(
    network: Pair,
    cases: dict[str, Case],
    expected: dict[str, Answer],
    loaded: Minion,
    name: str,
    form: str,
) -> None:
    case = cases[name]
    selector = case.match if form == "keywords" else {"match": case.match}

    found, retcode = network.client.run(ask_salt, loaded, case, selector)

    assert found == expected[name]
    assert (found.error is None and bool(found.matched)) == (name in SUCCESSFUL)
    # Salt itself sets the return code of a function that raises.
    failed = found.error is not None and found.matched is not None
    assert retcode == int(failed)
