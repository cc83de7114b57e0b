# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Keeps the destroy budget across restarts.

Without it, an agent that crashes repeatedly would have a new budget after each start. The file is
one page, written in place: this takes microseconds and no disk space, and a killed process has
written all of it or nothing (the kernel checks for signals between pages). It is not flushed,
since it is void after a reboot.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import Any

from ..host.files import write_atomic
from ..policy.budget import MAX_ENTRIES, MAX_INTERVAL_MS, BudgetSnapshot
from ..policy.decide import Decider
from ..policy.model import Policy
from .faults import FaultTracker
from .paths import BUDGET
from .state import READ_BUDGET

# The operation of the fault tracker.
WRITE_BUDGET = f"write {BUDGET}"

_PAGE = 4096
_MODE = 0o644
# More than any agent can count, or any clock show.
_LIMIT = 10**15
_INVALID = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class BudgetStore:
    """Connects a decider with the budget file, and reports where the budget is unknown."""

    def __init__(self, file: BudgetFile, faults: FaultTracker) -> None:
        self._file = file
        self._faults = faults
        self._write_failed = False

    def decider(self, policy: Policy, now_ms: int, max_gap_ms: int) -> Decider:
        """Create a decider with the budget of the previous agent."""
        budget = self._file.read(now_ms)
        decider = Decider(policy, max_gap_ms=max_gap_ms, budget=budget, save=self._write)
        # Reports an unwritable file before the first socket is destroyed.
        decider.persist()
        return decider

    def _write(self, budget: BudgetSnapshot) -> None:
        written = self._faults.run(WRITE_BUDGET, lambda: self._file.write(budget))
        self._write_failed = written is None

    def retry_write(self, decider: Decider) -> None:
        """Write the budget again after a failure, even if no socket is to be destroyed."""
        if self._write_failed:
            decider.persist()

    def report(self, decider: Decider, now_ms: int) -> None:
        """Report whether the budget is unknown."""
        text = None
        if decider.budget_unknown_until_ms(now_ms) is not None:
            reason = self._file.corrupt_reason or "the previous agent could not read it"
            text = (
                f"the destroy budget is unknown: {reason}. The agent destroys nothing until the "
                f"limits' period of {decider.policy.limits.per_ms / 1000:g} s has passed"
            )
        self._faults.set(READ_BUDGET, text, recovered="the destroy budget is known again")

    def close(self) -> None:
        self._file.close()


class BudgetFile:
    """The file budget.json. Its times are milliseconds of CLOCK_MONOTONIC, in the boot boot_id.

    corrupt_reason: why the file is not trusted; None: it is.
    """

    def __init__(self, directory: str, boot_id: str) -> None:
        self._path = os.path.join(directory, BUDGET)
        self._boot_id = boot_id
        self._descriptor: int | None = None
        self.corrupt_reason: str | None = None

    def read(self, now_ms: int) -> BudgetSnapshot:
        """Read the budget of this boot. For an untrusted file: unknown until now_ms."""
        self.close()
        self.corrupt_reason = None
        try:
            self._descriptor = _open_trusted(self._path)
            return self._parse(os.pread(self._descriptor, _PAGE, 0), now_ms)
        except FileNotFoundError:
            return BudgetSnapshot()
        except OSError as error:
            self.corrupt_reason = f"{self._path} is not trusted: {error.strerror}"
        except _INVALID:
            self.corrupt_reason = f"{self._path} has invalid content"
        # The next write replaces the file.
        self.close()
        return BudgetSnapshot(unknown_until_ms=now_ms)

    def _parse(self, page: bytes, now_ms: int) -> BudgetSnapshot:
        value = json.loads(page)
        boot_id, unknown_until_ms = value["boot_id"], value["unknown_until_ms"]
        entries = tuple((_count(end), _count(count)) for end, count in value["entries"])
        latest = max([_count(unknown_until_ms or 0), *(end for end, _destroyed in entries)])
        if not isinstance(boot_id, str) or len(entries) > MAX_ENTRIES:
            raise ValueError(boot_id)
        if boot_id != self._boot_id:
            return BudgetSnapshot()
        if latest > now_ms + MAX_INTERVAL_MS:
            raise ValueError("a time after this moment")
        return BudgetSnapshot(entries, unknown_until_ms)

    def write(self, budget: BudgetSnapshot) -> bool:
        """Return True. Raises OSError; the next agent then finds the previous content."""
        content = {
            "boot_id": self._boot_id,
            "unknown_until_ms": budget.unknown_until_ms,
            "entries": budget.entries,
        }
        text = json.dumps(content, separators=(",", ":"))
        page = f"{text:{_PAGE - 1}}\n"
        try:
            if len(page) > _PAGE:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                self._replace(page)
            elif os.pwrite(self._descriptor, page.encode("ascii"), 0) != _PAGE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            text = f"{error.strerror}: sockets destroyed now may not count after a restart"
            raise OSError(error.errno, text, self._path) from error
        return True

    def _replace(self, page: str) -> None:
        self.close()
        write_atomic(self._path, page, mode=_MODE)
        self._descriptor = _open_trusted(self._path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open_trusted(path: str) -> int:
    """Open a file that an agent of this user wrote. Raises OSError, also for any other file."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif status.st_uid != os.geteuid():
        problem = f"owned by user {status.st_uid}"
    elif (status.st_nlink, status.st_size) != (1, _PAGE):
        problem = "not written by an agent (link count or size)"
    else:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, problem, path)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise ValueError(value)
    return value
