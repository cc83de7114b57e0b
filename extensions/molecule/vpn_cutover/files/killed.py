# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command and kills its process group when it prints a text.

usage: killed.py TEXT COMMAND...

Prints the command's output. Exits with 137 if the command was killed, otherwise with 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> int:
    """Run the command until a line of its output contains the text."""
    text, *command = sys.argv[1:]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            if text in line:
                os.killpg(process.pid, signal.SIGKILL)
                return 137
    return 1


if __name__ == "__main__":
    sys.exit(main())
