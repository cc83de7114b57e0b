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
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ..errors import SocketsError
from ..host import Host
from ..policy.document import Policy
from ..policy.enforce import Pass, run_pass
from ..policy.engine import HOLD, Engine
from ..words import describe
from .account import LOOK, PAUSED, UNCONFIRMED, Account
from .cadence import Cadence, longest_gap_s
from .control import read_confirmation, read_pause
from .deadline import Clocks, clocks_of
from .files import replace_file
from .hearing import Hearing
from .journal import NOTICE, WARNING
from .metrics import render
from .news import News
from .notify import Notify
from .numbers import metrics_of
from .source import Refusal, Stamp, read_policy, stamp
from .status import status_of
from .telling import Teller
from .wake import NetlinkEvents, load

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

T = TypeVar("T")


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
        self._listen_for = listen
        self._clocks = clocks or clocks_of(host.proc)
        self.account = Account(host.pid, self._clocks(), options.policy, options.resync_s)
        self.cadence = Cadence(options.resync_s)
        self.hearing = Hearing(host)
        self.engine: Engine | None = None
        self.events: NetlinkEvents | None = None
        self._heard: tuple[frozenset[str], bool] | None = None
        # What came since the last look, and whose violations have not lasted for long enough.
        self._news = News()
        self._held: set[bytes] = set()
        self._stamp: Stamp | None = None
        self._reload = True
        self._ready = self._ending = False
        self._full = False
        self._began = math.inf
        self._slept_s: float | None = None
        self._asked = -math.inf
        self._wakeup, self._awakened = socket.socketpair()
        self._wakeup.setblocking(False)
        self._awakened.setblocking(False)

    def run(self) -> None:
        """Until SIGTERM or SIGINT. For the main thread."""
        self._signals()
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
                    self.notify.ready(self._summary())
                self._wait()
        finally:
            self.notify.stopping()
            self.close()

    def _signals(self) -> None:
        signal.set_wakeup_fd(self._awakened.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda _number, _frame: self.end())
        signal.signal(signal.SIGINT, lambda _number, _frame: self.end())
        signal.signal(signal.SIGHUP, lambda _number, _frame: self.reload())
        signal.signal(signal.SIGALRM, lambda _number, _frame: self._still_at_it())

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
        if self.events is not None:
            self.events.close()
        if self.teller.stream is not None:
            self.teller.stream.close()
        self._wakeup.close()
        self._awakened.close()

    def turn(self) -> None:
        """What is to be done now: read what changed, and look if it is time."""
        now, processor = self.host.monotonic(), time.process_time()
        changed = self._take_policy()
        if changed or now - self._asked >= _ASK_S:
            self._asked = now
            if self._controls():
                changed = True
                self.cadence.want(now)
            if self._heard is None and self.account.policy is not None:
                self._listen(self.account.policy)
        look = self.cadence.wait_s(self.host.monotonic()) <= 0
        if look:
            self._controls()
            self._look()
        if look or (changed and (self.account.policy is None or self.account.last is not None)):
            self._write()
        if look:
            gc.collect()
        spent = time.process_time() - processor
        self.account.processor_s += spent
        self.cadence.worked(self.host.monotonic(), spent)
        self.notify.alive()

    # What it is told.

    def _take_policy(self) -> bool:
        """Whether it was read again, and obeyed or refused."""
        found = stamp(self.options.policy, self.host.protect_directory)
        if not self._reload and found == self._stamp:
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
        self._tell_policy()
        if self._ready:
            self.notify.ready(self._summary())
        return True

    def _adopt(self, policy: Policy) -> None:
        self.account.policy, self.account.loaded = policy, self._clocks()
        # Nothing was looked at under this one yet.
        self.account.last = None
        if self.engine is None:
            gap_s = longest_gap_s(self.options.resync_s)
            self.engine = Engine(policy, longest_gap_ms=int(gap_s * 1000))
        else:
            # The same document may mean something else now: users, services, protected ones.
            self.engine.reload(policy)
        self._listen(policy)
        self.cadence.want(self.host.monotonic())
        fields = {"digest": policy.digest, "mode": policy.mode, "rules": len(policy.rules)}
        self.teller.log.notice("policy in force", fields)
        self.teller.event("policy", fields)

    def _tell_policy(self) -> None:
        refused = self.account.refused
        kept = (
            "there is no policy in force, and nothing is destroyed"
            if self.account.policy is None
            else f"the policy {self.account.policy.digest[:12]} stays in force"
        )
        self.teller.lasts(
            "policy file",
            None if refused is None else f"policy refused, {kept}: {' '.join(refused.reasons)}",
            ended="the policy file is obeyed again",
        )

    def _listen(self, policy: Policy) -> None:
        """Hear just what the policy depends on; what was not heard till now is looked at."""
        foreign = any(name != "current" for name in policy.namespaces)
        wanted = policy.needs, foreign
        if wanted == self._heard:
            return
        events = self._try("events", lambda: self._listen_for(policy.needs, foreign=foreign))
        self._deaf()
        if events is not None:
            self.events, self._heard = events, wanted
            self.cadence.want(self.host.monotonic())

    def _deaf(self) -> None:
        if self.events is not None:
            self.events.close()
        self.events = self._heard = None

    def _drain(self) -> None:
        """Take the events that have come; where that fails, listen anew before long."""
        if self.events is not None:
            heard = self._try("events", self.events.drain)
            if heard is None:
                self._deaf()
                heard = News(lost=True)
            self.account.wakes += heard.events
            self._news += heard

    def _controls(self) -> bool:
        """Read pause and trial; whether they withhold something else than before."""
        before = self._withheld(), self.account.pause, self.account.trial
        now = self._clocks()
        self.account.pause = read_pause(self.options.state, now)
        self.account.trial = read_confirmation(self.options.state)
        self.account.at = now
        withheld = self._withheld()
        pause, trial = self.account.pause, self.account.on_trial()
        self.teller.lasts(
            "pause",
            None
            if pause is None
            else f"paused, nothing is destroyed: {pause.reason or 'no reason'}",
            ended="no longer paused",
        )
        self.teller.lasts(
            "trial",
            None
            if trial is None
            else "the policy was not confirmed in time: nothing is destroyed till it is"
            if self.account.unconfirmed()
            else f"the policy {trial.digest[:12]} is on trial: unless it is confirmed in time, "
            "it destroys nothing any more",
            ended="no policy in force waits to be confirmed",
            priority=WARNING if self.account.unconfirmed() else NOTICE,
        )
        return before != (withheld, self.account.pause, self.account.trial)

    def _withheld(self) -> str | None:
        if self.account.pause is not None:
            return PAUSED
        return UNCONFIRMED if self.account.unconfirmed() else None

    # What it does.

    def _look(self) -> None:
        policy, engine = self.account.policy, self.engine
        self._drain()
        one = None
        if policy is not None and engine is not None:
            if self._has_slept():
                engine.interrupted()
            if self._news.may_end(self._held | policy.addresses):
                engine.doubt()
            self._news = News()
            withheld = self._withheld()
            one = self._try(
                LOOK,
                lambda: run_pass(self.host, policy, engine, withheld=withheld, one_holder=True),
            )
            if one is None:
                engine.interrupted()
                self.account.failed_looks += 1
        self.cadence.looked(self.host.monotonic())
        if one is not None:
            if one.decision.next_ms is not None:
                self.cadence.want(one.decision.next_ms / 1000)
            self._held = {
                each.violation.subject.local_address
                for each in one.decision.findings
                if each.status == HOLD
            }
            self.account.took(one, self._clocks())
            self.teller.passed(one)
            self._admit(one)
        elif LOOK in self.account.errors:
            self.cadence.want(self.host.monotonic() + _AGAIN_S)
        self._expect_end()

    def _expect_end(self) -> None:
        """Look again when a pause or a trial is over."""
        pause, trial = self.account.pause, self.account.on_trial()
        ends = [None if pause is None else pause.until]
        if self._withheld() is None:
            ends.append(None if trial is None else trial.until)
        now, clocks = self.host.monotonic(), self._clocks()
        for end in ends:
            if end is not None:
                # A hair later, so that no clock still lacks a part of a millisecond.
                self.cadence.want(now + end.left_s(clocks) + 0.01)

    def _admit(self, one: Pass) -> None:
        if self._heard is None or not self._heard[1]:
            return
        met = [look.namespace for look in one.judgements]
        if self._try("other namespaces", lambda: self.hearing.admit(met)):
            self.cadence.heard(self.host.monotonic())

    def _has_slept(self) -> bool:
        """CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not."""
        ahead = self._clocks().boottime_s - self.host.monotonic()
        before, self._slept_s = self._slept_s, ahead
        return before is not None and ahead - before > _SLEPT_S

    # What it tells.

    def _write(self) -> None:
        now = self._clocks()
        directory = self.options.runtime
        text = json.dumps(status_of(self.account, now), indent=1) + "\n"
        self._try("status", lambda: replace_file(os.path.join(directory, STATUS), text))
        metrics = self.options.metrics
        if metrics is not None:
            numbers = render(metrics_of(self.account, now))
            self._try("metrics", lambda: replace_file(metrics, numbers))
        self.notify.status(self._summary())

    def _summary(self) -> str:
        policy = self.account.policy
        if policy is None:
            return "no policy: nothing is destroyed"
        held_back = self.account.held_back()
        how = "in force" if held_back is None else f"held back ({held_back})"
        return f"policy {policy.digest[:12]} {how}, {len(policy.rules)} rules"

    def _try(self, what: str, work: Callable[[], T]) -> T | None:
        """What fails here is told, and does not stop the agent."""
        try:
            answer = work()
        except OSError as error:
            text = f"{what} failed: {error}"
        except SocketsError as error:
            text = f"{what} failed: {describe(error)}"
        else:
            self.account.errors.pop(what, None)
            self.teller.lasts(what, None, ended=f"{what}: works again")
            return answer
        self.account.errors[what] = text
        self.teller.lasts(what, text)
        return None

    # How it waits.

    def _wait(self) -> None:
        """Till a look is due, a signal came, or somebody connected; an event makes one due."""
        while not self._ending:
            now = self.host.monotonic()
            rest = self.cadence.rest_s(now)
            left = (
                0.0 if self._reload else min(self.cadence.wait_s(now), self._asked + _ASK_S - now)
            )
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
        """Sleep, and take what comes meanwhile. While it rests, nothing but a signal wakes it."""
        stream = self.teller.stream
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        if listens and stream is not None and not self._full:
            poller.register(stream, select.POLLIN)
        if listens and self.events is not None:
            poller.register(self.events, select.POLLIN)
        ready = {descriptor for descriptor, _event in poller.poll(seconds * 1000)}
        self._full = False
        if self._wakeup.fileno() in ready:
            self._wakeup.recv(4096)
        if stream is not None and stream.fileno() in ready:
            # Who connects may have paused, resumed, confirmed, or written another policy.
            self._full = not stream.accept()
            self._asked = -math.inf
        if self.events is not None and self.events.fileno() in ready:
            self._drain()
            self.cadence.heard(self.host.monotonic())
