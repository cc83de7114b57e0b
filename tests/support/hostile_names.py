# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names that try to control a terminal, and the check that an output does not contain them."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.fake_kernel import FakeSocket
from tests.support.fake_kernel.model import CLOSE_WAIT
from tests.support.fake_machine import FakeMachine, connection
from tests.support.policy_documents import document, rule

# How a line begins that a name has added to the output.
FORGED = "FORGED"

PARTS = {
    "clear": "\x1b[2J",
    "c1": "\x9b2J",
    "bell": "\x07",
    "return": "\rFORGED",
    "newline": "\nFORGED",
    "next line": "\x85FORGED",
    "separator": "\u2028FORGED",
    "tab": "a\tb",
    "nul": "a\0b",
    "delete": "a\x7f",
    "override": "a\u202egnp.exe",
    "isolate": "a\u2066b",
    "zero width": "a\u200bb\u200d\ufeff",
    "without glyph": "a\u034f\u3164b\ufe0f",
    "not UTF-8": "a\udc9b2J\udcff",
    "surrogate": "a\ud800",
    "tags": "a\U000e0041",
}
NAME = "".join(PARTS.values())
# Names of files, processes and interfaces that tests create have neither NUL nor lone surrogates.
FILE_NAME = NAME.replace("\0", "").replace("\ud800", "").replace("\udc9b", "").replace("\udcff", "")
QUIET = {"last_ack_recv": 900_000, "last_data_recv": 900_000, "bytes_received": 1}


def assert_harmless(text: str, *, own: str = "") -> None:
    """own: characters of the program itself."""
    assert text
    text.encode()
    # splitlines() also ends lines at U+0085 and U+2028.
    assert not [line for line in text.splitlines() if line.lstrip("\x00\r").startswith(FORGED)]
    bad = {
        f"U+{ord(char):04X}"
        for char in text.replace("\n", "")
        if char not in own
        and (
            unicodedata.category(char) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
            or char in "\u00a0\u034f\u3164\ufe0f"
        )
    }
    assert not bad, bad


def add_victim(machine: FakeMachine) -> FakeSocket:
    """A stuck connection of a process with a hostile name, beside an interface with another."""
    machine.process(700, comm="evil", program="/bin/evil")
    machine.proc.joinpath("700/comm").write_bytes(
        NAME.replace("\n", "").encode("utf-8", "surrogatepass") + b"\xff\x9b\n"
    )
    machine.sockets.link(7, FILE_NAME.replace("\n", ""))
    return machine.add(connection(state=CLOSE_WAIT, tcp_info=QUIET), holder=700)


def documents(folder: Path) -> dict[str, str]:
    """A policy, one with errors in it, and a file that is missing, all with hostile names."""
    sound = document(
        rule("close-wait", match={"state": "close-wait", "not": {"local": "interface:wg00"}}),
        rule("without", while_={"interface": "wg00", "is": "up"}),
        rule("processes", match={"process": FILE_NAME}),
        rule("all", match={"state": "close-wait"}, hold=0),
    )
    wrong = {**sound, "rules": [{"name": FILE_NAME, "match": {FILE_NAME: FILE_NAME}}]}
    files = {"FILE": "sound.json", "WRONG": f"wrong {FILE_NAME.replace('/', '')}.json"}
    for name, content in (("FILE", sound), ("WRONG", wrong)):
        folder.joinpath(files[name]).write_text(json.dumps(content))
    paths = {name: str(folder / file) for name, file in files.items()}
    return {**paths, "MISSING": str(folder / f"missing {FILE_NAME}.json")}


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from texts_of(item)
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item)
    elif isinstance(value, str):
        yield value
