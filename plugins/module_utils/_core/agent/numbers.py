# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the agent's numbers."""

from __future__ import annotations

from ..policy import findings
from .clocks import Clocks
from .metrics import Metric
from .state import HELD_BACK, Account


def metrics_of(account: Account, now: Clocks) -> list[Metric]:
    """Everything that account.py keeps, for those who watch many agents."""
    held_back = account.held_back()
    policy = account.policy

    def flag(name: str, value: bool, meaning: str) -> Metric:
        return Metric(name, "gauge", meaning, [({}, int(value))])

    return [
        Metric(
            "policy_info",
            "gauge",
            "The policy in force.",
            [({"digest": policy.digest, "mode": policy.mode}, 1)] if policy else [],
        ),
        flag(
            "enforcing",
            account.enforcing(),
            "1 while nothing but its limits, and what it can see, keeps it from destroying.",
        ),
        Metric(
            "inhibited",
            "gauge",
            "1 for the reason why nothing is destroyed, or not all that violates the policy.",
            [({"reason": reason}, int(reason == held_back)) for reason in HELD_BACK],
        ),
        flag("policy_rejected", account.refused is not None, "1 while a policy file is refused."),
        Metric(
            "violations",
            "gauge",
            "Sockets that violate a rule, by what is to become of them, at the last look.",
            [
                ({"rule": rule.name, "status": status}, account.statuses(rule.name)[status])
                for rule in (policy.rules if policy else ())
                for status in findings.STATUSES
            ],
        ),
        Metric(
            "missing_interfaces",
            "gauge",
            "Interfaces that a rule names and that no namespace has.",
            [
                ({"rule": rule}, len(names))
                for rule, names in (account.last.missing if account.last else {}).items()
            ],
        ),
        Metric(
            "enforced_total",
            "counter",
            "Sockets that a rule was enforced on, by what became of them.",
            [
                ({"rule": rule, "outcome": outcome}, count)
                for (rule, outcome), count in sorted(account.ended.items())
            ],
        ),
        Metric(
            "budget_exceeded_total",
            "counter",
            "Looks that found more to destroy than the policy's limits allow.",
            [({}, account.excesses)],
        ),
        Metric("event_batches_total", "counter", "Events that were heard.", [({}, account.wakes)]),
        Metric("reconcile_passes_total", "counter", "Looks at the sockets.", [({}, account.looks)]),
        Metric(
            "incomplete_passes_total",
            "counter",
            "Looks that could not be made, or not in every namespace or for every rule.",
            [({}, account.failed_looks)],
        ),
        Metric(
            "policy_rejections_total",
            "counter",
            "Policy files that were not obeyed.",
            [({}, account.refused_files)],
        ),
        Metric(
            "cpu_seconds_total",
            "counter",
            "Processor time of all that the agent did, but for its start.",
            [({}, account.processor_s)],
        ),
        Metric(
            "faults",
            "gauge",
            "Things that the agent cannot do at present, such as writing a file.",
            [({}, len(account.errors))],
        ),
        Metric(
            "last_pass_timestamp_seconds",
            "gauge",
            "When the last look was made.",
            [({}, account.last_at.wall_s)] if account.last_at else [],
        ),
        Metric(
            "metrics_written_timestamp_seconds",
            "gauge",
            "When this was written.",
            [({}, now.wall_s)],
        ),
    ]
