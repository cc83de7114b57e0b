# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that nobody expects where they lie."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE_S = 5.0


@contextmanager
def pipe(file: Path) -> Iterator[None]:
    """A named pipe that nobody writes to. Whoever waits for that gets an end after a while, so that
    a test that has failed comes to its end too."""
    os.mkfifo(file)

    def end() -> None:
        with suppress(OSError):
            os.close(os.open(file, os.O_WRONLY | os.O_NONBLOCK))

    patience = threading.Timer(_PATIENCE_S, end)
    patience.start()
    try:
        yield
    finally:
        patience.cancel()
        patience.join()
