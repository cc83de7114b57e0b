# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Main loop: wait for events, reconcile, report. Runs until SIGTERM.

Level-triggered: an event only enqueues the namespace that it came from. A reconcile pass works on a
new snapshot of one namespace. A lost event, a restart or a crash only costs time.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from ..api.policy_problems import absent_in_policy
from ..host.host import Host
from ..policy.evaluate import monotonic_ms
from ..policy.model import Policy
from .budget_store import BudgetFile, BudgetStore
from .clocks import Clocks, clock_reader
from .controller import Controller
from .faults import FaultTracker
from .idle import IdleWork
from .inhibitors import Inhibitors
from .monitor import NetworkMonitor
from .paths import STATUS
from .policy_file import Fingerprint, Rejected, fingerprint, load_policy
from .poller import HasDescriptor, Poller
from .reporter import Reporter
from .request_handler import RequestHandler
from .request_server import RequestServer
from .rtnetlink import RtnetlinkListener, preload
from .scheduler import Key, Scheduler, max_pass_gap_s
from .sd_notify import SystemdNotifier
from .state import AgentState
from .status import summary
from .status_writer import StatusWriter

# How often to check the policy file, the pause and the trial without a signal.
_CHECK_INTERVAL_S = 10.0
# A larger jump of CLOCK_BOOTTIME against CLOCK_MONOTONIC means that the machine was suspended.
_SUSPEND_S = 1.0
# An iteration that takes longer no longer feeds the watchdog, so that systemd restarts the agent.
_MAX_ITERATION_S = 300.0
# With more namespaces, a new policy is not compared with the interfaces of all of them.
_MAX_LOOKED_UP = 16
# Added to an expiry, because clocks with a lower resolution would reach it a little later.
_CLOCK_MARGIN_S = 0.01


@dataclass(frozen=True)
class Options:
    """policy: the policy file. state, runtime: directories. metrics: a file, or None. resync_s: the
    interval between two passes of a namespace without events."""

    policy: str
    state: str
    runtime: str
    metrics: str | None = None
    resync_s: float = 30.0


class Daemon:
    """The agent process. server: of requests. clocks: reads the clocks. listen: creates an
    RtnetlinkListener. idle: work for the time in which nothing else is due; None: there is none.
    """

    def __init__(
        self,
        host: Host,
        options: Options,
        reporter: Reporter,
        systemd: SystemdNotifier,
        *,
        server: RequestServer | None = None,
        clocks: Callable[[], Clocks] | None = None,
        listen: Callable[..., RtnetlinkListener] = RtnetlinkListener,
    ) -> None:
        self.host = host
        self.options = options
        self.reporter = reporter
        self.systemd = systemd
        self._clocks = clocks or clock_reader(host.proc)
        self.state = AgentState(host.pid, self._clocks(), options.policy, options.resync_s)
        self.scheduler = Scheduler(options.resync_s)
        self.faults = FaultTracker(self.state, reporter)
        self.monitor = NetworkMonitor(host, self.state, self.faults, listen)
        budget_file = BudgetFile(options.runtime, self.state.started.boot_id)
        users = host.subordinate_uids().current
        self.budget_store = BudgetStore(budget_file, self.faults, users)
        self.inhibitors = Inhibitors(options.state, self.state, reporter, self._clocks)
        self.status = StatusWriter(
            os.path.join(options.runtime, STATUS),
            options.metrics,
            self.state,
            self.faults,
            systemd,
            self._clocks,
        )
        self._server = server
        if server is not None:
            server.handler = RequestHandler(
                options.state, self._clocks, reporter.log, lambda: self.status.last
            )
        self.controller = Controller(
            host, self.state, self.faults, reporter, self.monitor, self.scheduler, self._clocks
        )
        self.idle: IdleWork | None = None
        self._idle_from = -math.inf
        self._fingerprint: Fingerprint | None = None
        self._reload_requested = True
        self._ready = self._stopping = False
        self._iteration_began = math.inf
        self._suspended_s: float | None = None
        self._next_check = -math.inf
        self._poller = Poller()
        # CPU time of the last wait, which no iteration was charged for.
        self._wait_cpu_s = 0.0

    def run(self) -> None:
        """Run until SIGTERM or SIGINT. Call it in the main thread."""
        self._poller.on_signals(
            {
                signal.SIGTERM: self.request_stop,
                signal.SIGINT: self.request_stop,
                signal.SIGHUP: self.request_reload,
                signal.SIGALRM: self._feed_watchdog,
            }
        )
        # Otherwise the first iteration would be charged for it.
        preload()
        # Freezes the existing objects and collects those of a pass after it.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while not self._stopping:
                self._run_with_watchdog()
                if not self._ready and self.status.last is not None:
                    self._ready = True
                    self.systemd.ready(summary(self.state))
                began = time.process_time()
                self._wait()
                self._wait_cpu_s = time.process_time() - began
        finally:
            self.systemd.stopping()
            self.close()

    def _run_with_watchdog(self) -> None:
        """Run one iteration while a timer feeds the watchdog."""
        self._iteration_began = self.host.monotonic()
        interval_s = self.systemd.watchdog_interval_s or 0.0
        signal.setitimer(signal.ITIMER_REAL, interval_s, interval_s)
        try:
            self.run_once()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)

    def _feed_watchdog(self) -> None:
        if self.host.monotonic() - self._iteration_began < _MAX_ITERATION_S:
            self.systemd.watchdog()

    def request_stop(self) -> None:
        self._stopping = True

    def request_reload(self) -> None:
        self._reload_requested = True

    def close(self) -> None:
        self.monitor.close()
        self.budget_store.close()
        if self._server is not None:
            self._server.close()
        self._poller.close()

    def run_once(self) -> None:
        """Run one iteration: read what changed, and do the work of one key of the queue."""
        began, cpu_began_s = self.host.monotonic(), time.process_time()
        changed = self._reload_policy()
        reload_cpu_s = time.process_time() - cpu_began_s if changed else 0.0
        if changed or began >= self._next_check:
            changed = self._check() or changed
        key = self.scheduler.next_key(self.host.monotonic())
        if key is not None:
            self._run_key(key)
        self.status.outdated = self.status.outdated or changed or key is not None
        self._update_status()
        cpu_s = time.process_time() - cpu_began_s + self._wait_cpu_s
        self._wait_cpu_s = 0.0
        self.state.cpu_s += cpu_s
        ended = self.host.monotonic()
        if key is not None:
            self.scheduler.queue.ran(key, began, ended, cpu_s - reload_cpu_s)
        self.scheduler.charge_cpu(ended, cpu_s, reload_cpu_s)
        self.systemd.watchdog()

    def _check(self) -> bool:
        """Check what changes without a signal; return whether the inhibitors changed."""
        self._next_check = self.host.monotonic() + _CHECK_INTERVAL_S
        changed = self._refresh_inhibitors()
        decider = self.controller.decider
        if decider is not None:
            self.budget_store.retry_write(decider)
            if not self.monitor.subscribed and self.monitor.subscribe(decider.policy):
                self.controller.enqueue_all()
        return changed

    def _refresh_inhibitors(self) -> bool:
        """Read the pause and the trial; return whether something changed."""
        changed = self.inhibitors.refresh()
        if changed:
            self.controller.enqueue_all()
        expiry_s = self.inhibitors.next_expiry_s()
        if expiry_s is not None:
            expiry = self.host.monotonic() + expiry_s + _CLOCK_MARGIN_S
            self._next_check = min(self._next_check, expiry)
        return changed

    def _run_key(self, key: Key) -> None:
        self._refresh_inhibitors()
        decider = self.controller.decider
        if decider is not None and self._resumed_from_suspend():
            decider.mark_gap()
        self.controller.run(key, self.inhibitors.active)
        if decider is not None:
            self.budget_store.report(decider, monotonic_ms(self.host))

    def _reload_policy(self) -> bool:
        """Load the policy if its file changed; return whether it was loaded or rejected."""
        found = fingerprint(self.options.policy, self.host.protect_directory)
        if not self._reload_requested and found == self._fingerprint:
            return False
        if self.scheduler.reload_wait_s(self.host.monotonic()) > 0:
            # Until there is CPU time, the policy in force stays so.
            self._reload_requested = True
            return False
        self._reload_requested, self._fingerprint = False, found
        if self._ready:
            self.systemd.reloading(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)
        loaded = load_policy(self.options.policy, self.host)
        if isinstance(loaded, Rejected):
            self.state.rejected = loaded
            self.state.policy_rejections += 1
        else:
            self.state.rejected = None
            self._activate(loaded)
        self.reporter.report_policy_file(self.state)
        if self._ready:
            self.systemd.ready(summary(self.state))
        return True

    def _activate(self, policy: Policy) -> None:
        """Put a policy in force and enqueue its namespaces."""
        self.state.policy, self.state.loaded = policy, self._clocks()
        decider = self.controller.decider
        if decider is None:
            gap_ms = int(max_pass_gap_s(self.options.resync_s) * 1000)
            decider = self.budget_store.decider(policy, monotonic_ms(self.host), gap_ms)
        else:
            # Even for the same document: users, services and protections may have changed.
            decider.reload(policy)
        self.budget_store.report(decider, monotonic_ms(self.host))
        self.monitor.subscribe(policy)
        self.controller.activate(decider)
        absent = absent_in_policy(self.host, policy, _MAX_LOOKED_UP)
        self.reporter.report_selectors(policy, absent)
        fields = {"digest": policy.digest, "mode": policy.mode, "rules": len(policy.rules)}
        self.reporter.log.notice("policy in force", fields)
        self.reporter.event("policy", fields)

    def _resumed_from_suspend(self) -> bool:
        """Return whether the machine was suspended since the last call.

        CLOCK_BOOTTIME continues during suspend, CLOCK_MONOTONIC does not.
        """
        suspended_s = self._clocks().boottime_s - self.host.monotonic()
        before, self._suspended_s = self._suspended_s, suspended_s
        return before is not None and suspended_s - before > _SUSPEND_S

    def _update_status(self) -> None:
        """Write the status if it changed, between passes or once a second."""
        # A status without a pass would mix the new policy with the results of the old one.
        if self.state.policy is not None and not self.controller.ran:
            return
        now = self.host.monotonic()
        if self.status.due(now, busy=self.scheduler.until_next_key_s(now) <= 0):
            self.controller.update_summary()
            self.status.write(now)
            # The collector is off: this runs outside of the passes.
            gc.collect()

    def _wait(self) -> None:
        """Wait until something is due. Read events and serve clients, between two passes too."""
        while not self._stopping:
            now = self.host.monotonic()
            due_s = min(self.scheduler.until_next_key_s(now), self._next_check - now)
            if self._reload_requested:
                due_s = min(due_s, self.scheduler.reload_wait_s(now))
            rest_s = self.scheduler.listen_rest_s(now)
            if due_s <= 0 and rest_s > 0:
                return
            idle_s = math.inf if due_s <= 0 else self._idle(now)
            timeout_s = max(0.0, min(due_s, idle_s, rest_s or math.inf))
            if self.systemd.watchdog_interval_s is not None:
                timeout_s = min(timeout_s, self.systemd.watchdog_interval_s)
            self._poll(timeout_s, listen=rest_s <= 0)
            self.systemd.watchdog()
            if due_s <= 0:
                return

    def _idle(self, now: float) -> float:
        """Do idle work if there is CPU time for it; return the seconds until the next step."""
        if self.idle is None:
            return math.inf
        wait_s = max(self._idle_from - now, self.scheduler.idle_wait_s(now))
        if wait_s > 0:
            return wait_s
        began_s = time.process_time()
        pause_s = self.idle.step()
        used_s = time.process_time() - began_s
        self.state.cpu_s += used_s
        now = self.host.monotonic()
        self.scheduler.charge_cpu(now, used_s)
        self._idle_from = now + pause_s
        return 0.0

    def _poll(self, seconds: float, *, listen: bool) -> None:
        """Wait, and handle clients and events. listen: otherwise only SIGTERM ends the wait."""
        server = self._server
        sources: list[HasDescriptor] = []
        writers: list[HasDescriptor] = []
        if listen:
            sources += self.monitor.sources()
        if listen and server is not None:
            sources += server.sources()
            writers += server.writers()
        blocked = [signal.SIGHUP] if self._reload_requested or not listen else []
        ready = self._poller.poll(seconds, sources, writers=writers, block_signals=blocked)
        began_s = time.process_time()
        if server is not None and server.serve(ready):
            # A request may have changed a file.
            self._next_check = -math.inf
        if any(source.fileno() in ready for source in self.monitor.sources()):
            self.controller.read_events(ready)
        if ready:
            self.scheduler.on_listened(self.host.monotonic(), time.process_time() - began_s)
