# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes manual pages and completion scripts of the commands to a directory such as /usr/share.

python packaging/wheel/command_files.py DIRECTORY
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Python puts this directory on the path, unless it runs isolated.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from man_page import ManPage, man_page

CORE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils" / "_core"
# What a shell completes for an argument, by its name in the help.
_COMPLETED = {"FILE": "FILE", "DIR": "DIRECTORY"}


def main() -> None:
    target = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        os.symlink(CORE, os.path.join(folder, "linuxnet_sockets"))
        sys.path.insert(0, folder)
        # Keep usages on one line, without the colours of Python 3.14.
        os.environ.update(COLUMNS="10000", NO_COLOR="1")
        for path, text in command_files():
            file = target / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")


def command_files() -> Iterator[tuple[str, str]]:
    """Yield the path and the content of each file."""
    from linuxnet_sockets import cli as socketctl
    from linuxnet_sockets.agent import cli as agent
    from linuxnet_sockets.socketctl import completion

    yield "man/man8/socket-agent.8", man_page(agent_page())
    yield from completions("socket-agent", completion_scripts(agent.get_parser()))
    yield "man/man1/socketctl.1", man_page(socketctl_page())
    scripts = {name: completion.script(socketctl.get_parser(), name) for name in completion.SHELLS}
    yield from completions("socketctl", scripts)


def agent_page() -> ManPage:
    from linuxnet_sockets import __version__
    from linuxnet_sockets.agent import cli, paths

    return ManPage(
        parser=cli.get_parser(),
        section=8,
        version=__version__,
        description=[cli.DURATIONS],
        sections=[
            ("EXIT STATUS", [(str(code), text) for code, text in cli.EXIT_STATUSES.items()]),
            (
                "FILES",
                [
                    (paths.POLICY_FILE, "The policy, in JSON."),
                    (paths.STATE_DIRECTORY, "Pause and trial."),
                    (paths.RUNTIME_DIRECTORY, "Status, request socket, budget and metrics."),
                ],
            ),
            ("SEE ALSO", "socketctl(1), ss(8), ip-netns(8), journalctl(1)"),
        ],
    )


def socketctl_page() -> ManPage:
    from linuxnet_sockets import __version__, cli
    from linuxnet_sockets.selector.keys import KEYS
    from linuxnet_sockets.socketctl import exit_status, help_texts

    return ManPage(
        parser=cli.get_parser(),
        section=1,
        version=__version__,
        examples=help_texts.EXAMPLES,
        sections=[
            ("SELECTOR", "\n\n".join(help_texts.SELECTOR_TEXT)),
            ("SELECTOR KEYS", [(name, key.description) for name, key in KEYS.items()]),
            ("EXIT STATUS", [(str(code), text) for code, text in exit_status.MEANINGS.items()]),
            (
                "ENVIRONMENT",
                [
                    ("NO_COLOR", "If set and not empty, no colours are used on a terminal."),
                    ("COLUMNS", "The width of tables on a terminal."),
                ],
            ),
            (
                "FILES",
                [
                    (
                        "/etc/linuxnet-sockets/protect.d/*.json",
                        "Selectors of sockets that nothing may destroy on this host.",
                    )
                ],
            ),
            ("SEE ALSO", "socket-agent(8), ss(8), ip-netns(8)"),
        ],
    )


def completion_scripts(parser: argparse.ArgumentParser) -> dict[str, str]:
    import shtab

    for each in parsers(parser):
        for action in each._actions:
            kind = _COMPLETED.get(str(action.metavar))
            if kind is not None:
                action.complete = getattr(shtab, kind)  # type: ignore[attr-defined]
    return {shell: shtab.complete(parser, shell) for shell in ("bash", "zsh", "fish")}


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from parsers(each)


def completions(name: str, scripts: dict[str, str]) -> Iterator[tuple[str, str]]:
    yield f"bash-completion/completions/{name}", scripts["bash"]
    yield f"zsh/site-functions/_{name}", scripts["zsh"]
    yield f"fish/vendor_completions.d/{name}.fish", scripts["fish"]


if __name__ == "__main__":
    main()
