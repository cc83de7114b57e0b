# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The check of terms, on planted text. `make lint` runs it on the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import prose_lint


def findings(folder: Path, name: str, text: str) -> list[tuple[int, str, str]]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return [
        (found.line, found.text, found.replacement)
        for found in prose_lint.file_findings(path, folder)
    ]


@pytest.mark.parametrize(
    ("name", "text", "line", "found"),
    [
        ("a.py", '"""Protects a socket and\nits kin."""', 2, "kin"),
        ("a.py", "x = 1\n\n# The socket is left\n# in peace.\n", 3, "left in peace"),
        ("a.py", 'x = 1\ny = f"{x} sockets were spared"', 2, "spared"),
        ("a.py", "def find(doomed):\n    pass", 1, "doomed"),
        ("a.py", "class EventTeller:\n    pass", 1, "EventTeller"),
        ("a.py", "def f(self):\n    self.net_ears = 1", 2, "net_ears"),
        ("a.py", '"""Private to linuxnet.sockets: a helper."""', 1, "Private to linuxnet.sockets:"),
        ("a/b.rst", "Title\n=====\n\nThe agent starts anew.\n", 4, "anew"),
        ("README.md", "One\nlook is enough.", 1, "One look"),
        ("a.yml", "---\n- name: Wait till it ends\n", 2, "till"),
        ("page.html.j2", "<p>What is asked of it", 1, "What is asked"),
        ("tools/run", "#!/bin/sh\n# Whoever runs it\necho told\n", 2, "Whoever"),
    ],
)
def test_planted_term_is_found(tmp_path: Path, name: str, text: str, line: int, found: str) -> None:
    assert [(row, term) for row, term, _use in findings(tmp_path, name, text)] == [(line, found)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "# The key `kin` and ``spared`` are old names.\n"),
        ("a.py", 'x = {"told": 1}\nkind, skin, heard_ms = 1, 2, 3\n'),
        ("a.rst", "The look-up fails, and a look up too. The two are told apart. Kin-like.\n"),
        ("a.json", '{"a": "anew"}'),
        ("tools/run", "#!/bin/sh\necho anew\n"),
        ("binary", "anew"),
    ],
)
def test_other_text_is_accepted(tmp_path: Path, name: str, text: str) -> None:
    assert findings(tmp_path, name, text) == []


def test_finding_names_file_line_and_replacement(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("\nIt bids not to.\n", encoding="utf-8")
    (found,) = prose_lint.file_findings(tmp_path / "a.md", tmp_path)
    assert str(found) == "a.md:2: 'bids not to'; write instead: inhibits"


def test_allowed_term_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prose_lint, "ALLOWED", {"a.rst": {"anew": "quotes a message"}})
    found = findings(tmp_path, "a.rst", "Started anew till now.\n")
    assert [term for _line, term, _use in found] == ["till"]


def test_exceptions_have_existing_files_and_terms() -> None:
    patterns = {term.pattern for term in prose_lint.TERMS}
    for file, terms in prose_lint.ALLOWED.items():
        assert (prose_lint.ROOT / file).is_file()
        assert set(terms) <= patterns
    for file in prose_lint.EXCLUDED:
        assert (prose_lint.ROOT / file).is_file()


def test_main_reports_findings(capsys: pytest.CaptureFixture[str]) -> None:
    clean = str(prose_lint.ROOT / "CONTRIBUTING.md")
    assert prose_lint.main([clean]) == 0
    assert capsys.readouterr().out == ""
