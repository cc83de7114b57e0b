# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent: it waits, looks, acts and tells, until it is ended.

An event only wakes it. What it does follows from what it sees then, so a lost event, a restart or
a crash costs nothing but time.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..host.files import write_atomic
from ..host.host import Host
from ..policy.decide import Decider
from ..policy.evaluate import monotonic_ms
from ..policy.findings import HOLD
from ..policy.model import Policy
from ..policy.reconcile import PassOptions, reconcile
from .budget_store import Brake
from .clocks import Clocks, clocks_of
from .faults import Attempts
from .inhibitors import Restraint
from .lasting import summary, tell_policy
from .ledger import Ledger
from .metrics import render
from .monitor import Ears
from .numbers import metrics_of
from .policy_file import Refusal, Stamp, read_policy, stamp
from .poller import HasDescriptor, Waiting
from .reporter import Teller
from .rtnetlink import NetlinkEvents, load
from .scheduler import Cadence, longest_gap_s
from .sd_notify import Notify
from .state import LOOK, Account
from .status import status_of

STATUS = "status.json"
EVENTS = "events.sock"

# How often it asks whether the policy file, the pause or the trial changed without a signal.
_ASK_S = 10.0
# More than this between the two clocks: the machine slept.
_SLEPT_S = 1.0
# Whatever takes longer than this hangs, and the watchdog may have it.
_LONGEST_TURN_S = 300.0
# A look that failed as a whole is tried again so soon.
_AGAIN_S = 1.0


@dataclass(frozen=True)
class Options:
    """policy: the file. state: of the pause and the trial. runtime: of the status and the socket.
    metrics: a file, or None. resync_s: look at least so often."""

    policy: str
    state: str
    runtime: str
    metrics: str | None = None
    resync_s: float = 30.0


class Agent:
    """One agent. clocks: reads what time it is. listen: as NetlinkEvents."""

    def __init__(
        self,
        host: Host,
        options: Options,
        teller: Teller,
        notify: Notify,
        *,
        clocks: Callable[[], Clocks] | None = None,
        listen: Callable[..., NetlinkEvents] = NetlinkEvents,
    ) -> None:
        self.host = host
        self.options = options
        self.teller = teller
        self.notify = notify
        self._clocks = clocks or clocks_of(host.proc)
        self.account = Account(host.pid, self._clocks(), options.policy, options.resync_s)
        self.cadence = Cadence(options.resync_s)
        self.attempts = Attempts(self.account, teller)
        self.ears = Ears(host, self.account, self.attempts, listen)
        ledger = Ledger(options.runtime, self.account.started.boot_id)
        self.brake = Brake(ledger, self.attempts)
        self.restraint = Restraint(options.state, self.account, teller, self._clocks)
        self.decider: Decider | None = None
        # Whose violations have not lasted for long enough.
        self._held: set[bytes] = set()
        self._stamp: Stamp | None = None
        self._reload = True
        self._ready = self._ending = False
        self._full = False
        self._began = math.inf
        self._slept_s: float | None = None
        self._asked = -math.inf
        self._waiting = Waiting()
        # Processor time that it took while it waited, and that no turn was charged with.
        self._waited_s = 0.0

    def run(self) -> None:
        """Until SIGTERM or SIGINT. For the main thread."""
        self._waiting.heed(
            {
                signal.SIGTERM: self.end,
                signal.SIGINT: self.end,
                signal.SIGHUP: self.reload,
                signal.SIGALRM: self._still_at_it,
            }
        )
        # Before the first turn, for which it would rest long, and hear nothing.
        load()
        # What is there already stays; what a look makes is collected when it is over.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while not self._ending:
                self._timed_turn()
                if not self._ready:
                    self._ready = True
                    self.notify.ready(summary(self.account))
                began = time.process_time()
                self._wait()
                self._waited_s = time.process_time() - began
        finally:
            self.notify.stopping()
            self.close()

    def _timed_turn(self) -> None:
        """One turn, during which the watchdog hears that it goes on."""
        self._began = self.host.monotonic()
        period = self.notify.watchdog_s or 0.0
        signal.setitimer(signal.ITIMER_REAL, period, period)
        try:
            self.turn()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _still_at_it(self) -> None:
        if self.host.monotonic() - self._began < _LONGEST_TURN_S:
            self.notify.alive()

    def end(self) -> None:
        self._ending = True

    def reload(self) -> None:
        self._reload = True

    def close(self) -> None:
        self.ears.close()
        self.brake.close()
        if self.teller.stream is not None:
            self.teller.stream.close()
        self._waiting.close()

    def turn(self) -> None:
        """What is to be done now: read what changed, and look if it is time."""
        now, processor = self.host.monotonic(), time.process_time()
        changed = self._take_policy()
        reading_s = time.process_time() - processor if changed else 0.0
        if changed or now - self._asked >= _ASK_S:
            self._asked = now
            if self.restraint.read():
                changed = True
                self.cadence.want(now)
            if self.decider is not None:
                self.brake.mend(self.decider)
                if self.ears.deaf and self.ears.listen(self.decider.policy):
                    self.cadence.want(self.host.monotonic())
        look = self.cadence.wait_s(self.host.monotonic()) <= 0
        if look:
            self.restraint.read()
            self._look()
        if look or (changed and (self.account.policy is None or self.account.last is not None)):
            self._write()
        if look:
            gc.collect()
        spent = time.process_time() - processor + self._waited_s
        self._waited_s = 0.0
        self.account.processor_s += spent
        self.cadence.worked(self.host.monotonic(), spent, reading_s)
        self.notify.alive()

    # What it is told.

    def _take_policy(self) -> bool:
        """Whether it was read again, and obeyed or refused."""
        found = stamp(self.options.policy, self.host.protect_directory)
        if not self._reload and found == self._stamp:
            return False
        if self.cadence.reading_rest_s(self.host.monotonic()) > 0:
            # Not yet; what is in force is enforced meanwhile.
            self._reload = True
            return False
        self._reload, self._stamp = False, found
        if self._ready:
            self.notify.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        read = read_policy(self.options.policy, self.host)
        if isinstance(read, Refusal):
            self.account.refused = read
            self.account.refused_files += 1
        else:
            self.account.refused = None
            self._adopt(read)
        tell_policy(self.account, self.teller)
        if self._ready:
            self.notify.ready(summary(self.account))
        return True

    def _adopt(self, policy: Policy) -> None:
        self.account.policy, self.account.loaded = policy, self._clocks()
        # Nothing was looked at under this one yet.
        self.account.last = None
        if self.decider is None:
            gap_ms = int(longest_gap_s(self.options.resync_s) * 1000)
            self.decider = self.brake.decider(policy, monotonic_ms(self.host), gap_ms)
        else:
            # The same document may mean something else now: users, services, protected ones.
            self.decider.reload(policy)
        self.brake.tell(self.decider, monotonic_ms(self.host))
        self.ears.listen(policy)
        self.cadence.want(self.host.monotonic())
        fields = {"digest": policy.digest, "mode": policy.mode, "rules": len(policy.rules)}
        self.teller.log.notice("policy in force", fields)
        self.teller.event("policy", fields)

    # What it does.

    def _look(self) -> None:
        decider = self.decider
        news = self.ears.news()
        one = None
        if decider is not None:
            if self._has_slept():
                decider.mark_gap()
            if news.may_end(self._held | decider.policy.addresses):
                decider.restart_holds()
            options = PassOptions(inhibited_by=self.restraint.withheld, one_owner=True)
            one = self.attempts.attempt(
                LOOK,
                lambda: reconcile(self.host, decider, options),
            )
            if one is None:
                decider.mark_gap()
                self.account.failed_looks += 1
        self.cadence.looked(self.host.monotonic())
        if one is not None:
            if one.decision.next_pass_ms is not None:
                self.cadence.want(one.decision.next_pass_ms / 1000)
            self._held = {
                each.violation.socket.local_address
                for each in one.decision.findings
                if each.status == HOLD
            }
            self.account.took(one, self._clocks())
            self.teller.passed(one)
            if self.ears.admit(each.namespace for each in one.evaluations):
                self.cadence.heard(self.host.monotonic())
        elif LOOK in self.account.errors:
            self.cadence.want(self.host.monotonic() + _AGAIN_S)
        if decider is not None:
            self.brake.tell(decider, monotonic_ms(self.host))
        for end_s in self.restraint.ends_s():
            # A hair later, so that no clock still lacks a part of a millisecond.
            self.cadence.want(self.host.monotonic() + end_s + 0.01)

    def _has_slept(self) -> bool:
        """CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not."""
        ahead = self._clocks().boottime_s - self.host.monotonic()
        before, self._slept_s = self._slept_s, ahead
        return before is not None and ahead - before > _SLEPT_S

    # What it tells.

    def _write(self) -> None:
        now = self._clocks()
        metrics = self.options.metrics
        if metrics is not None:
            numbers = render(metrics_of(self.account, now))
            self.attempts.attempt("write metrics", lambda: write_atomic(metrics, numbers))
        # Last, so that whoever waits for it finds the metrics of the same moment.
        directory = self.options.runtime
        text = json.dumps(status_of(self.account, now), indent=1) + "\n"
        self.attempts.attempt(
            "write status.json", lambda: write_atomic(os.path.join(directory, STATUS), text)
        )
        self.notify.status(summary(self.account))

    # How it waits.

    def _wait(self) -> None:
        """Till a look is due, a signal came, or somebody connected; an event makes one due."""
        while not self._ending:
            now = self.host.monotonic()
            rest = self.cadence.rest_s(now)
            left = min(self.cadence.wait_s(now), self._asked + _ASK_S - now)
            if self._reload:
                left = min(left, self.cadence.reading_rest_s(now))
            left = max(left, rest)
            if left <= 0:
                return
            if rest > 0:
                left = rest
            if self.notify.watchdog_s is not None:
                left = min(left, self.notify.watchdog_s)
            self._poll(left, listens=rest <= 0)
            self.notify.alive()

    def _poll(self, seconds: float, *, listens: bool) -> None:
        """Sleep, and take what comes meanwhile. While it rests, nothing but the end wakes it."""
        stream, events = self.teller.stream, self.ears.events
        watched: list[HasDescriptor] = []
        if listens and stream is not None and not self._full:
            watched.append(stream)
        if listens and events is not None:
            watched.append(events)
        later = [signal.SIGHUP] if self._reload or not listens else []
        ready = self._waiting.wait(seconds, watched, later=later)
        self._full = False
        if stream is not None and stream.fileno() in ready:
            # Who connects may have paused, resumed, confirmed, or written another policy.
            self._full = not stream.accept()
            self._asked = -math.inf
        if events is not None and events.fileno() in ready:
            self.ears.drain()
            self.cadence.heard(self.host.monotonic())
