# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Named pipes in place of regular files."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_TIMEOUT_S = 5.0


@contextmanager
def pipe(file: Path) -> Iterator[None]:
    """Create a named pipe without a writer.

    A blocked reader gets end of file after a few seconds, so that a failing test ends.
    """
    os.mkfifo(file)

    def end() -> None:
        with suppress(OSError):
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))

    timer = threading.Timer(_TIMEOUT_S, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
