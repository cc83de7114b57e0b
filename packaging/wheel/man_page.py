# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manual page in the macros of man(7), from a parser of argparse."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Union

# Paragraphs, or terms with their descriptions.
Content = Union[str, Sequence[tuple[str, str]]]

_SPECIAL = {"\\": "\\(rs", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti"}
# Words that somebody may copy into a terminal: options, paths, names, key=value.
_LITERAL = re.compile(r"(?<!\S)[(\[']*(?:-|\S*[/=_])\S*")


class ManPage(NamedTuple):
    """What a page says.

    description: more paragraphs of it. sections: title and content of those after the commands.
    examples: for each path of a command, the text and the command line of each example.
    """

    parser: argparse.ArgumentParser
    section: int
    version: str
    description: Sequence[str] = ()
    sections: Sequence[tuple[str, Content]] = ()
    examples: Mapping[str, Sequence[tuple[str, str]]] = MappingProxyType({})


def man_page(page: ManPage) -> str:
    """Return the source of a page."""
    return "".join(f"{line}\n" for line in _lines(page))


def _lines(page: ManPage) -> Iterator[str]:
    parser = page.parser
    prog, about = parser.prog, parser.description or ""
    package = f"linuxnet.sockets {page.version}"
    yield f'.TH {prog.upper()} {page.section} "" "{package}" "linuxnet.sockets"'
    # Do not justify.
    yield from (".ad l", ".SH NAME")
    yield f"{literal(prog)} \\- {prose(about[0].lower() + about[1:].rstrip('.'))}"
    yield from (".SH SYNOPSIS", f".B {literal(prog)}", r"\fICOMMAND\fP [\fIOPTION\fP ...]")
    yield from (".SH DESCRIPTION", prose(about))
    for paragraph in page.description:
        yield from (".PP", prose(paragraph))
    options = list(_options(parser))
    if options:
        yield from (".SH OPTIONS", *options)
    yield from _examples(page, "")
    yield ".SH COMMANDS"
    yield from _commands(page, parser)
    for title, content in page.sections:
        yield f".SH {title}"
        yield from _content(content)


def _commands(page: ManPage, parser: argparse.ArgumentParser) -> Iterator[str]:
    """Describe each command that has no commands of its own."""
    for name, command in _subparsers(parser).items():
        path = command.prog.removeprefix(page.parser.prog).strip()
        if _subparsers(command):
            yield from _commands(page, command)
            continue
        assert path.split()[-1] == name
        yield f'.SS "{literal(_usage(command))}"'
        yield prose(command.description or "")
        yield from _options(command)
        yield from _examples(page, path)


def _usage(parser: argparse.ArgumentParser) -> str:
    """The usage on one line, without the name of the program and without --help."""
    words = parser.format_usage().split()[2:]
    return " ".join(word for word in words if word != "[-h]")


def _subparsers(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    formatter = parser._get_formatter()
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)):
            continue
        name = str(action.metavar or action.dest)
        value = formatter._format_args(action, name)
        if action.option_strings:
            names = ", ".join(f"\\fB{literal(flag)}\\fP" for flag in action.option_strings)
            yield from (".TP", names + (f" \\fI{literal(value)}\\fP" if value else ""))
        else:
            yield from (".TP", f"\\fI{literal(name)}\\fP")
        yield prose(formatter._expand_help(action))


def _examples(page: ManPage, path: str) -> Iterator[str]:
    for text, command in page.examples.get(path, ()):
        yield from (".PP", prose(f"{text}:"), ".PP", ".RS 4", ".EX")
        yield from (_line(literal(line)) for line in command.splitlines())
        yield from (".EE", ".RE")


def _content(content: Content) -> Iterator[str]:
    if isinstance(content, str):
        for number, paragraph in enumerate(content.split("\n\n")):
            yield from ([".PP"] if number else [])
            yield prose(paragraph)
        return
    for term, text in content:
        yield from (".TP", f"\\fB{literal(term)}\\fP", prose(text))


def literal(text: str) -> str:
    """Escape text in which each character counts: minus signs, and no hyphenation."""
    return " ".join(f"\\%{_escape(word)}" for word in text.split(" ")).replace("-", "\\-")


def prose(text: str) -> str:
    """Escape a paragraph, which becomes one line of input."""
    words = " ".join(text.split())
    parts, end = [], 0
    for match in _LITERAL.finditer(words):
        parts += [_escape(words[end : match.start()]), literal(match.group())]
        end = match.end()
    return _line("".join([*parts, _escape(words[end:])]))


def _escape(text: str) -> str:
    return "".join(
        _SPECIAL.get(char) or (char if char.isascii() else f"\\[u{ord(char):04X}]") for char in text
    )


def _line(text: str) -> str:
    """Protect a line that begins like a request."""
    return f"\\&{text}" if text.startswith(".") else text
