# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the playbook of the demo on web, and show the output of Ansible as it is written."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support.topologies.topology import LabNamespace

HERE = Path(__file__).resolve().parent
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_PADDING = re.compile(r"(?<=\S) +(?=\S)|\s+$")
_RECAP = re.compile(r"^web\s*: (.*)$", re.MULTILINE)
# For Ansible itself: no task of the playbook waits.
_TIMEOUT_S = 120


class Run(NamedTuple):
    """Output of Ansible without colours, and the counts of its recap: ok, changed, failed, ..."""

    output: str
    counts: dict[str, int]


def ansible_environment(folder: str, *, colour: bool) -> dict[str, str]:
    """The environment for Ansible, without any settings of the caller for it."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")
    }
    return {
        **inherited,
        "ANSIBLE_CONFIG": str(HERE.parent / "ansible.cfg"),
        "ANSIBLE_HOME": f"{folder}/home",
        "ANSIBLE_LOCAL_TEMP": f"{folder}/local",
        "ANSIBLE_REMOTE_TMP": f"{folder}/remote",
        "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "false",
        "ANSIBLE_DEPRECATION_WARNINGS": "false",
        "ANSIBLE_NOCOWS": "true",
        "ANSIBLE_FORCE_COLOR" if colour else "ANSIBLE_NOCOLOR": "true",
        # Ansible requires UTF-8, whatever the locale of the caller.
        "LC_ALL": "C.UTF-8",
    }


def run_playbook(
    where: LabNamespace, folder: str, show: Callable[[str], None], *, colour: bool = False
) -> Run:
    """Run the playbook inside the namespace.

    folder: for the files of Ansible. show: called with each line of output.
    """
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    process = subprocess.Popen(
        where.command(program, "-i", str(HERE / "inventory.yml"), str(HERE / "playbook.yml")),
        cwd=HERE.parent,
        env=ansible_environment(folder, colour=colour),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A process group, so that _terminate also ends the processes that Ansible started.
        start_new_session=True,
    )
    lines: list[str] = []
    try:
        for line in process.stdout or ():
            if line.strip() or (lines and not _RECAP.search(lines[-1])):
                lines.append(_COLOURS.sub("", line))
                # Ansible pads the recap to more than the width of most terminals.
                show(_PADDING.sub(" ", line) if _RECAP.search(lines[-1]) else line)
        process.wait(timeout=_TIMEOUT_S)
    finally:
        _terminate(process)
    output = "".join(lines)
    found = _RECAP.search(output)
    words = found.group(1).split() if found else []
    counts = dict(word.split("=", 1) for word in words)
    return Run(output, {name: int(count) for name, count in counts.items()})


def _terminate(process: subprocess.Popen[str]) -> None:
    """Terminate the process group if it still runs."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
    if process.stdout is not None:
        process.stdout.close()
