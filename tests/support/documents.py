# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the code blocks of the README files and the manual."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "roles" / "agent" / "README.md",
    ROOT / "roles" / "kernel_support" / "README.md",
    *sorted((ROOT / "docs" / "docsite" / "rst").glob("*.rst")),
)

_FENCE = re.compile(r"^```(?P<language>\S*)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
_DIRECTIVE = re.compile(r"^(?P<indent> *)\.\. code-block:: (?P<language>\S+)$")
_PROMPTS = ("$ ", "# ")


class Block(NamedTuple):
    """A code block. page: relative to the checkout. line: of its first line."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a console block, each with its continuation lines."""
        found: list[str] = []
        continues = False
        for line in self.text.splitlines():
            if continues:
                found[-1] += f"\n{line}"
            elif line.startswith(_PROMPTS):
                found.append(line[2:])
            continues = (continues or line.startswith(_PROMPTS)) and line.endswith(("\\", "|"))
        return found


def blocks() -> list[Block]:
    """All code blocks of PAGES."""
    return [block for page in PAGES for block in _of_page(page)]


def _of_page(page: Path) -> Iterator[Block]:
    name = str(page.relative_to(ROOT))
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start("text")) + 1
            yield Block(name, line, match["language"], match["text"])
        return
    lines = text.splitlines()
    for number, line in enumerate(lines):
        directive = _DIRECTIVE.match(line)
        if directive is not None:
            body = _body(lines[number + 1 :], len(directive["indent"]))
            yield Block(name, number + 3, directive["language"], body)


def _body(lines: list[str], indent: int) -> str:
    """The indented lines at the start, without their indentation."""
    found: list[str] = []
    for line in lines:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        found.append(line)
    return textwrap.dedent("\n".join(found)).strip("\n") + "\n"
