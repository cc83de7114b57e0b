# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find words that this project replaces by the terms of its field.

usage: prose_lint.py [FILE...]      (default: all files of the checkout)

It checks comments, strings with blanks (docstrings, documentation, messages) and new names in
Python, comments in shell scripts, and all text in .rst, .md, .yml, .yaml and .j2 files. Inline code
(`name` or ``name``) is not checked. It prints `file:line: problem` and exits with status 1 if it
finds any.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Term(NamedTuple):
    """A pattern of words, and the replacement to suggest. in_names: forbidden in names too."""

    pattern: str
    replacement: str
    in_names: bool = False


TERMS = (
    Term("anew", "again"),
    Term("(as|where) it (lies|stands)", "the path or the state"),
    Term("bids?( not)? to", "inhibits"),
    Term("brakes?", "budget", in_names=True),
    Term("deaf", "not subscribed", in_names=True),
    Term("doomed", "targets", in_names=True),
    Term("ears?", "event listener", in_names=True),
    Term("for want of", "without"),
    Term("hears?|heard|hearing", "receive"),
    Term("hitherto|thereupon|therein|thereof|wherein|whence|lest", "a modern word"),
    Term("(un)?judge[sd]?|judge?ments?", "evaluate, evaluation", in_names=True),
    Term("kin", "MPTCP peers", in_names=True),
    Term("knows? nothing( of)?", "does not have, is unknown"),
    Term("ledgers?", "budget", in_names=True),
    Term("(leaves?|left) in peace", "skip"),
    Term("(an?|each|every|first|last|latest|next|one|the) looks?(?!-| up)", "snapshot, pass"),
    Term("misspel[lt]+", "unknown X; existing: ..."),
    Term("newcomers?", "new connections"),
    Term("Private to linuxnet.sockets:", "a comment: # Private to linuxnet.sockets."),
    Term("restraints?", "inhibitor", in_names=True),
    Term("sees? to it", "ensures"),
    Term("spare[sd]", "protect, protected", in_names=True),
    Term("tellers?", "reporter", in_names=True),
    Term("that which|what is (asked|meant|told|wanted)", "the noun"),
    Term("till", "until"),
    Term("told(?! apart)", "report, notify, pass", in_names=True),
    Term("whoever", "the user, the process"),
    Term("with(hold|holds|holding|held)", "inhibit", in_names=True),
)

# Files that contain a term on purpose: its pattern, and the reason.
ALLOWED: Mapping[str, Mapping[str, str]] = {}
# Files that are not checked, with the reason.
EXCLUDED: Mapping[str, str] = {
    "tools/prose_lint.py": "contains the terms",
    "tests/unit/test_prose_lint.py": "contains planted terms",
}

_TEXT_SUFFIXES = (".rst", ".md", ".yml", ".yaml", ".j2")


def _in_prose(term: Term) -> re.Pattern[str]:
    words = term.pattern.replace(" ", r"\s+")
    return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE)


def _in_names(term: Term) -> re.Pattern[str]:
    return re.compile(rf"(?<![a-z])(?:{term.pattern})(?![a-z])")


_PROSE = [(term, _in_prose(term)) for term in TERMS]
_NAMES = [(term, _in_names(term)) for term in TERMS if term.in_names]
_INLINE_CODE = re.compile(r"``[^`]*``|`[^`\n]*`")


class Finding(NamedTuple):
    """A term in a line of a file. file: path relative to the checkout."""

    file: str
    line: int
    text: str
    replacement: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text!r}; write instead: {self.replacement}"


def prose_findings(file: str, text: str, first_line: int = 1) -> Iterator[Finding]:
    """Find terms in text. A term may continue on the next line."""
    code_removed = _INLINE_CODE.sub(lambda code: re.sub(r"[^\n]", " ", code[0]), text)
    allowed = ALLOWED.get(file, {})
    # Replace line breaks, indentation and comment signs by blanks, without moving the text.
    flat = re.sub(r"\n[ \t#]*", lambda gap: " " * len(gap[0]), code_removed)
    for term, pattern in _PROSE:
        if term.pattern in allowed:
            continue
        for match in pattern.finditer(flat):
            line = first_line + text.count("\n", 0, match.start())
            yield Finding(file, line, " ".join(match[0].split()), term.replacement)


def name_findings(file: str, name: str, line: int) -> Iterator[Finding]:
    """Find terms among the words of a snake_case or CamelCase name."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    allowed = ALLOWED.get(file, {})
    for term, pattern in _NAMES:
        if term.pattern not in allowed and pattern.search(words):
            yield Finding(file, line, name, term.replacement)


def new_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the names that a module defines: functions, classes, arguments and variables."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def python_findings(file: str, source: str) -> Iterator[Finding]:
    """Check comments, strings with blanks, and new names."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = ((t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT)
    for start, text in comment_blocks(comments):
        yield from prose_findings(file, text, start)
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from prose_findings(file, node.value, node.lineno)
    for name, line in new_names(tree):
        yield from name_findings(file, name, line)


def comment_blocks(comments: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Join comments on adjacent lines. Yields the first line and the text."""
    start, lines = 0, list[str]()
    for line, text in comments:
        if lines and line == start + len(lines):
            lines.append(text)
            continue
        if lines:
            yield start, "\n".join(lines)
        start, lines = line, [text]
    if lines:
        yield start, "\n".join(lines)


def shell_findings(file: str, source: str) -> Iterator[Finding]:
    comments = (
        (number, line.strip())
        for number, line in enumerate(source.splitlines(), 1)
        if line.lstrip().startswith("#")
    )
    for start, text in comment_blocks(comments):
        yield from prose_findings(file, text, start)


def file_findings(path: Path, root: Path = ROOT) -> list[Finding]:
    """Check one file. Files of other types have no findings."""
    file = path.relative_to(root).as_posix()
    if file in EXCLUDED:
        return []
    found: Iterator[Finding] = iter(())
    if path.suffix == ".py":
        found = python_findings(file, path.read_text(encoding="utf-8"))
    elif path.suffix in _TEXT_SUFFIXES:
        found = prose_findings(file, path.read_text(encoding="utf-8"))
    elif not path.suffix and path.read_bytes().startswith(b"#!"):
        found = shell_findings(file, path.read_text(encoding="utf-8"))
    return sorted(set(found), key=lambda finding: (finding.line, finding.text))


def checkout_files() -> list[Path]:
    """Files that git tracks or would add."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    paths = (ROOT / name for name in sorted(filter(None, listed.split("\0"))))
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def main(arguments: Sequence[str]) -> int:
    paths = [Path(argument).resolve() for argument in arguments] or checkout_files()
    findings = [finding for path in paths for finding in file_findings(path)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
