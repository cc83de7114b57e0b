# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Keeps the destroy budget across restarts.

Without it, an agent that crashes repeatedly would have a new budget after each start. The file has
two records of equal size, and each write replaces the older one in place: this takes microseconds
and no disk space. A killed process may have written the first pages of a record only; the other
record is then the last one, and nothing was destroyed since. The file is not flushed, since it is
void after a reboot.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from typing import Any

from ..host.files import write_atomic
from ..policy.budget import (
    MAX_ENTRIES,
    MAX_KEY_COUNTS,
    MAX_KEY_INTERVAL_MS,
    BudgetKey,
    BudgetSnapshot,
    KeyCount,
)
from ..policy.decide import Decider
from ..policy.model import Policy
from .faults import FaultTracker
from .paths import BUDGET
from .state import READ_BUDGET

# The operation of the fault tracker.
WRITE_BUDGET = f"write {BUDGET}"

# The size of a record: a power of two. The largest has MAX_KEY_COUNTS counts of MAX_KEYS rules.
_MIN_RECORD = 1 << 12
_MAX_RECORD = 1 << 19
_MODE = 0o644
_SIZES = frozenset(2 << exponent for exponent in range(12, 20))
# More than any agent can count, or any clock show.
_LIMIT = 10**15
_INVALID = (ValueError, LookupError, TypeError, OverflowError, RecursionError)


class BudgetStore:
    """Connects a decider with the budget file, and reports where the budget is unknown.

    users: as for Decider.
    """

    def __init__(
        self,
        file: BudgetFile,
        faults: FaultTracker,
        users: Callable[[], Callable[[int], int]],
    ) -> None:
        self._file = file
        self._faults = faults
        self._users = users
        self._write_failed = False

    def decider(self, policy: Policy, now_ms: int, max_gap_ms: int) -> Decider:
        """Create a decider with the budget of the previous agent."""
        budget = self._file.read(now_ms)
        decider = Decider(
            policy, max_gap_ms=max_gap_ms, budget=budget, save=self._write, users=self._users
        )
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
        self._size = _MIN_RECORD
        self._sequence = 0
        self.corrupt_reason: str | None = None

    def read(self, now_ms: int) -> BudgetSnapshot:
        """Read the budget of this boot. For an untrusted file: unknown until now_ms."""
        self.close()
        self.corrupt_reason = None
        try:
            self._descriptor, self._size = descriptor, _size = _open_trusted(self._path)
            return self._parse(self._last_record(descriptor), now_ms)
        except FileNotFoundError:
            return BudgetSnapshot()
        except OSError as error:
            self.corrupt_reason = f"{self._path} is not trusted: {error.strerror}"
        except _INVALID:
            self.corrupt_reason = f"{self._path} has invalid content"
        # The next write replaces the file.
        self.close()
        return BudgetSnapshot(unknown_until_ms=now_ms)

    def _last_record(self, descriptor: int) -> Any:
        """The record that was written last. Raises ValueError if no record is complete."""
        found = []
        for number in range(2):
            try:
                record = json.loads(os.pread(descriptor, self._size, number * self._size))
                if _count(record["sequence"]) == record["end"]:
                    found.append(record)
            except _INVALID:
                # An agent was killed while it wrote this record.
                continue
        if not found:
            raise ValueError(self._path)
        last = max(found, key=lambda record: record["sequence"])
        self._sequence = last["sequence"]
        return last

    def _parse(self, record: Any, now_ms: int) -> BudgetSnapshot:
        boot_id, unknown_until_ms = record["boot_id"], record["unknown_until_ms"]
        entries = tuple((_count(end), _count(count)) for end, count in record["entries"])
        rules = record["rules"]
        by_key = tuple(
            KeyCount(BudgetKey(rules[_count(rule)], _uid(uid)), _count(end), _count(count))
            for rule, uid, end, count in record["by_rule_and_user"]
        )
        latest = max(
            _count(unknown_until_ms or 0),
            *(end for end, _destroyed in entries),
            *(each.end_ms for each in by_key),
            0,
        )
        if not isinstance(boot_id, str) or not all(isinstance(rule, str) for rule in rules):
            raise ValueError(boot_id)
        if len(entries) > MAX_ENTRIES or len(by_key) > MAX_KEY_COUNTS:
            raise ValueError(len(entries))
        if boot_id != self._boot_id:
            return BudgetSnapshot()
        if latest > now_ms + MAX_KEY_INTERVAL_MS:
            raise ValueError("a time after this moment")
        return BudgetSnapshot(entries, unknown_until_ms, by_key)

    def write(self, budget: BudgetSnapshot) -> bool:
        """Return True. Raises OSError; the next agent then finds the previous content."""
        rules = {each.key.rule: None for each in budget.by_key}
        numbers = {rule: number for number, rule in enumerate(rules)}
        sequence = self._sequence + 1
        content = {
            "sequence": sequence,
            "boot_id": self._boot_id,
            "unknown_until_ms": budget.unknown_until_ms,
            "entries": budget.entries,
            "rules": list(rules),
            "by_rule_and_user": [
                (numbers[key.rule], key.uid, end, count) for key, end, count in budget.by_key
            ],
            "end": sequence,
        }
        text = json.dumps(content, separators=(",", ":"))
        try:
            size = max(self._size, 1 << len(text).bit_length())
            if size > _MAX_RECORD:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
            record = f"{text:{size - 1}}\n"
            if (
                self._descriptor is None
                or size > self._size
                or not os.fstat(self._descriptor).st_nlink
            ):
                self._replace(record)
            else:
                at = sequence % 2 * size
                if os.pwrite(self._descriptor, record.encode("ascii"), at) != size:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            text = f"{error.strerror}: sockets destroyed now may not count after a restart"
            raise OSError(error.errno, text, self._path) from error
        self._sequence = sequence
        return True

    def _replace(self, record: str) -> None:
        """Write a new file, with both records equal so that neither write needs disk space."""
        self.close()
        write_atomic(self._path, 2 * record, mode=_MODE)
        self._descriptor, self._size = _open_trusted(self._path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _open_trusted(path: str) -> tuple[int, int]:
    """Open a file that an agent of this user wrote; return it with the size of a record.

    Raises OSError, also for any other file.
    """
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif status.st_uid != os.geteuid():
        problem = f"owned by user {status.st_uid}"
    elif status.st_nlink != 1 or status.st_size not in _SIZES:
        problem = "not written by an agent (link count or size)"
    else:
        return descriptor, status.st_size // 2
    os.close(descriptor)
    raise OSError(errno.EINVAL, problem, path)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LIMIT:
        raise ValueError(value)
    return value


def _uid(value: Any) -> int | None:
    return None if value is None else _count(value)
