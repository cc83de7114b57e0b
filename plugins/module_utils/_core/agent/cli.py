# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the command line of socket-agent."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from ..errors import InputError, SocketsError
from ..host.host import Host
from ..messages import describe, os_error_text
from ..values import parse_duration_ms
from . import commands
from .daemon import EVENTS, Agent, Options
from .event_socket import Stream
from .journal import Log
from .reporter import Teller
from .sd_notify import Notify

POLICY = "/etc/linuxnet-sockets/policy.json"
STATE = "/var/lib/linuxnet-sockets"
RUNTIME = "/run/linuxnet-sockets"

USAGE = 2


def main(arguments: Sequence[str] | None = None, out: TextIO | None = None) -> int:
    """The exit status: 0 well, 1 not, 2 the command line is wrong, 3 no agent runs.

    The manual has them too (docs/docsite/rst/agent_reference.rst), and so has --help.
    """
    parsed = _parser().parse_args(arguments)
    out = out or sys.stdout
    command: Callable[[argparse.Namespace, TextIO], int] = parsed.command
    try:
        return command(parsed, out)
    except InputError as error:
        sys.stderr.write(f"socket-agent: {describe(error)}\n")
        return USAGE
    except SocketsError as error:
        sys.stderr.write(f"socket-agent: {describe(error)}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"socket-agent: {os_error_text(error)}\n")
        return 1


def _seconds(text: str, option: str, *, low_ms: int = 1) -> float:
    return parse_duration_ms(text, (option,), low_ms=low_ms) / 1000


def _is_journal(out: TextIO, named: str) -> bool:
    """Whether journald reads it, where a line may begin with its priority. Who is started by hand
    may have the variable from somebody else (systemd.exec(5))."""
    try:
        status = os.fstat(out.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


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
    notify = Notify(environ, host.pid)
    events = os.path.join(options.runtime, EVENTS)
    try:
        stream = Stream(events)
    except OSError as error:
        raise OSError(error.errno, error.strerror, events) from error
    Agent(host, options, Teller(log, stream), notify).run()
    return 0


def _check(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.check(Host(), parsed.file, out, as_json=parsed.json)


def _plan(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.plan(Host(), parsed.file or parsed.policy, out, as_json=parsed.json)


def _status(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.status(parsed.runtime_directory, out, as_json=parsed.json)


def _pause(parsed: argparse.Namespace, out: TextIO) -> int:
    for_s = None if parsed.duration is None else _seconds(parsed.duration, "--for")
    return commands.pause(_places(parsed), out, reason=parsed.reason, for_s=for_s)


def _resume(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.resume(_places(parsed), out)


def _confirm(parsed: argparse.Namespace, out: TextIO) -> int:
    return commands.confirm(_places(parsed), out, digest=parsed.digest)


def _trial(parsed: argparse.Namespace, out: TextIO) -> int:
    within_s = _seconds(parsed.within, "--within", low_ms=1000)
    return commands.trial(Host(), _places(parsed), parsed.file, out, within_s=within_s)


def _places(parsed: argparse.Namespace) -> commands.Places:
    return commands.Places(parsed.state_directory, parsed.runtime_directory)


def _parser() -> argparse.ArgumentParser:
    places = argparse.ArgumentParser(add_help=False)
    places.add_argument(
        "--state-directory", default=STATE, metavar="DIR", help="default: %(default)s"
    )
    places.add_argument(
        "--runtime-directory", default=RUNTIME, metavar="DIR", help="default: %(default)s"
    )
    policy = argparse.ArgumentParser(add_help=False)
    policy.add_argument("--policy", default=POLICY, metavar="FILE", help="default: %(default)s")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")

    parser = argparse.ArgumentParser(
        prog="socket-agent",
        description="Keeps the sockets of this host as a policy says.",
        epilog="Exit status: 0 all is well, 1 it is not, 2 the command line is wrong, 3 no agent "
        "runs. Durations are 90s, 5m, 1500ms, 2h, 1d, or a number of seconds.",
    )
    names = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        name: str,
        work: Callable[[argparse.Namespace, TextIO], int],
        text: str,
        *parents: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        added = names.add_parser(name, help=text, description=text, parents=list(parents))
        added.set_defaults(command=work)
        return added

    run = command("run", _run, "Enforce the policy until SIGTERM.", policy, places)
    run.add_argument("--metrics", metavar="FILE", help="a file for Prometheus' node exporter")
    run.add_argument(
        "--resync",
        default="30s",
        metavar="DURATION",
        help="look at least so often, whatever was heard; default: %(default)s",
    )
    check = command("check", _check, "Say whether a policy is valid, and what is not.", as_json)
    check.add_argument("file", metavar="FILE", help="a policy, in JSON")
    plan = command(
        "plan", _plan, "Show what a policy would destroy now; touch nothing.", policy, as_json
    )
    plan.add_argument(
        "file", metavar="FILE", nargs="?", help="a policy, in JSON; default: the one of --policy"
    )
    command(
        "status", _status, "Say how the agent is, and what violates its policy.", places, as_json
    )
    pause = command("pause", _pause, "Destroy nothing until resumed.", places)
    pause.add_argument(
        "--for", dest="duration", metavar="DURATION", help="and go on by itself after so long"
    )
    pause.add_argument("--reason", default="", metavar="TEXT", help="told by status and the log")
    command("resume", _resume, "End a pause.", places)
    confirm = command("confirm", _confirm, "Keep the policy that is on trial.", places)
    confirm.add_argument(
        "--digest", metavar="HEX", help="only if this is the digest of the policy on trial"
    )
    trial = command(
        "trial",
        _trial,
        "Put a policy on trial: unless it is confirmed in time, it destroys nothing any more.",
        places,
    )
    trial.add_argument(
        "--within", required=True, metavar="DURATION", help="the time to confirm it in"
    )
    trial.add_argument(
        "file", metavar="FILE", help="the policy, in JSON, that is in place or will be next"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
