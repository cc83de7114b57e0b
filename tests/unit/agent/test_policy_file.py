# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Invalid policy and protection files are rejected quickly, with short messages."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent.policy_file import Rejected, load_policy
from linuxnet_sockets.host.host import Host
from tests.support.fake_machine import connection
from tests.support.named_pipes import pipe
from tests.support.policy_documents import document, rule
from tests.unit.agent.conftest import Harness


def _match(**match: Any) -> bytes:
    return json.dumps(document({"name": "a", "match": match})).encode()


GARBAGE = {
    "long process number": json.dumps(
        document({"name": "a", "match": {"remote_port": 1}}, namespaces=["pid:" + "9" * 5000])
    ).encode(),
    "repeated key": b"{" + b",".join(b'"%d":1' % (n % 99_999) for n in range(100_000)) + b"}",
    "unknown keys": b"{" + b",".join(b'"%d":1' % n for n in range(10_000)) + b"}",
    "long key": b'{"%s": 1}' % (b"x" * 100_000),
    "long expression": _match(expression="9" * 3_000_000),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_is_rejected_quickly_with_short_errors(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(raw)
    before = time.process_time()
    policy = load_policy(str(file), Host())
    # Seconds on the slowest machine. These took minutes and hours.
    assert time.process_time() - before < 20
    assert isinstance(policy, Rejected)
    assert 0 < sum(map(len, policy.errors)) < 60_000


def test_omitted_errors_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({**document(), **dict.fromkeys(map(str, range(1000)), 1)}))
    policy = load_policy(str(file), Host())
    assert isinstance(policy, Rejected)
    assert re.findall(r"\d+", policy.errors[-1]) == [str(1000 - len(policy.errors) + 1)]


@pytest.mark.parametrize("kind", ["pipe", "nested"])
def test_invalid_protection_file_is_named(harness: Harness, kind: str) -> None:
    harness.machine.files.mkdir()
    odd = harness.machine.files / "odd.json"
    harness.machine.add(connection(local_port=1))
    harness.write(rule(hold=0))
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            stack.enter_context(pipe(odd))
        else:
            odd.write_text("[" * 100_000)
        before = time.monotonic()
        harness.run_for()
        assert time.monotonic() - before < 2
    (error,) = harness.status["rejected"]["errors"]
    assert str(odd) in error
    assert str(harness.policy) not in error
    # Unknown protections: nothing may be destroyed.
    assert (harness.status["inhibited_by"], harness.destroyed) == ("no_policy", [])
    odd.unlink()
    harness.run_for(11)
    assert harness.status["rejected"] is None
    assert len(harness.destroyed) == 1
