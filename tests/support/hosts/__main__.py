# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line of the lab, run by tools/lab."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from . import labs, registry, rootfs
from .errors import LabError
from .paths import LabPaths, require_root
from .recipe import RECIPES


def main() -> int:
    """Run the command. Returns 0, or 1 after printing an error to stderr."""
    options = _parser().parse_args()
    try:
        options.function(LabPaths(), options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Debian hosts in namespaces of this machine, each with its own files, network, "
        "processes, sshd and systemd.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("up", help="start a lab and print its description as JSON")
    command.set_defaults(function=_up)
    command.add_argument(
        "host", nargs="+", metavar="NAME=SUITE", help=f"SUITE: {', '.join(RECIPES)}"
    )
    command.add_argument("--name", help="name of the lab (default: a random name)")
    command.add_argument(
        "--owner", type=int, metavar="PID", help="stop the lab when this process ends"
    )

    command = commands.add_parser("down", help="stop labs and remove all their files")
    command.set_defaults(function=_down)
    which = command.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="name of the lab")
    which.add_argument("--all", action="store_true", help="all labs on this machine")

    command.add_argument(
        "--missing-ok", action="store_true", help="succeed if the lab does not exist"
    )

    command = commands.add_parser("list", help="list the labs on this machine")
    command.set_defaults(function=_list)

    command = commands.add_parser(
        "reap", help="remove the files of labs whose processes were killed"
    )
    command.set_defaults(function=_reap)

    command = commands.add_parser("show", help="print the description of a lab as JSON")
    command.set_defaults(function=_show)
    command.add_argument("name")

    command = commands.add_parser("exec", help="run a command as root in a host")
    command.set_defaults(function=_exec)
    command.add_argument("name")
    command.add_argument("host")
    command.add_argument("command", nargs=argparse.REMAINDER)

    command = commands.add_parser(
        "enter", help="run a command of this machine in the network of a lab"
    )
    command.set_defaults(function=_enter)
    command.add_argument("name")
    command.add_argument("command", nargs=argparse.REMAINDER)

    command = commands.add_parser(
        "rootfs", help="create root file systems in advance and print their paths"
    )
    command.set_defaults(function=_rootfs)
    command.add_argument("suite", nargs="*", choices=[[], *RECIPES], default=[])
    return parser


def _report_progress(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _up(paths: LabPaths, options: argparse.Namespace) -> None:
    _print(
        labs.up(
            paths,
            options.host,
            name=options.name,
            owner=options.owner,
            report_progress=_report_progress,
        )
    )


def _down(paths: LabPaths, options: argparse.Namespace) -> None:
    if options.all:
        labs.down_all(paths)
    elif options.name in registry.names(paths) or not options.missing_ok:
        labs.down(paths, options.name)


def _list(paths: LabPaths, _options: argparse.Namespace) -> None:
    for name in registry.names(paths):
        print(
            name, "up" if registry.is_alive(paths, name) else "left over (remove it with: lab reap)"
        )


def _reap(paths: LabPaths, _options: argparse.Namespace) -> None:
    require_root()
    for name in registry.reap(paths):
        _report_progress(f"removed the files of lab {name}")


def _show(paths: LabPaths, options: argparse.Namespace) -> None:
    _print(registry.description(paths, options.name))


def _exec(paths: LabPaths, options: argparse.Namespace) -> None:
    labs.exec_in_host(paths, options.name, options.host, options.command)


def _enter(paths: LabPaths, options: argparse.Namespace) -> None:
    labs.exec_in_network(paths, options.name, options.command)


def _rootfs(paths: LabPaths, options: argparse.Namespace) -> None:
    for suite in options.suite or RECIPES:
        print(rootfs.create_rootfs(paths, RECIPES[suite], _report_progress))


if __name__ == "__main__":
    sys.exit(main())
