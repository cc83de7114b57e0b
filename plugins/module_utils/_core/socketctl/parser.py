# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The parser of the command line. Its options come from the table of options of the API.

It imports nothing that lists sockets, so that a command line is read quickly. Values are not
checked here: the API checks them, and its errors read the same in each face.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from ..api.options import OPERATIONS, Kind, Option
from ..text import printable
from . import exit_status
from .help_texts import DESCRIPTIONS, EXAMPLES, SELECTOR_TEXT

PROG = "socketctl"
DESTINATION = "command_name"

# Options of operations that have no option here, and why.
OMITTED = {
    "diff": "the tables show each socket and its outcome",
    "step": "for callers that cannot wait; socketctl shows progress itself",
    "resume": "continues after step",
    "resolve_names": "its opposite is for controllers; socketctl runs on the host of the policy",
}

_WIDTH = 79
_SELECTOR = "key=value words, or a filter of ss(8); see SELECTOR"
_METAVARS = {
    Kind.INT: "NUMBER",
    Kind.DURATION: "DURATION",
    Kind.RATE: "RATE",
    Kind.SHARE: "NUMBER|SHARE",
    Kind.PORT: "PORT",
    Kind.VERDICT: "VERDICT",
}

_SHORT = {"namespaces": "-N", "namespace": "-N", "details": "-d"}
_NEGATIONS = {"destroy": "only wait: destroy nothing, and exit with 1 if connections are left"}


class CommaList(argparse.Action):
    """An option whose values are separated by commas, and that may be repeated."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        found = list(getattr(namespace, self.dest) or ())
        given = self.const if self.nargs == 0 else str(values)
        setattr(namespace, self.dest, [*found, *given.split(",")])


class Parser(argparse.ArgumentParser):
    """A parser whose help reads like a manual page.

    path: the words of the command after `socketctl`.
    """

    def __init__(self, *, path: str = "", **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.path = path

    def error(self, message: str) -> NoReturn:
        # It repeats wrong arguments.
        super().error(printable(message))

    # argparse assigns None; the text is made when somebody asks for help.
    @property
    def epilog(self) -> str:
        return "\n\n".join(
            f"{title}:\n{textwrap.indent(text, '  ')}" for title, text in self.sections()
        )

    @epilog.setter
    def epilog(self, value: object) -> None:
        pass

    def sections(self) -> list[tuple[str, str]]:
        """The sections of the help after the options, as (title, text)."""
        found = []
        if self.takes_selector:
            found.append(("selector", "\n\n".join([*map(_wrap, SELECTOR_TEXT), _keys_text()])))
        examples = EXAMPLES[self.path]
        if examples:
            found.append(("examples", "\n".join(f"# {text}\n{line}" for text, line in examples)))
        statuses = [_hanging(str(status), exit_status.MEANINGS[status]) for status in self.statuses]
        found.append(("exit status", "\n".join(statuses)))
        return found

    @property
    def takes_selector(self) -> bool:
        """Whether the command has words of a selector."""
        return any(action.dest == "selector" for action in self._actions)

    @property
    def statuses(self) -> Sequence[int]:
        """The exit statuses that the command may return."""
        if self.path in ("", "policy"):
            return tuple(exit_status.MEANINGS)
        hidden = set() if self.path == "policy plan" else {exit_status.VIOLATIONS}
        if self.path not in ("destroy", "drain", "policy enforce"):
            hidden |= {exit_status.LIMIT}
        if self.path == "completion":
            hidden |= {exit_status.IMPOSSIBLE, exit_status.FAILED}
        return [status for status in exit_status.MEANINGS if status not in hidden]


def _wrap(text: str, width: int = _WIDTH - 2) -> str:
    return textwrap.fill(
        " ".join(text.split()), width, break_on_hyphens=False, break_long_words=False
    )


def _hanging(term: str, text: str, indent: int = 4) -> str:
    first = f"{term:<{indent}}"
    wrapped = textwrap.wrap(text, _WIDTH - 2 - indent, break_on_hyphens=False)
    return f"\n{' ' * indent}".join([first + wrapped[0], *wrapped[1:]])


def _keys_text() -> str:
    """The keys of selectors, each with the first sentence of its description."""
    from ..selector.keys import KEYS

    indent = max(map(len, KEYS)) + 2
    lines = [
        _hanging(name, f"{key.description.split('. ')[0].rstrip('.')}.", indent)
        for name, key in KEYS.items()
    ]
    return "\n".join(["Keys:", *lines])


def get_parser() -> Parser:
    """The parser of socketctl, with all its commands."""
    parser = Parser(
        prog=PROG,
        description="Find, drain and destroy Linux sockets.",
    )
    parser.add_argument("--version", action="store_true", help="show the version and exit")
    commands = parser.add_subparsers(
        dest=DESTINATION, metavar="COMMAND", title="commands", parser_class=Parser
    )
    _listing(_command(commands, "list"))
    stuck = _command(commands, "stuck")
    _add_options(stuck, "stuck_report")
    _add_output(stuck)
    for name in ("destroy", "drain"):
        changing = _command(commands, name)
        _add_options(changing, name)
        _add_yes(changing)
        _add_output(changing)
    _policies(_command(commands, "policy"))
    support = _command(commands, "support")
    _add_options(support, "support")
    _add_output(support)
    completion = _command(commands, "completion")
    shell = completion.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    shell.completions = shell.choices  # type: ignore[attr-defined]
    return parser


def _command(commands: Any, name: str, path: str = "") -> Parser:
    path = path or name
    short, description = DESCRIPTIONS[path]
    added: Parser = commands.add_parser(
        name, help=short, description=_wrap(description, _WIDTH), path=path
    )
    added.set_defaults(path=path, parser=added)
    return added


def _listing(parser: Parser) -> None:
    _add_options(parser, "find")
    parser.add_argument(
        "-p",
        dest="details",
        action=CommaList,
        nargs=0,
        const="process",
        help="show the processes that hold each socket, as --details process does",
    )
    _add_output(parser)


def _policies(policy: Parser) -> None:
    commands = policy.add_subparsers(
        dest="policy_command", metavar="COMMAND", title="commands", parser_class=Parser
    )
    check = _command(commands, "check", "policy check")
    _add_options(check, "check_policy")
    _add_output(check)
    plan = _command(commands, "plan", "policy plan")
    _add_options(plan, "plan_policy")
    plan.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help=f"exit with {exit_status.VIOLATIONS} if the policy would destroy sockets",
    )
    _add_output(plan)
    firewall = _command(commands, "firewall", "policy firewall")
    _add_options(firewall, "firewall_rules")
    _add_output(firewall)
    enforce = _command(commands, "enforce", "policy enforce")
    _add_options(enforce, "enforce_policy")
    _add_yes(enforce)
    _add_output(enforce)


def _add_yes(parser: Parser) -> None:
    parser.add_argument(
        "-y", "--yes", action="store_true", help="do not ask; required without a terminal"
    )


def _add_output(parser: Parser) -> None:
    group = parser.add_argument_group("output")
    formats = group.add_mutually_exclusive_group()
    formats.add_argument("--json", action="store_true", help="print the whole result as JSON")
    formats.add_argument(
        "--ndjson", action="store_true", help="print one JSON object in a line for each socket"
    )
    if parser.path in ("list", "stuck", "support"):
        group.add_argument(
            "-H", "--no-header", action="store_true", help="print tables without the header"
        )


def _add_options(parser: Parser, operation: str) -> None:
    """Add the options of an operation of the API."""
    for option in OPERATIONS[operation].values():
        if option.name not in OMITTED:
            _add_option(parser, option)
    parser.set_defaults(operation=operation)


def _add_option(parser: Parser, option: Option) -> None:
    name = f"--{option.name.replace('_', '-')}"
    text = _help(option)
    if option.kind is Kind.SELECTOR:
        parser.add_argument("selector", nargs="*", metavar="SELECTOR", help=_SELECTOR)
        parser.add_argument("--match", metavar="JSON", help="a selector in JSON, for nesting")
    elif option.kind is Kind.POLICY:
        parser.add_argument(
            "file", metavar="FILE", help="the policy in JSON or YAML; - for standard input"
        )
    elif option.kind is Kind.MAPPING:
        _add_mapping(parser, option)
    elif option.name == "check":
        parser.add_argument("-n", "--dry-run", dest="check", action="store_true", help=text)
    elif option.kind is Kind.BOOL and option.default:
        parser.add_argument(
            f"--no-{option.name}",
            dest=option.name,
            action="store_false",
            default=None,
            help=_NEGATIONS[option.name],
        )
    else:
        flags = [flag for flag in (_SHORT.get(option.name), name) if flag]
        added = parser.add_argument(
            *flags,
            dest=option.name,
            metavar=_metavar(option),
            action=CommaList if option.many else "store",
            help=text,
        )
        added.completions = option.choices  # type: ignore[attr-defined]


def _add_mapping(parser: Parser, option: Option) -> None:
    """Add a mapping of switches and selectors: --no-NAME for those, --NAME for these."""
    switches = [key.name for key in option.keys if key.kind is Kind.BOOL]
    added = parser.add_argument(
        f"--no-{option.name}",
        dest=f"no_{option.name}",
        metavar="RULE",
        action=CommaList,
        help=f"switch off rules of the guard; one or more of: {', '.join(switches)}",
    )
    added.completions = switches  # type: ignore[attr-defined]
    parser.add_argument(
        f"--{option.name}",
        dest=option.name,
        metavar="SELECTOR",
        action="append",
        help="protect also the sockets that this selector matches; words in one argument, or JSON",
    )


def _metavar(option: Option) -> str:
    if option.choices and option.kind is not Kind.VERDICT:
        return option.name.upper().rstrip("S").replace("_", "-")
    return _METAVARS.get(option.kind) or option.name.upper().rstrip("S")


def _help(option: Option) -> str:
    """The description of an option as a help text of argparse, where % has a meaning."""
    words = [f"{option.description[0].lower()}{option.description[1:].rstrip('.')}"]
    if option.choices:
        several = "one or more of" if option.many else "one of"
        words.append(f"{several}: {', '.join(option.choices)}")
    if option.default and not option.mode and option.kind is not Kind.VERDICT:
        default = option.default
        shown = ",".join(map(str, default)) if option.many else str(default)
        words.append(f"default: {shown}")
    return "; ".join(words).replace("%", "%%")


def given_options(parsed: argparse.Namespace) -> Mapping[str, Any]:
    """The options of the operation that the command line gives, as the API takes them.

    Raises InputError for a selector that cannot be read.
    """
    from .words import selector_from_text, selector_from_words, verdict_value

    found: dict[str, Any] = {}
    for option in OPERATIONS[parsed.operation].values():
        name = option.name
        if name in OMITTED or option.kind is Kind.POLICY:
            continue
        if option.kind is Kind.SELECTOR:
            value: Any = selector_from_words(parsed.selector, parsed.match)
        elif option.kind is Kind.MAPPING:
            value = dict.fromkeys(getattr(parsed, f"no_{name}") or (), False)
            texts = getattr(parsed, name) or ()
            selectors = [
                selector_from_text(text, (name, "selectors", index))
                for index, text in enumerate(texts)
            ]
            if selectors:
                value["selectors"] = selectors
        else:
            value = getattr(parsed, name)
            if option.kind is Kind.VERDICT and value is not None:
                value = [verdict_value(name, text) for text in value]
        if value is not None and value != {}:
            found[name] = value
        elif option.kind is Kind.SELECTOR and (option.required or value == {}):
            found[name] = {}
    return found
