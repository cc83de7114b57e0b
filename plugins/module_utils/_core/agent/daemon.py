# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Main loop: wait for events, reconcile, report. Runs until SIGTERM.

Level-triggered: an event only schedules a reconcile pass, which works on a new snapshot. A lost
event, a restart or a crash only costs time.
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
from typing import Any

from ..host.files import write_atomic
from ..host.host import Host
from ..policy.decide import Decider
from ..policy.evaluate import monotonic_ms
from ..policy.findings import HOLD
from ..policy.model import Policy
from ..policy.reconcile import PassOptions, ReconcileResult, reconcile
from ..text import printable_values
from .budget_store import BudgetFile, BudgetStore
from .clocks import Clocks, clock_reader
from .faults import FaultTracker
from .inhibitors import Inhibitors
from .metrics import collect, render
from .monitor import NetworkMonitor
from .paths import STATUS
from .policy_file import Fingerprint, Rejected, fingerprint, load_policy
from .poller import HasDescriptor, Poller
from .reporter import Reporter
from .request_handler import RequestHandler
from .request_server import RequestServer
from .rtnetlink import RtnetlinkListener, preload
from .scheduler import Scheduler, max_pass_gap_s
from .sd_notify import SystemdNotifier
from .state import RECONCILE, AgentState
from .status import build_status, summary

# How often to check the policy file, the pause and the trial without a signal.
_CHECK_INTERVAL_S = 10.0
# A larger jump of CLOCK_BOOTTIME against CLOCK_MONOTONIC means that the machine was suspended.
_SUSPEND_S = 1.0
# An iteration that takes longer no longer feeds the watchdog, so that systemd restarts the agent.
_MAX_ITERATION_S = 300.0
# The delay before the next pass after a failed one.
_RETRY_S = 1.0
# Added to an expiry, because clocks with a lower resolution would reach it a little later.
_CLOCK_MARGIN_S = 0.01


@dataclass(frozen=True)
class Options:
    """policy: the policy file. state, runtime: directories. metrics: a file, or None. resync_s: the
    interval between two passes without events."""

    policy: str
    state: str
    runtime: str
    metrics: str | None = None
    resync_s: float = 30.0


class Daemon:
    """The agent process. server: of requests. clocks: reads the clocks. listen: creates an
    RtnetlinkListener."""

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
        self.budget_store = BudgetStore(budget_file, self.faults)
        self.inhibitors = Inhibitors(options.state, self.state, reporter, self._clocks)
        # The last content of status.json.
        self._status: dict[str, Any] | None = None
        self._server = server
        if server is not None:
            server.handler = RequestHandler(
                options.state, self._clocks, reporter.log, lambda: self._status
            )
        self.decider: Decider | None = None
        # Local addresses of the sockets in hold.
        self._held_addresses: set[bytes] = set()
        self._fingerprint: Fingerprint | None = None
        self._reload_requested = True
        self._ready = self._stopping = False
        self._iteration_began = math.inf
        self._suspended_s: float | None = None
        self._checked = -math.inf
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
        # Otherwise the first iteration would be charged for it, with a long cooldown.
        preload()
        # Freezes the existing objects and collects those of a pass after it.
        gc.collect()
        gc.freeze()
        gc.disable()
        try:
            while not self._stopping:
                self._run_with_watchdog()
                if not self._ready:
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
        """Run one iteration: read what changed, and reconcile if a pass is due."""
        now, cpu_began_s = self.host.monotonic(), time.process_time()
        # Without this, a pass that is always due would keep a pause waiting.
        if self._server is not None and self._server.serve_waiting():
            self._checked = -math.inf
        changed = self._reload_policy()
        reload_cpu_s = time.process_time() - cpu_began_s if changed else 0.0
        if changed or now - self._checked >= _CHECK_INTERVAL_S:
            self._checked = now
            if self.inhibitors.refresh():
                changed = True
                self.scheduler.schedule_at(now)
            if self.decider is not None:
                self.budget_store.retry_write(self.decider)
                if not self.monitor.subscribed and self.monitor.subscribe(self.decider.policy):
                    self.scheduler.schedule_at(self.host.monotonic())
        due = self.scheduler.until_next_pass_s(self.host.monotonic()) <= 0
        if due:
            self.inhibitors.refresh()
            self._reconcile()
        # A status without a pass would mix the new policy with the results of the old one.
        if due or (changed and (self.state.policy is None or self.state.last_pass is not None)):
            self._write_status()
        if due:
            gc.collect()
        cpu_s = time.process_time() - cpu_began_s + self._wait_cpu_s
        self._wait_cpu_s = 0.0
        self.state.cpu_s += cpu_s
        self.scheduler.charge_cpu(self.host.monotonic(), cpu_s, reload_cpu_s)
        self.systemd.watchdog()

    def _reload_policy(self) -> bool:
        """Load the policy if its file changed; return whether it was loaded or rejected."""
        found = fingerprint(self.options.policy, self.host.protect_directory)
        if not self._reload_requested and found == self._fingerprint:
            return False
        if self.scheduler.reload_cooldown_s(self.host.monotonic()) > 0:
            # The policy in force stays so until the cooldown is over.
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
        """Put a policy in force and schedule a pass."""
        self.state.policy, self.state.loaded = policy, self._clocks()
        # The last pass evaluated another policy.
        self.state.last_pass = None
        if self.decider is None:
            gap_ms = int(max_pass_gap_s(self.options.resync_s) * 1000)
            self.decider = self.budget_store.decider(policy, monotonic_ms(self.host), gap_ms)
        else:
            # Even for the same document: users, services and protections may have changed.
            self.decider.reload(policy)
        self.budget_store.report(self.decider, monotonic_ms(self.host))
        self.monitor.subscribe(policy)
        self.scheduler.schedule_at(self.host.monotonic())
        fields = {"digest": policy.digest, "mode": policy.mode, "rules": len(policy.rules)}
        self.reporter.log.notice("policy in force", fields)
        self.reporter.event("policy", fields)

    def _reconcile(self) -> None:
        """Run one pass, record it, and schedule the next one."""
        batch = self.monitor.take_batch()
        result = None
        if self.decider is not None:
            if self._resumed_from_suspend():
                self.decider.mark_gap()
            if batch.may_have_healed(self._held_addresses | self.decider.policy.addresses):
                self.decider.restart_holds()
            result = self._run_pass(self.decider)
        self.scheduler.on_reconciled(self.host.monotonic())
        if result is not None:
            self._record(result)
        elif RECONCILE in self.state.faults:
            self.scheduler.schedule_at(self.host.monotonic() + _RETRY_S)
        if self.decider is not None:
            self.budget_store.report(self.decider, monotonic_ms(self.host))
        expiry_s = self.inhibitors.next_expiry_s()
        if expiry_s is not None:
            self.scheduler.schedule_at(self.host.monotonic() + expiry_s + _CLOCK_MARGIN_S)

    def _run_pass(self, decider: Decider) -> ReconcileResult | None:
        options = PassOptions(inhibited_by=self.inhibitors.active, one_owner=True)
        result = self.faults.run(RECONCILE, lambda: reconcile(self.host, decider, options))
        if result is None:
            decider.mark_gap()
            self.state.incomplete_passes += 1
        return result

    def _record(self, result: ReconcileResult) -> None:
        if result.decision.next_pass_ms is not None:
            self.scheduler.schedule_at(result.decision.next_pass_ms / 1000)
        self._held_addresses = {
            finding.violation.socket.local_address
            for finding in result.decision.findings
            if finding.status == HOLD
        }
        self.state.record_pass(result, self._clocks())
        self.reporter.report_pass(result)
        if self.monitor.track_namespaces(each.namespace for each in result.evaluations):
            self.scheduler.on_event(self.host.monotonic())

    def _resumed_from_suspend(self) -> bool:
        """Return whether the machine was suspended since the last pass.

        CLOCK_BOOTTIME continues during suspend, CLOCK_MONOTONIC does not.
        """
        suspended_s = self._clocks().boottime_s - self.host.monotonic()
        before, self._suspended_s = self._suspended_s, suspended_s
        return before is not None and suspended_s - before > _SUSPEND_S

    def _write_status(self) -> None:
        now = self._clocks()
        metrics_file = self.options.metrics
        if metrics_file is not None:
            metrics = render(collect(self.state, now))
            self.faults.run("write metrics", lambda: write_atomic(metrics_file, metrics))
        # After the metrics, so that a reader of a new status finds the matching metrics.
        file = os.path.join(self.options.runtime, STATUS)
        self._status = printable_values(build_status(self.state, now))
        status = json.dumps(self._status, indent=1) + "\n"
        self.faults.run(f"write {STATUS}", lambda: write_atomic(file, status))
        self.systemd.status(summary(self.state))

    def _wait(self) -> None:
        """Wait until a pass or a check is due, a signal arrives or a client connects."""
        while not self._stopping:
            now = self.host.monotonic()
            cooldown_s = self.scheduler.cooldown_s(now)
            timeout_s = min(
                self.scheduler.until_next_pass_s(now), self._checked + _CHECK_INTERVAL_S - now
            )
            if self._reload_requested:
                timeout_s = min(timeout_s, self.scheduler.reload_cooldown_s(now))
            timeout_s = max(timeout_s, cooldown_s)
            if timeout_s <= 0:
                return
            if cooldown_s > 0:
                timeout_s = cooldown_s
            if self.systemd.watchdog_interval_s is not None:
                timeout_s = min(timeout_s, self.systemd.watchdog_interval_s)
            self._poll(timeout_s, accept_events=cooldown_s <= 0)
            self.systemd.watchdog()

    def _poll(self, seconds: float, *, accept_events: bool) -> None:
        """Wait, and handle clients and events. During the cooldown only SIGTERM ends the wait."""
        server, listener = self._server, self.monitor.listener
        sources: list[HasDescriptor] = []
        writers: list[HasDescriptor] = []
        if accept_events and server is not None:
            sources += server.sources()
            writers += server.writers()
        if accept_events and listener is not None:
            sources.append(listener)
        blocked = [signal.SIGHUP] if self._reload_requested or not accept_events else []
        ready = self._poller.poll(seconds, sources, writers=writers, block_signals=blocked)
        if server is not None and server.serve(ready):
            # A request may have changed a file.
            self._checked = -math.inf
        if listener is not None and listener.fileno() in ready:
            self.monitor.drain()
            self.scheduler.on_event(self.host.monotonic())
