# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the lab; tools/lab runs it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import Any

from . import labs, registry, rootfs
from .errors import LabError
from .places import Places, require_root
from .recipe import RECIPES


def main() -> int:
    """Do what the arguments say; 0, or 1 with a sentence on the standard error output."""
    options = _parser().parse_args()
    try:
        options.act(Places(), options)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Debian hosts on this machine, each with its own files, network, processes, "
        "sshd and systemd, made of namespaces.",
    )
    acts = parser.add_subparsers(required=True, metavar="ACT")

    act = acts.add_parser("up", help="bring a lab up; prints its description as JSON")
    act.set_defaults(act=_up)
    act.add_argument("host", nargs="+", metavar="NAME=SUITE", help=f"SUITE: {', '.join(RECIPES)}")
    act.add_argument("--name", help="the lab's name (default: one of its own)")
    act.add_argument(
        "--owner", type=int, metavar="PID", help="take the lab down when this process ends"
    )

    act = acts.add_parser("down", help="take labs down; nothing of them is left")
    act.set_defaults(act=_down)
    which = act.add_mutually_exclusive_group(required=True)
    which.add_argument("name", nargs="?", help="the lab's name")
    which.add_argument("--all", action="store_true", help="every lab of this machine")

    act.add_argument("--missing-ok", action="store_true", help="a lab that is not there is down")

    act = acts.add_parser("list", help="the labs of this machine")
    act.set_defaults(act=_list)

    act = acts.add_parser("reap", help="remove what labs left whose processes were killed")
    act.set_defaults(act=_reap)

    act = acts.add_parser("show", help="print a lab's description as JSON")
    act.set_defaults(act=_show)
    act.add_argument("name")

    act = acts.add_parser("exec", help="run a command as root inside a host")
    act.set_defaults(act=_exec)
    act.add_argument("name")
    act.add_argument("host")
    act.add_argument("command", nargs=argparse.REMAINDER)

    act = acts.add_parser("enter", help="run a command of this machine in the lab's network")
    act.set_defaults(act=_enter)
    act.add_argument("name")
    act.add_argument("command", nargs=argparse.REMAINDER)

    act = acts.add_parser("rootfs", help="make root file systems ahead; prints where they are")
    act.set_defaults(act=_rootfs)
    act.add_argument("suite", nargs="*", choices=[[], *RECIPES], default=[])
    return parser


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr)


def _print(value: Any) -> None:
    print(json.dumps(value, indent=2))


def _up(places: Places, options: argparse.Namespace) -> None:
    _print(labs.up(places, options.host, name=options.name, owner=options.owner, say=_say))


def _down(places: Places, options: argparse.Namespace) -> None:
    if options.all:
        labs.down_all(places)
    elif options.name in registry.names(places) or not options.missing_ok:
        labs.down(places, options.name)


def _list(places: Places, _options: argparse.Namespace) -> None:
    for name in registry.names(places):
        print(name, "up" if registry.alive(places, name) else "left over (lab reap removes it)")


def _reap(places: Places, _options: argparse.Namespace) -> None:
    require_root()
    for name in registry.reap(places):
        _say(f"removed what was left of lab {name}")


def _show(places: Places, options: argparse.Namespace) -> None:
    _print(registry.description(places, options.name))


def _exec(places: Places, options: argparse.Namespace) -> None:
    labs.in_host(places, options.name, options.host, options.command)


def _enter(places: Places, options: argparse.Namespace) -> None:
    labs.in_network(places, options.name, options.command)


def _rootfs(places: Places, options: argparse.Namespace) -> None:
    for suite in options.suite or RECIPES:
        print(rootfs.make(places, RECIPES[suite], _say))


if __name__ == "__main__":
    sys.exit(main())
