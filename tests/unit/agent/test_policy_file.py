# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that are no policies or protections: refused in a while that nobody notices, in few
words."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.agent.policy_file import Refusal, read_policy
from linuxnet_sockets.host.host import Host
from tests.support.fake_machine import connection
from tests.support.named_pipes import pipe
from tests.support.policy_documents import document, rule
from tests.unit.agent.conftest import Bench


def _match(**match: Any) -> bytes:
    return json.dumps(document({"name": "a", "match": match})).encode()


GARBAGE = {
    "a process number of thousands of digits": json.dumps(
        document({"name": "a", "match": {"remote_port": 1}}, namespaces=["pid:" + "9" * 5000])
    ).encode(),
    "a key twice": b"{" + b",".join(b'"%d":1' % (n % 99_999) for n in range(100_000)) + b"}",
    "keys that nobody knows": b"{" + b",".join(b'"%d":1' % n for n in range(10_000)) + b"}",
    "a long key": b'{"%s": 1}' % (b"x" * 100_000),
    "a long word of a filter": _match(expression="9" * 3_000_000),
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_is_refused_soon_and_in_few_words(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "policy.json"
    file.write_bytes(raw)
    before = time.process_time()
    read = read_policy(str(file), Host())
    # Seconds, on the slowest machine; these took minutes and hours.
    assert time.process_time() - before < 20
    assert isinstance(read, Refusal)
    assert 0 < sum(map(len, read.reasons)) < 60_000


def test_what_is_not_told_is_counted(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({**document(), **dict.fromkeys(map(str, range(1000)), 1)}))
    read = read_policy(str(file), Host())
    assert isinstance(read, Refusal)
    assert re.findall(r"\d+", read.reasons[-1]) == [str(1000 - len(read.reasons) + 1)]


@pytest.mark.parametrize("kind", ["pipe", "nested"])
def test_what_lies_among_the_protections_is_refused_by_its_own_name(
    bench: Bench, kind: str
) -> None:
    bench.machine.files.mkdir()
    odd = bench.machine.files / "odd.json"
    bench.machine.add(connection(local_port=1))
    bench.write(rule(hold=0))
    with contextlib.ExitStack() as stack:
        if kind == "pipe":
            stack.enter_context(pipe(odd))
        else:
            odd.write_text("[" * 100_000)
        before = time.monotonic()
        bench.goes_on()
        assert time.monotonic() - before < 2
    (reason,) = bench.status["rejected"]["errors"]
    assert str(odd) in reason
    assert str(bench.policy) not in reason
    # Nobody knows what it was to protect.
    assert (bench.status["inhibited_by"], bench.destroyed) == ("no_policy", [])
    odd.unlink()
    bench.goes_on(11)
    assert bench.status["rejected"] is None
    assert len(bench.destroyed) == 1
