# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What came of trying the kernels: kept in a file, and shown on a page made from it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.kernel_matrix.catalogue import KERNELS
from tests.kernel_matrix.image import PROJECT

FILE = Path(__file__).parent / "results.json"
PAGE = PROJECT / "docs" / "docsite" / "rst" / "kernels.rst"

_BEGIN = ".. Made by tools/test-kernels from here"
_END = ".. Made by tools/test-kernels up to here"
_PROTOCOLS = ("tcp", "udp", "udplite", "raw", "mptcp")
_OUTCOMES = {"failed": "failed", "expected": "differ as expected", "skipped": "skipped"}
_FACTS = {
    "destroy tcp": "An established connection",
    "destroy time-wait": "A socket in TIME_WAIT",
    "destroy orphan": "An orphan in FIN_WAIT_2",
    "destroy stuck orphan": "An orphan in FIN_WAIT_1, its peer's window shut",
    "destroy udp": "A UDP socket on an explicit port",
    "destroy udplite": "A UDP-Lite socket",
    "destroy raw": "A raw socket",
    "destroy raw, wrong cookie": "A raw socket, asked for with another's cookie",
    "destroy mptcp": "An MPTCP connection",
    "bound_inactive": "A socket that is bound and nothing else",
    "orphan_uid": "The uid of an orphan",
}


def load() -> list[dict[str, Any]]:
    """One entry for each kernel that was tried, in the catalogue's order."""
    found = json.loads(FILE.read_text()) if FILE.exists() else []
    assert isinstance(found, list)
    return found


def of_all_starts(told: list[dict[str, Any]]) -> dict[str, Any]:
    """What one guest told, that was started once or more, as if it had told it at once."""
    first, *later = told
    tests = dict(first["tests"])
    for each in (again["tests"] for again in later):
        for key in ("arguments", "passed", "others", "seconds"):
            tests[key] = tests[key] + each[key]
        tests["status"] = max(tests["status"], each["status"])
    return {**first, "tests": tests}


def keep(told: dict[str, Any]) -> None:
    """Put a kernel's entry in the place of its former one, and make the page anew."""
    entries = {entry["kernel"]: entry for entry in load()} | {told["kernel"]: told}
    kept = [entries[kernel.name] for kernel in KERNELS if kernel.name in entries]
    FILE.write_text(json.dumps(kept, indent=2) + "\n")
    PAGE.write_text(page_with(PAGE.read_text(), kept))


def page_with(page: str, entries: list[dict[str, Any]]) -> str:
    """The page with what is made from the entries in its place."""
    before, begin, rest = page.partition(_BEGIN)
    _old, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"the page has no lines {_BEGIN!r} and {_END!r}")
    return f"{before}{_BEGIN}\n\n{render(entries)}\n{_END}{after}"


def problems(told: dict[str, Any]) -> list[str]:
    """What did not go as it should; none: all is well."""
    found = [
        f"{name}: {fact['error']}"
        for name, fact in told["facts"].items()
        if isinstance(fact, dict) and "error" in fact
    ]
    tests = told["tests"]
    found += [
        f"{each['test']}: {each['reason']}"
        for each in tests["others"]
        if each["outcome"] == "failed"
    ]
    if tests["status"] not in (0, 1):
        found.append(f"pytest ended with {tests['status']}: {' '.join(tests['arguments'])}")
    return found


def counts(told: dict[str, Any]) -> str:
    """How the tests went, in words: 57 passed, 2 expected to differ, 3 skipped."""
    tests = told["tests"]
    counted = Counter(each["outcome"] for each in tests["others"])
    parts = [f"{tests['passed']} passed"]
    parts += [f"{counted[each]} {words}" for each, words in _OUTCOMES.items() if counted[each]]
    return ", ".join(parts)


def render(entries: list[dict[str, Any]]) -> str:
    """The tables, as reStructuredText."""
    lines = _table(
        ["Kernel", *_PROTOCOLS, "Tried", "Tests", "Date", "Core"],
        [
            [
                f"``{entry['release']}``",
                *(entry["facts"]["support"][each]["verdict"] for each in _PROTOCOLS),
                _tried(entry),
                counts(entry),
                entry["date"],
                f"``{entry['digest'][:12]}``",
            ]
            for entry in entries
        ],
    )
    lines += ["", "What the kernel answered, and what a fresh look showed:", ""]
    lines += _facts(_once(entries))
    lines += ["", "Tests that were not simply passed, and why:", ""]
    for entry in entries:
        reasons = Counter((each["outcome"], each["reason"]) for each in entry["tests"]["others"])
        for (outcome, reason), count in sorted(reasons.items()):
            lines.append(f"* ``{_short(entry)}``, {count} {_OUTCOMES[outcome]}: {_escaped(reason)}")
    lines += ["", "Packages, and the digests of the core that was tried:", ""]
    for entry in entries:
        lines.append(f"* ``{entry['package']}``, {_tried(entry)}: ``{entry['digest']}``")
    return "\n".join(lines) + "\n"


def _tried(entry: dict[str, Any]) -> str:
    arguments = entry["tests"]["arguments"]
    agent = all(each.startswith("tests/kernel/agent/") for each in arguments)
    return "agent" if agent else "destroying"


def _once(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each kernel of which there are several, each with other tests: the first."""
    return list({_short(entry): entry for entry in reversed(entries)}.values())[::-1]


def _facts(entries: list[dict[str, Any]]) -> list[str]:
    return _table(
        ["Asked for", *(_short(entry) for entry in entries)],
        [
            [words, *(_words(entry["facts"][name]) for entry in entries)]
            for name, words in _FACTS.items()
        ]
        + [
            ["Filter ops refused", *(_refused(entry) for entry in entries)],
            [
                "Bytes of ``struct tcp_info``",
                *(str(entry["facts"]["connection"]["tcp_info_bytes"]) for entry in entries),
            ],
            [
                "Tells a socket's cgroup",
                *("yes" if entry["facts"]["connection"]["cgroup"] else "no" for entry in entries),
            ],
        ],
    )


def _short(entry: dict[str, Any]) -> str:
    name = ".".join(entry["release"].split(".")[:2])
    return f"{name} (user-mode)" if entry["machine"] == "uml" else name


def _words(fact: object) -> str:
    return _escaped(str(fact).replace("_", " ") if isinstance(fact, str) else f"unknown: {fact}")


def _refused(entry: dict[str, Any]) -> str:
    refused = {name: told for name, told in entry["facts"]["bytecode"].items() if told != "ok"}
    return ", ".join(f"{name}: {told}" for name, told in refused.items()) or "none"


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "*`|_\\" else each for each in text)


def _table(head: list[str], rows: list[list[str]]) -> list[str]:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if number == 0 else ' '} - {cell}" for number, cell in enumerate(row)]
    return lines
