# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what was destroyed, where the next agent of this boot finds it.

Without it a limit would say what one run of the agent may destroy, and one that crashes again and
again would have none. The file is of one page, and is written in place: that takes microseconds and
no room on the disk, and a process that is killed has written all of it or nothing (the kernel asks
for signals between pages). It is not flushed, since what it tells is over with a reboot.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from ..host.files import write_atomic
from ..policy.budget import MAX_ENTRIES, MAX_INTERVAL_MS, BudgetSnapshot

SPENT = "budget.json"

_PAGE = 4096
_MODE = 0o644
# Of what an agent could count, or a clock show.
_LARGEST = 10**15
_NOT_OURS = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Ledger:
    """The file of one agent; times in it are milliseconds of CLOCK_MONOTONIC, and boot_id says of
    which boot.

    trouble: why what was found cannot be believed; None: it can.
    """

    def __init__(self, directory: str, boot_id: str) -> None:
        self._path = os.path.join(directory, SPENT)
        self._boot_id = boot_id
        self._descriptor: int | None = None
        self.trouble: str | None = None

    def read(self, now_ms: int) -> BudgetSnapshot:
        """What agents of this boot destroyed; where that cannot be told, it is unknown till now."""
        self.close()
        self.trouble = None
        try:
            self._descriptor = _opened(self._path)
            return self._understood(os.pread(self._descriptor, _PAGE, 0), now_ms)
        except FileNotFoundError:
            return BudgetSnapshot()
        except OSError as error:
            self.trouble = f"{self._path} cannot be believed: {error.strerror}"
        except _NOT_OURS:
            self.trouble = f"{self._path} cannot be understood"
        # Another one takes its place.
        self.close()
        return BudgetSnapshot(unknown_until_ms=now_ms)

    def _understood(self, page: bytes, now_ms: int) -> BudgetSnapshot:
        value = json.loads(page)
        boot_id, unknown_ms = value["boot_id"], value["unknown_until_ms"]
        parts = tuple((_whole(end), _whole(count)) for end, count in value["entries"])
        latest = max([_whole(unknown_ms or 0), *(end for end, _count in parts)])
        if not isinstance(boot_id, str) or len(parts) > MAX_ENTRIES:
            raise ValueError(boot_id)
        if boot_id != self._boot_id:
            return BudgetSnapshot()
        if latest > now_ms + MAX_INTERVAL_MS:
            raise ValueError("not of this boot's past")
        return BudgetSnapshot(parts, unknown_ms)

    def write(self, kept: BudgetSnapshot) -> bool:
        """True. Raises OSError; then the next agent finds what was written before."""
        content = {
            "boot_id": self._boot_id,
            "unknown_until_ms": kept.unknown_until_ms,
            "entries": kept.entries,
        }
        text = json.dumps(content, separators=(",", ":"))
        page = f"{text:{_PAGE - 1}}\n"
        try:
            if len(page) > _PAGE:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                self._anew(page)
            elif os.pwrite(self._descriptor, page.encode("ascii"), 0) != _PAGE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            text = f"{error.strerror}: what is destroyed now may not count after a restart"
            raise OSError(error.errno, text, self._path) from error
        return True

    def _anew(self, page: str) -> None:
        self.close()
        write_atomic(self._path, page, mode=_MODE)
        self._descriptor = _opened(self._path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _opened(path: str) -> int:
    """A file that this user's agent wrote. Raises OSError, also for any other."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        wrong = "it is no regular file"
    elif status.st_uid != os.geteuid():
        wrong = f"it is user {status.st_uid}'s"
    elif (status.st_nlink, status.st_size) != (1, _PAGE):
        wrong = "no agent wrote it"
    else:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, wrong, path)


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise ValueError(value)
    return value
