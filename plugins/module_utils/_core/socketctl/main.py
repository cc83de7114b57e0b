# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""main: read the command line, run the command, turn errors into sentences and exit statuses."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from .. import __version__
from ..errors import InputError, PolicyErrors, SocketsError
from . import exit_status
from .parser import PROG, Parser, get_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command on this host and return the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # A locale that cannot write a character must not end a command.
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except BrokenPipeError:
        # As of SIGPIPE. The descriptor is replaced, because Python flushes it once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13


def run(
    arguments: Sequence[str],
    *,
    out: TextIO | None = None,
    err: TextIO | None = None,
    stdin: TextIO | None = None,
    host: object = None,
) -> int:
    """As main, on these streams and this Host."""
    out, err, stdin = out or sys.stdout, err or sys.stderr, stdin or sys.stdin
    parsed = parse(get_parser(), arguments)
    if parsed.version:
        out.write(f"{PROG} {__version__}\n")
        return exit_status.SUCCESS

    from ..host.host import Host
    from ..messages import describe
    from ..text import printable
    from .commands import COMMANDS, Refused, Session, UsageError, rejected
    from .policy_file import PolicyUnreadable
    from .terminal import Terminal

    session = Session(
        parsed,
        Terminal(out, os.environ),
        Terminal(err, os.environ),
        stdin,
        host if isinstance(host, Host) else Host(),
    )
    try:
        status = COMMANDS[parsed.path](session)
        out.flush()
    except UsageError as error:
        session.problem(printable(str(error)))
        return exit_status.USAGE
    except PolicyUnreadable as error:
        session.problem(printable(str(error)))
        return exit_status.FAILED
    except Refused:
        err.write("Nothing was destroyed.\n")
        return exit_status.FAILED
    except InputError as error:
        session.problem(describe(error))
        return exit_status.USAGE
    except PolicyErrors as error:
        return rejected(session, error)
    except SocketsError as error:
        session.problem(describe(error))
        return exit_status.of_error(error)
    except KeyboardInterrupt:
        err.write("\n")
        return exit_status.INTERRUPTED
    return status


def parse(parser: Parser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parse a command line. Words of a selector may stand between options.

    Exits with the status USAGE, and after --help with SUCCESS.
    """
    parsed, rest = parser.parse_known_args(arguments)
    if parsed.version:
        return parsed
    command: Parser = getattr(parsed, "parser", parser)
    options = [word for word in rest if word.startswith("-")]
    if options or (rest and not command.takes_selector):
        command.error(f"unrecognized arguments: {' '.join(options or rest)}")
    if not arguments:
        parser.print_help(sys.stderr)
        parser.exit(exit_status.USAGE)
    if "path" not in parsed or parsed.path == "policy":
        command.error("which command? See the list in --help")
    if rest:
        # argparse takes positional arguments from one place only.
        parsed.selector = [*parsed.selector, *rest]
    for name in ("json", "ndjson"):
        if name not in parsed:
            setattr(parsed, name, False)
    return parsed
