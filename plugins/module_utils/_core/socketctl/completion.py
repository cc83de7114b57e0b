# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Completion scripts for bash, zsh and fish, made from the parser.

The scripts are complete in themselves: they do not run socketctl while you type.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .parser import PROG, Parser

SHELLS = ("bash", "zsh", "fish")
# Where `ip netns` mounts namespaces (ip-netns(8)).
_NETNS = "/run/netns"


class Flag(NamedTuple):
    """An option. names: its spellings. values: choices; None: it takes no value."""

    names: tuple[str, ...]
    values: tuple[str, ...] | None
    comma: bool
    help: str
    dest: str


class Command(NamedTuple):
    """A command. path: its words after socketctl. words: subcommands or choices of an argument."""

    path: str
    help: str
    flags: tuple[Flag, ...]
    words: tuple[tuple[str, str], ...]
    selector: bool
    file: bool


def script(parser: Parser, shell: str) -> str:
    """The completion script for a shell of SHELLS."""
    return _SCRIPTS[shell](list(commands(parser)))


def commands(parser: Parser, help_text: str = "") -> Iterator[Command]:
    """Every command of a parser, itself first."""
    actions = parser._actions
    subparsers: list[tuple[str, str, Parser]] = []
    words: list[tuple[str, str]] = []
    for action in actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            subparsers = [(name, helps.get(name, ""), sub) for name, sub in action.choices.items()]
            words = [(name, text) for name, text, _sub in subparsers]
        elif not action.option_strings and action.choices:
            words = [(str(choice), "") for choice in action.choices]
    yield Command(
        parser.path,
        help_text,
        tuple(_flag(action) for action in actions if action.option_strings),
        tuple(words),
        parser.takes_selector,
        any(action.dest == "file" for action in actions),
    )
    for _name, text, sub in subparsers:
        yield from commands(sub, text)


def _flag(action: argparse.Action) -> Flag:
    takes_value = action.nargs != 0
    values = tuple(getattr(action, "completions", None) or ())
    return Flag(
        tuple(action.option_strings),
        values if takes_value else None,
        type(action).__name__ == "CommaList",
        (action.help or "").replace("%%", "%"),
        action.dest,
    )


def selector_values() -> dict[str, tuple[str, ...]]:
    """The keys of selectors, each with its values if these are a closed list."""
    from ..selector.keys import KEYS

    return {
        name: tuple(key.allowed.removeprefix("one of: ").split(", "))
        if key.allowed.startswith("one of: ")
        else _VERDICTS.get(name, ())
        for name, key in KEYS.items()
    }


def _option_values(name: str) -> tuple[str, ...]:
    from ..api.options import OPERATIONS

    return OPERATIONS["stuck_report"][name].choices


_VERDICTS = {name: _option_values(name) for name in ("stuck", "stranded")}


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _bash(found: list[Command]) -> str:
    values = "\n".join(
        f"        {name}) reply={_quote(' '.join(allowed))} ;;"
        for name, allowed in selector_values().items()
        if allowed
    )
    keys = " ".join(f"{name}=" for name in selector_values())
    cases: list[str] = []
    options: list[str] = []
    for command in found:
        flags = " ".join(name for flag in command.flags for name in flag.names)
        words = " ".join(name for name, _text in command.words)
        cases.append(
            f"        {_quote(command.path)}) flags={_quote(flags)}; words={_quote(words)}; "
            f"selector={int(command.selector)}; file={int(command.file)} ;;"
        )
    seen: dict[str, Flag] = {}
    for command in found:
        for flag in command.flags:
            if flag.values is not None:
                seen.update(dict.fromkeys(flag.names, flag))
    for name, flag in seen.items():
        if flag.dest.startswith("namespace"):
            options.append(
                f'        {name}) reply="current all $(command ls {_NETNS} 2>/dev/null)" ;;'
            )
        else:
            options.append(f"        {name}) reply={_quote(' '.join(flag.values or ()))} ;;")
    paths = " | ".join(_quote(command.path) for command in found if command.path)
    return _BASH.format(
        prog=PROG,
        cases="\n".join(cases),
        options="\n".join(options),
        values=values,
        keys=_quote(keys),
        paths=paths,
    )


_BASH = """\
# bash completion for {prog}
_{prog}() {{
    local line=${{COMP_LINE:0:COMP_POINT}} cur prev path='' word reply='' prefix=''
    local flags='' words='' selector=0 file=0 taken=1
    # Words as the shell sees them: COMP_WORDS is also split at = and :.
    local -a typed
    read -ra typed <<< "$line"
    [[ $line == *[[:space:]] ]] && typed+=('')
    cur=${{typed[-1]}} prev=${{typed[-2]:-}}
    for word in "${{typed[@]:1:${{#typed[@]}}-2}}"; do
        case "${{path:+$path }}$word" in
        {paths}) path="${{path:+$path }}$word" ;;
        esac
    done
    case $path in
{cases}
    esac
    case $prev in
{options}
        *) taken=0 ;;
    esac
    if ((taken)); then
        if [[ $cur == *,* ]]; then
            prefix=${{cur%,*}}, cur=${{cur##*,}}
        fi
    elif [[ $cur == -* ]]; then
        reply=$flags
    elif ((selector)) && [[ $cur == *=* ]]; then
        word=${{cur%%=*}}
        case ${{word%!}} in
{values}
        esac
        # Bash completes what follows the last = or : only.
        cur=${{cur#*=}}
        if [[ $cur == *,* ]]; then
            prefix=${{cur%,*}}, cur=${{cur##*,}}
        fi
    elif ((selector)); then
        reply={keys}
        compopt -o nospace 2>/dev/null
    elif ((file)); then
        compopt -o default 2>/dev/null
        return
    else
        reply=$words
    fi
    COMPREPLY=()
    while IFS='' read -r word; do
        [[ -n $word ]] && COMPREPLY+=("$prefix$word")
    done < <(compgen -W "$reply" -- "$cur")
}}
complete -F _{prog} {prog}
"""


def _zsh_text(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", " ".join(text.split())).replace("'", "'\\''")


def _zsh(found: list[Command]) -> str:
    by_path = {command.path: command for command in found}
    functions = [_zsh_function(command, by_path) for command in reversed(found)]
    described = [f"'{name}:{','.join(allowed)}'" for name, allowed in selector_values().items()]
    return _ZSH.format(
        prog=PROG, functions="\n".join(functions), keys=" ".join(described), netns=_NETNS
    )


def _zsh_name(path: str) -> str:
    return f"_{PROG}" + "".join(f"_{word}" for word in path.split())


def _zsh_function(command: Command, by_path: dict[str, Command]) -> str:
    specs = [spec for flag in command.flags for spec in _zsh_flag(flag)]
    lines = [f"{_zsh_name(command.path)}() {{"]
    subcommands = [
        (name, text) for name, text in command.words if f"{command.path} {name}".strip() in by_path
    ]
    if subcommands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
        lines += [
            "    local context state state_descr line",
            "    typeset -A opt_args",
            f"    _arguments -s -C {' '.join(specs)}",
            "    case $state in",
            "    command) local -a names=("
            + " ".join(f"'{name}:{_zsh_text(text)}'" for name, text in subcommands)
            + "); _describe command names ;;",
            "    rest) case $words[1] in",
        ]
        lines += [
            f"        {name}) {_zsh_name(f'{command.path} {name}'.strip())} ;;"
            for name, _text in subcommands
        ]
        lines += ["        esac ;;", "    esac", "}"]
        return "\n".join(lines)
    if command.words:
        specs.append(f"'1: :({' '.join(name for name, _text in command.words)})'")
    if command.file:
        specs.append("'1:policy:_files'")
    if command.selector:
        specs.append(f"'*: :_{PROG}_selector'")
    lines += [f"    _arguments -s {' '.join(specs)}", "}"]
    return "\n".join(lines)


def _zsh_flag(flag: Flag) -> Iterator[str]:
    for name in flag.names:
        text = _zsh_text(flag.help)
        repeat = "*" if flag.comma else ""
        if flag.values is None:
            yield f"'{repeat}{name}[{text}]'"
        elif flag.dest.startswith("namespace"):
            yield f"'{repeat}{name}[{text}]: :_{PROG}_namespaces'"
        elif flag.values:
            words = " ".join(flag.values)
            values = f"_sequence compadd - {words}" if flag.comma else f"({words})"
            yield f"'{repeat}{name}[{text}]: :{values}'"
        else:
            yield f"'{repeat}{name}[{text}]: : '"


_ZSH = """\
#compdef {prog}
# zsh completion for {prog}
_{prog}_selector() {{
    local -a entries=({keys})
    local entry key
    if compset -P '*='; then
        key=${{${{IPREFIX%=}}%!}}
        for entry in $entries; do
            if [[ ${{entry%%:*}} == $key ]]; then
                _sequence compadd - ${{(s:,:)${{entry#*:}}}}
            fi
        done
    else
        compadd -S '=' - ${{entries%%:*}}
    fi
}}
_{prog}_namespaces() {{
    compadd - current all {netns}/*(N:t)
}}
{functions}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _{prog} "$@"
else
    compdef _{prog} {prog}
fi
"""


def _fish(found: list[Command]) -> str:
    lines = [f"# fish completion for {PROG}", f"complete -c {PROG} -f"]
    for command in found:
        condition = _fish_condition(command, found)
        for name, text in command.words:
            lines.append(f"complete -c {PROG} -n {condition} -a {name} -d {_fish_quote(text)}")
        for flag in command.flags:
            lines.append(_fish_flag(flag, condition))
        if command.file:
            lines.append(f"complete -c {PROG} -n {condition} -F")
        if command.selector:
            lines += _fish_selector(condition)
    return "\n".join(lines) + "\n"


def _fish_quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_condition(command: Command, found: list[Command]) -> str:
    """A test that is true while the command's own words are completed."""
    seen = [f"__fish_seen_subcommand_from {word}" for word in command.path.split()]
    if command.path in ("", "policy"):
        below = [
            other.path.split()[-1]
            for other in found
            if other.path and other.path.rpartition(" ")[0] == command.path
        ]
        seen.append(f"not __fish_seen_subcommand_from {' '.join(below)}")
    return _fish_quote("; and ".join(seen))


def _fish_flag(flag: Flag, condition: str) -> str:
    words = [f"complete -c {PROG} -n {condition}"]
    for name in flag.names:
        words.append(f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}")
    if flag.values is not None:
        words.append("-x")
        if flag.dest.startswith("namespace"):
            words.append(f"-a '(__fish_append , current all (command ls {_NETNS} 2>/dev/null))'")
        elif flag.values and flag.comma:
            words.append(f"-a '(__fish_append , {' '.join(flag.values)})'")
        elif flag.values:
            words.append(f"-a {_fish_quote(' '.join(flag.values))}")
    words.append(f"-d {_fish_quote(flag.help)}")
    return " ".join(words)


def _fish_selector(condition: str) -> Iterator[str]:
    for name, allowed in selector_values().items():
        words = " ".join(f"{name}={value}" for value in allowed) or f"{name}="
        yield f"complete -c {PROG} -n {condition} -a {_fish_quote(words)}"


_SCRIPTS: dict[str, Callable[[list[Command]], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
