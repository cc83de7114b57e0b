# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a command, and kills it and all that it started when it says something.

usage: killed.py WORDS COMMAND...

Prints what the command says. Exits with 137 when it was killed, else with 1.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


def main() -> int:
    """Run the command until a line of it has the words."""
    words, *command = sys.argv[1:]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            if words in line:
                os.killpg(process.pid, signal.SIGKILL)
                return 137
    return 1


if __name__ == "__main__":
    sys.exit(main())
