# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""When to reconcile which namespace, when to read events, and when to load the policy.

Pure: every time is an argument.
"""

from __future__ import annotations

from enum import Enum
from typing import Union

from ..host.namespaces import Identity
from .token_bucket import TokenBucket
from .work_queue import RESYNC_LEVEL_S, Reason, WorkQueue

# The extra time between two passes after which the agent must have been stopped or blocked.
_MAX_DELAY_S = 60.0
# Reading events and serving clients rests for this many times the CPU time that it took, so that a
# flood of them costs a fortieth of a core at most, and for this long at most.
_LISTEN_REST_FACTOR = 39
_MAX_LISTEN_REST_S = 0.1
# The owner of what no user owns. No user has this uid.
_NOBODY = -2
# Idle work leaves this much CPU time for everything else.
IDLE_LEVEL_S = 0.7


class Task(Enum):
    """A key of the work queue that is no namespace. DISCOVERY: find the namespaces."""

    DISCOVERY = "discovery"


Key = Union[Identity, Task]


def max_pass_gap_s(resync_s: float) -> float:
    """Return the longest time between two passes of a working agent, in seconds."""
    return 2 * resync_s + _MAX_DELAY_S


class Scheduler:
    """The work queue of the agent, with the CPU time that it may use.

    All times are seconds of a monotonic clock. resync_s: the interval between two passes of a
    namespace without events. The policy has a bucket of its own, so that a slow or frequent reload
    does not delay the handling of events.
    """

    def __init__(self, resync_s: float) -> None:
        self.resync_s = resync_s
        self.queue: WorkQueue[Key] = WorkQueue(resync_s)
        # Users can cause it too, by mounting a file system.
        self.queue.set_owner(Task.DISCOVERY, _NOBODY)
        self.cpu = TokenBucket()
        self._reload_cpu = TokenBucket()
        self._listen_from = float("-inf")

    def next_key(self, now: float) -> Key | None:
        """Take the next key from the queue; None: none is due, or there is no CPU time for it."""
        return self.queue.take(now, lambda level_s: self.cpu.until_s(now, level_s))

    def until_next_key_s(self, now: float) -> float:
        """Return the seconds until a key may be due."""
        wait_s = self.queue.until_s(now, lambda level_s: self.cpu.until_s(now, level_s))
        return float("inf") if wait_s is None else wait_s

    def resync_later(self, key: Key, now: float, at_most_s: float | None = None) -> None:
        """Enqueue a key for its next resync. at_most_s: upper bound of its interval."""
        interval_s = self.resync_s if at_most_s is None else min(at_most_s, self.resync_s)
        self.queue.add(key, now + interval_s, Reason.RESYNC)

    def charge_cpu(self, now: float, cpu_s: float, reload_cpu_s: float = 0.0) -> None:
        """Charge the CPU time of an iteration. reload_cpu_s: the part that a policy reload used."""
        self.cpu.charge(now, cpu_s - reload_cpu_s)
        self._reload_cpu.charge(now, reload_cpu_s)

    def on_listened(self, now: float, cpu_s: float) -> None:
        """Rest after events were read or clients were served for cpu_s."""
        self._listen_from = now + min(_LISTEN_REST_FACTOR * cpu_s, _MAX_LISTEN_REST_S)

    def listen_rest_s(self, now: float) -> float:
        """Return the seconds until events may be read again."""
        return max(0.0, self._listen_from - now)

    def reload_wait_s(self, now: float) -> float:
        """Return the seconds until the policy may be loaded again."""
        return self._reload_cpu.until_s(now, RESYNC_LEVEL_S)

    def idle_wait_s(self, now: float) -> float:
        """Return the seconds until there is CPU time for idle work."""
        return self.cpu.until_s(now, IDLE_LEVEL_S)
