# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The command line of socket-agent."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TextIO

from .. import __version__
from ..errors import DirectoryUnusable, InputError, SocketsError
from ..host.host import Host
from ..messages import describe, os_error_text
from ..text import printable
from ..values import parse_duration_ms
from . import commands
from .daemon import Daemon, Options
from .event_stream import EventStream
from .follow import events
from .journal import Log
from .owner_indexer import OwnerIndexer
from .paths import POLICY_FILE, RUNTIME_DIRECTORY, SOCKET, STATE_DIRECTORY
from .reporter import Reporter
from .request_server import RequestServer
from .requests import Directories
from .sd_notify import SystemdNotifier

USAGE = 2

EXIT_STATUSES = {
    commands.SUCCESS: "Success.",
    commands.FAILURE: "Failure, or the agent is unhealthy.",
    USAGE: "The command line is invalid.",
    commands.NOT_RUNNING: "No agent is running.",
    commands.VIOLATIONS: "Only plan --detailed-exitcode: sockets violate the policy.",
}
# Errors of the directory in which the agent listens.
_UNUSABLE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC}
)
DURATIONS = "Durations: 90s, 5m, 1500ms, 2h, 1d, or a number of seconds."


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """Run a command and return the exit status.

    The statuses are in --help and in docs/docsite/rst/agent_reference.rst.
    """
    parsed = get_parser().parse_args(arguments)
    out = out or _standard_output()
    command: Callable[[argparse.Namespace, TextIO], int] = parsed.command
    try:
        return command(parsed, out)
    except InputError as error:
        _problem(describe(error))
        return USAGE
    except SocketsError as error:
        _problem(describe(error))
        return commands.FAILURE
    except OSError as error:
        _problem(os_error_text(error))
        return commands.FAILURE


def _problem(text: str) -> None:
    sys.stderr.write(f"socket-agent: {printable(text)}\n")


def _standard_output() -> TextIO:
    """Standard output, where characters that its encoding lacks are escaped."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return sys.stdout


def _seconds(text: str, option: str, *, low_ms: int = 1) -> float:
    return parse_duration_ms(text, (option,), low_ms=low_ms) / 1000


def _is_journal(out: TextIO, journal_stream: str) -> bool:
    """Return whether journald reads the stream, so that lines may begin with a priority.

    journal_stream: $JOURNAL_STREAM. A process may inherit it although its output is elsewhere
    (systemd.exec(5)).
    """
    try:
        status = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return journal_stream == f"{status.st_dev}:{status.st_ino}"


def _run(parsed: argparse.Namespace, out: TextIO) -> int:
    environ = os.environ
    log = Log(out, prefixed=_is_journal(out, environ.get("JOURNAL_STREAM", "")))
    options = Options(
        policy=parsed.policy,
        state=parsed.state_directory,
        runtime=parsed.runtime_directory,
        metrics=parsed.metrics,
        resync_s=_seconds(parsed.resync, "--resync", low_ms=1000),
    )
    host = Host()
    systemd = SystemdNotifier(environ, host.pid)
    stream = EventStream()
    path = os.path.join(options.runtime, SOCKET)
    try:
        server = RequestServer(path, stream)
    except OSError as error:
        if error.errno in _UNUSABLE:
            raise DirectoryUnusable(
                options.runtime, "its status and socket", "--runtime-directory", error.errno
            ) from error
        raise OSError(error.errno, error.strerror, path) from error
    daemon = Daemon(host, options, Reporter(log, stream), systemd, server=server)
    daemon.idle = OwnerIndexer(host.proc, daemon.controller.owner_index, host.monotonic)
    daemon.run()
    return commands.SUCCESS


def _check(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.check(Host(), parsed.file, out, as_json=parsed.json)


def _plan(parsed: argparse.Namespace, out: TextIO) -> int:
    file, installed = parsed.file or parsed.policy, parsed.file is None
    return commands.plan(
        Host(),
        file,
        out,
        as_json=parsed.json,
        installed=installed,
        detailed=parsed.detailed_exitcode,
    )


def _firewall(parsed: argparse.Namespace, out: TextIO) -> int:
    file, installed = parsed.file or parsed.policy, parsed.file is None
    return commands.firewall(
        Host(), file, out, sys.stderr, as_json=parsed.json, installed=installed
    )


def _status(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.status(parsed.runtime_directory, out, as_json=parsed.json)


def _pause(parsed: argparse.Namespace, out: TextIO) -> int:
    for_s = None if parsed.duration is None else _seconds(parsed.duration, "--for")
    return commands.pause(_directories(parsed), out, reason=parsed.reason, for_s=for_s)


def _resume(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.resume(_directories(parsed), out)


def _confirm(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.confirm(_directories(parsed), out, digest=parsed.digest)


def _trial(parsed: argparse.Namespace, out: TextIO) -> int:
    within_s = _seconds(parsed.within, "--within", low_ms=1000)
    return commands.trial(Host(), _directories(parsed), parsed.file, out, within_s=within_s)


def _events(parsed: argparse.Namespace, out: TextIO) -> int:
    return events(
        parsed.runtime_directory,
        out,
        sys.stderr,
        pretty=parsed.pretty,
        reconnect=parsed.reconnect,
    )


def _directories(parsed: argparse.Namespace) -> Directories:
    return Directories(parsed.state_directory, parsed.runtime_directory)


class _Parser(argparse.ArgumentParser):
    """Repeats wrong arguments in its errors, so it escapes them."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def get_parser() -> _Parser:
    """The parser of socket-agent, with all its commands."""
    directories = _Parser(add_help=False)
    directories.add_argument(
        "--state-directory",
        default=STATE_DIRECTORY,
        metavar="DIR",
        help="directory of the pause and the trial (default: %(default)s)",
    )
    directories.add_argument(
        "--runtime-directory",
        default=RUNTIME_DIRECTORY,
        metavar="DIR",
        help="directory of the status and the request socket (default: %(default)s)",
    )
    policy = _Parser(add_help=False)
    policy.add_argument(
        "--policy",
        default=POLICY_FILE,
        metavar="FILE",
        help="policy in JSON (default: %(default)s)",
    )
    as_json = _Parser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    statuses = "; ".join(
        f"{status} {text[0].lower()}{text[1:].rstrip('.')}"
        for status, text in EXIT_STATUSES.items()
    )
    parser = _Parser(
        prog="socket-agent",
        description="Enforces a socket policy on this host.",
        epilog=f"Exit status: {statuses}. {DURATIONS}",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {__version__}",
        help="show the version and exit",
    )
    names = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str,
        work: Callable[[argparse.Namespace, TextIO], int],
        text: str,
        *parents: _Parser,
    ) -> _Parser:
        added = names.add_parser(name, help=text, description=text, parents=list(parents))
        added.set_defaults(command=work)
        return added

    run = command("run", _run, "Enforce the policy until SIGTERM.", policy, directories)
    run.add_argument(
        "--metrics", metavar="FILE", help="write metrics for Prometheus' node exporter to FILE"
    )
    run.add_argument(
        "--resync",
        default="30s",
        metavar="DURATION",
        help="time between two passes without events (default: %(default)s)",
    )
    check = command("check", _check, "Check a policy and show its errors.", as_json)
    check.add_argument("file", metavar="FILE", help="policy in JSON")
    plan = command(
        "plan",
        _plan,
        "Show which sockets a policy would destroy now. Destroys nothing.",
        policy,
        as_json,
    )
    plan.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help=f"exit with {commands.VIOLATIONS} if the policy would destroy sockets",
    )
    plan.add_argument(
        "file", metavar="FILE", nargs="?", help="policy in JSON (default: the file of --policy)"
    )
    firewall = command(
        "firewall",
        _firewall,
        "Print nftables rules that reject new connections which would violate a policy.",
        policy,
        as_json,
    )
    firewall.add_argument(
        "file", metavar="FILE", nargs="?", help="policy in JSON (default: the file of --policy)"
    )
    command(
        "status",
        _status,
        "Show whether the agent enforces its policy, and the violations.",
        directories,
        as_json,
    )
    following = command(
        "events",
        _events,
        "Print each event of the running agent as a line of JSON, until SIGINT or SIGTERM.",
        directories,
    )
    following.add_argument("--pretty", action="store_true", help="print lines of text, not JSON")
    following.add_argument(
        "--reconnect",
        action="store_true",
        help="wait for an agent if none runs, and follow the next one if it stops",
    )
    pause = command("pause", _pause, "Destroy nothing until resume.", directories)
    pause.add_argument(
        "--for", dest="duration", metavar="DURATION", help="resume automatically after DURATION"
    )
    pause.add_argument(
        "--reason", default="", metavar="TEXT", help="reason to show in the status and the log"
    )
    command("resume", _resume, "End the pause.", directories)
    confirm = command(
        "confirm", _confirm, "Confirm the policy on trial: it stays in force.", directories
    )
    confirm.add_argument(
        "--digest", metavar="HEX", help="fail if the policy on trial has another digest"
    )
    trial = command(
        "trial",
        _trial,
        "Put a policy on trial: the agent stops destroying unless it is confirmed in time.",
        directories,
    )
    trial.add_argument(
        "--within", required=True, metavar="DURATION", help="time in which to confirm it"
    )
    trial.add_argument(
        "file", metavar="FILE", help="the policy in JSON, already in place or to be put there next"
    )
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
