# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Controller: reconciles one network namespace at a time, as the work queue says.

An event enqueues the namespace that it came from, a new namespace enqueues itself, a hold that
expires and the resync enqueue theirs. Between two namespaces the agent reads events, so that the
next pass is in the namespace where something changed.

The agent does not subscribe to events of namespaces that `all` found and that belong to users
without privileges: a user could flood the agent with them. It reconciles these more often instead.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from ..errors import NotEvaluated, SocketsError
from ..guard.owner_index import OwnerIndex
from ..host.host import Host
from ..host.namespace_owner import ROOT, owner_uid
from ..host.namespaces import CURRENT, Identity, Namespace, resolve
from ..messages import describe
from ..policy.decide import Decider
from ..policy.doubt import NO_CHANGES, NetworkChanges
from ..policy.evaluate import monotonic_ms, resolve_namespaces
from ..policy.reconcile import PassOptions, ReconcileResult, reconcile_namespace
from .adaptive_resync import next_interval_s, violations_appeared
from .clocks import Clocks
from .faults import FaultTracker
from .monitor import NetworkMonitor
from .pass_summary import PassSummary, Unevaluated, merge, summarize
from .reporter import Reporter
from .scheduler import Key, Scheduler, Task
from .state import RECONCILE, AgentState
from .work_queue import DEBOUNCE_S, Reason

# The delay before the next pass after a failed one, and before the next search for namespaces.
_RETRY_S = 1.0
# The interval between two passes of a namespace without events that belongs to a user.
_USER_RESYNC_S = 5.0
# How many late namespaces the status lists.
_MAX_LATE = 50
_LATE = "due, but the agent has not had the CPU time for it yet"


class Controller:
    """The namespaces of the policy in force, and their passes.

    decider: None before the first policy. inhibited_by: why nothing may be destroyed now.
    owner_index: of all passes. Other work may add holders between two passes.
    """

    def __init__(
        self,
        host: Host,
        state: AgentState,
        faults: FaultTracker,
        reporter: Reporter,
        monitor: NetworkMonitor,
        scheduler: Scheduler,
        clocks: Callable[[], Clocks],
    ) -> None:
        self._host = host
        self._state = state
        self._faults = faults
        self._reporter = reporter
        self._monitor = monitor
        self._scheduler = scheduler
        self._queue = scheduler.queue
        self._clocks = clocks
        self.decider: Decider | None = None
        self.owner_index = OwnerIndex()
        self._own: Identity | None = None
        self._namespaces: dict[Identity, Namespace] = {}
        self._without_events: set[Identity] = set()
        # The intervals of the resync, where they are shorter than usual.
        self._intervals_s: dict[Identity, float] = {}
        self._summaries: dict[Identity, PassSummary] = {}
        # Names that are no namespaces now, and why. When the namespaces were last searched for.
        self._unresolved: list[NotEvaluated] = []
        self._searched_ms: int | None = None
        # Whether a pass of the policy in force ended or failed.
        self._ran = False
        # Since when something is not evaluated, in seconds of the monotonic clock.
        self._unevaluated_since: dict[tuple[str, str | None], float] = {}

    @property
    def ran(self) -> bool:
        """Whether there are results, or errors, of the policy in force."""
        return self._searched_ms is not None and (self._ran or not self._namespaces)

    def activate(self, decider: Decider) -> None:
        """Put the policy of the decider in force."""
        self.decider = decider
        # The last passes evaluated another policy.
        self._summaries.clear()
        self._ran = False
        self._searched_ms = self._state.last_pass = None
        self._queue.add(Task.DISCOVERY, self._host.monotonic(), Reason.TIMER)
        self.enqueue_all()

    def enqueue_all(self) -> None:
        """Enqueue all namespaces: something changed for all of them."""
        for identity in self._namespaces:
            self._queue.add(identity, self._host.monotonic(), Reason.EVENT)

    def read_events(self, ready: Collection[int] = ()) -> None:
        """Record the events so far, and enqueue the namespaces that they came from.

        ready: the descriptors of the monitor that are readable.
        """
        self._monitor.drain(ready)
        observed = self._monitor.take()
        if observed is None:
            return
        if observed.own is not None:
            for identity, namespace in self._namespaces.items():
                if self._is_own(namespace):
                    self._changed(identity, observed.own)
        for identity, changes in observed.others.items():
            if identity in self._namespaces:
                self._changed(identity, changes)
        if observed.others_overflow:
            lost = NetworkChanges(lost_by_others=True) if observed.others_lost else NO_CHANGES
            for identity, namespace in self._namespaces.items():
                if not self._is_own(namespace):
                    self._record_changes(identity, lost)
                    # Not urgent: a flood in one namespace would make all others urgent.
                    self._queue.add(identity, self._host.monotonic(), Reason.RESYNC)
        if observed.namespaces_changed:
            at = self._host.monotonic() + DEBOUNCE_S
            self._queue.add(Task.DISCOVERY, at, Reason.EVENT)

    def _is_own(self, namespace: Namespace) -> bool:
        """Whether it is the agent's own namespace, by any of its names."""
        return namespace.path is None or namespace.identity == self._own

    def _record_changes(self, identity: Identity, changes: NetworkChanges) -> None:
        if self.decider is not None:
            self.decider.record_changes(identity, changes)

    def _changed(self, identity: Identity, changes: NetworkChanges) -> None:
        self._record_changes(identity, changes)
        self._queue.add(identity, self._host.monotonic() + DEBOUNCE_S, Reason.EVENT)

    def run(self, key: Key, inhibited_by: str | None) -> None:
        """Do the work of a key of the queue."""
        if self.decider is None:
            return
        if isinstance(key, Task):
            self._discover(self.decider)
        elif key in self._namespaces:
            # Events so far are part of this pass.
            self.read_events()
            self._reconcile(self.decider, self._namespaces[key], inhibited_by)

    def _discover(self, decider: Decider) -> None:
        """Find the namespaces of the policy; enqueue the new ones and forget the ended ones."""
        found, errors = resolve_namespaces(self._host, decider.policy)
        with suppress(SocketsError):
            (own,) = resolve([CURRENT], proc=self._host.proc, directories=())
            self._own = own.identity
        self._unresolved = [each for each in errors if isinstance(each, NotEvaluated)]
        self._state.incomplete_passes += bool(errors)
        now = self._host.monotonic()
        self._searched_ms = int(now * 1000)
        identities = {namespace.identity for namespace in found}
        for gone in self._namespaces.keys() - identities:
            self._forget(decider, gone)
        for namespace in found:
            if namespace.identity not in self._namespaces:
                owner = owner_uid(namespace, self._host.proc)
                self._queue.set_owner(namespace.identity, owner)
                if owner != ROOT and not namespace.explicit:
                    self._without_events.add(namespace.identity)
                self._queue.add(namespace.identity, now, Reason.EVENT)
            self._namespaces[namespace.identity] = namespace
        if any(name != CURRENT for name in decider.policy.namespaces):
            self._scheduler.resync_later(Task.DISCOVERY, now)
        elif errors:
            self._queue.add(Task.DISCOVERY, now + _RETRY_S, Reason.TIMER)

    def _forget(self, decider: Decider, identity: Identity) -> None:
        namespace = self._namespaces.pop(identity)
        self._summaries.pop(identity, None)
        self._without_events.discard(identity)
        self._intervals_s.pop(identity, None)
        self._queue.forget(identity)
        decider.forget(identity)
        self._monitor.forget(identity)
        self._reporter.forget(identity)
        self._faults.set(_operation(namespace), None)

    def _reconcile(self, decider: Decider, namespace: Namespace, inhibited_by: str | None) -> None:
        """Run a pass of one namespace, record it, and enqueue the next one."""
        identity = namespace.identity
        without_events = identity in self._without_events
        if not without_events:
            self._monitor.track(namespace)
        options = PassOptions(
            inhibited_by=inhibited_by, owner_index=self.owner_index, omit_loopback=True
        )
        result = self._faults.run(
            _operation(namespace),
            lambda: reconcile_namespace(self._host, decider, namespace, options),
        )
        now = self._host.monotonic()
        self._ran = True
        resync_s = self._scheduler.resync_s
        if without_events:
            resync_s = min(resync_s, _USER_RESYNC_S)
        self._scheduler.resync_later(identity, now, self._interval_s(identity, result, resync_s))
        if result is None:
            decider.mark_gap(identity)
            self._state.incomplete_passes += 1
            self._queue.add(identity, now + _RETRY_S, Reason.TIMER)
        elif not result.namespaces:
            # The namespace ended.
            self._forget(decider, identity)
        else:
            self._record(identity, result)

    def _interval_s(
        self, identity: Identity, result: ReconcileResult | None, resync_s: float
    ) -> float:
        """Return the time until the next resync after a pass; None: it failed.

        Shorter than resync_s only if there is CPU time to spare: other namespaces come first.
        """
        before_s = self._intervals_s.pop(identity, resync_s)
        if self._scheduler.idle_wait_s(self._host.monotonic()) > 0:
            return resync_s
        appeared = result is not None and violations_appeared(result)
        interval_s = next_interval_s(before_s, resync_s, appeared=appeared)
        if interval_s < resync_s:
            self._intervals_s[identity] = interval_s
        return interval_s

    def _record(self, identity: Identity, result: ReconcileResult) -> None:
        next_ms = result.decision.next_pass_ms
        if next_ms is not None:
            self._queue.add(identity, next_ms / 1000, Reason.TIMER)
        self._summaries[identity] = summarize(result)
        self._state.count_pass(result, self._clocks())
        self._reporter.report_pass(identity, result)
        if any(not each.rule for each in result.not_evaluated):
            # Another namespace may have its name by now.
            self._queue.add(Task.DISCOVERY, self._host.monotonic() + _RETRY_S, Reason.EVENT)

    def update_summary(self) -> None:
        """Merge the last passes of all namespaces into the state, and report conditions."""
        if self._searched_ms is None or (self._namespaces and not self._summaries):
            return
        now = self._host.monotonic()
        merged = merge(
            self._summaries.values(),
            ended_ms=self._searched_ms,
            namespaces=len(self._namespaces) + len(self._unresolved),
            waiting=self._queue.due(now),
            now_ms=monotonic_ms(self._host),
        )
        unresolved = [
            Unevaluated(each.namespace, each.rule, describe(each.error))
            for each in self._unresolved
        ]
        entries = self._with_age([*unresolved, *merged.not_evaluated], now)
        self._state.last_pass = merged.with_unevaluated((*entries, *self._late(now)))
        self._reporter.report_summary(self._state.last_pass)

    def _with_age(self, entries: Iterable[Unevaluated], now: float) -> list[Unevaluated]:
        before, self._unevaluated_since = self._unevaluated_since, {}
        aged = []
        for entry in entries:
            place = entry.namespace, entry.rule
            since = self._unevaluated_since[place] = before.get(place, now)
            aged.append(entry._replace(age_s=now - since))
        return aged

    def _late(self, now: float) -> list[Unevaluated]:
        ages = {
            key: age_s for key, age_s in self._queue.late(now).items() if key in self._namespaces
        }
        oldest = sorted(ages, key=lambda key: -ages[key])[:_MAX_LATE]
        return [
            Unevaluated(self._namespaces[key].name, None, _LATE, ages[key], late=True)
            for key in oldest
            if not isinstance(key, Task)
        ]


def _operation(namespace: Namespace) -> str:
    """The operation of the fault tracker for passes of a namespace."""
    return RECONCILE if namespace.path is None else f"{RECONCILE} {namespace.name}"
