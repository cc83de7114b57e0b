# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile names in each command of socketctl."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets import api
from tests.support.drain_timeline import Timeline
from tests.support.hostile_names import (
    NAME,
    add_victim,
    assert_harmless,
    documents,
    texts_of,
)
from tests.unit.socketctl.conftest import Shell

SHOW_PROCESSES = ("list -d process,verdicts,info", "stuck", "policy plan FILE")


@pytest.mark.parametrize(
    "words",
    [
        *SHOW_PROCESSES,
        "list device=wg00",
        "list --group-by namespace",
        "destroy state=close-wait --dry-run",
        "destroy state=close-wait",
        "destroy state=close-wait --yes",
        "drain state=close-wait --dry-run",
        "drain state=close-wait --grace 1 --yes",
        "policy check FILE",
        "policy check WRONG",
        "policy enforce FILE --dry-run",
        "policy enforce FILE --yes",
        "policy plan WRONG",
        "policy plan MISSING",
        "list --namespaces NAME",
        "list cgroup=NAME process=NAME",
        "destroy expression=NAME --dry-run",
        "NAME",
        "list --NAME",
    ],
)
def test_socketctl(
    machine: Timeline,
    socketctl: Shell,
    tmp_path: Path,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    add_victim(machine)
    files = documents(tmp_path)
    given = [NAME if word == "NAME" else files.get(word, word) for word in words.split()]
    given = [word.replace("NAME", NAME) for word in given]
    for typed in ("n\n", None):
        try:
            done = socketctl(*given, typed=typed)
        except SystemExit:
            # argparse writes to the standard error of the process.
            assert_harmless(capsys.readouterr().err)
            return
        # Progress writes over its line.
        progress = "\r" if "drain" in words else ""
        shown = (done.out + done.err).replace("\x1b[K", "")
        assert_harmless(shown, own=progress)
        if words in SHOW_PROCESSES:
            assert r"\x1b[2J" in shown


@pytest.mark.parametrize("command", ["list -d process", "stuck", "policy plan FILE"])
def test_data_of_socketctl(
    machine: Timeline, socketctl: Shell, tmp_path: Path, command: str
) -> None:
    """Data is printable too, since programs print it: jq -r, debuggers, Salt's outputters."""
    add_victim(machine)
    files = documents(tmp_path)
    words = [files.get(word, word) for word in command.split()]
    for text in texts_of([socketctl(*words, "--json").json, socketctl(*words, "--ndjson").lines]):
        assert_harmless(text or "-")


@pytest.mark.parametrize(
    "comm",
    [b"e\x1b[2J\xff", "e\u202ev\x9b".encode(), b"a\\x1b\x1b\t", "\u200b\u034f".encode(), b"a\\x1b"],
)
def test_names_lead_back_to_their_sockets(machine: Timeline, comm: bytes) -> None:
    """Selectors take a name as results show it."""
    add_victim(machine)
    machine.proc.joinpath("700/comm").write_bytes(comm + b"\n")
    found = api.find({"state": "close-wait"}, details=["process"], host=machine.host).to_dict()
    (shown,) = found["sockets"][0]["processes"]
    assert_harmless(shown["comm"])
    again = api.find({"state": "close-wait", "process": shown["comm"]}, host=machine.host)
    assert again.matched == 1
