# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The metrics, in the text format of Prometheus' node exporter (textfile collector)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from ..policy import findings, unenforced
from ..policy.budget import exceeded_budget
from .clocks import Clocks
from .state import INHIBITED_BY, AgentState

PREFIX = "linuxnet_sockets_"


class Metric(NamedTuple):
    """type: gauge or counter. samples: pairs of labels and value; none: leave the metric out."""

    name: str
    type: str
    help: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def collect(state: AgentState, now: Clocks) -> list[Metric]:
    """Return all metrics of the agent."""
    inhibited_by = state.inhibited_by()
    policy, last = state.policy, state.last_pass
    exceeded = exceeded_budget(last.budget_exceeded) if last else None

    def gauge(name: str, text: str, value: float) -> Metric:
        return Metric(name, "gauge", text, [({}, value)])

    def counter(name: str, text: str, value: float) -> Metric:
        return Metric(name, "counter", text, [({}, value)])

    return [
        Metric(
            "policy_info",
            "gauge",
            "The policy in force.",
            [({"digest": policy.digest, "mode": policy.mode}, 1)] if policy else [],
        ),
        gauge(
            "enforcing",
            "1 if the agent destroys violations, within its limits and its view.",
            int(state.enforcing()),
        ),
        Metric(
            "inhibited",
            "gauge",
            "1 for the reason why the agent destroys nothing, or not all violations.",
            [({"reason": reason}, int(reason == inhibited_by)) for reason in INHIBITED_BY],
        ),
        gauge(
            "policy_rejected",
            "1 while the policy file or a protection file is rejected.",
            int(state.rejected is not None),
        ),
        Metric(
            "violations",
            "gauge",
            "Sockets that violate a rule in the last passes, by status.",
            [
                ({"rule": rule.name, "status": status}, state.statuses(rule.name)[status])
                for rule in (policy.rules if policy else ())
                for status in findings.STATUSES
            ],
        ),
        Metric(
            "unenforced",
            "gauge",
            "Violations that are due and cannot be destroyed, by reason.",
            [
                ({"rule": rule.name, "reason": reason}, state.unenforced(rule.name)[reason])
                for rule in (policy.rules if policy else ())
                for reason in unenforced.REASONS
            ],
        ),
        Metric(
            "missing_interfaces",
            "gauge",
            "Interfaces that a rule names and that exist in no namespace.",
            [
                ({"rule": rule}, len(names))
                for rule, names in (last.missing_interfaces if last else {}).items()
            ],
        ),
        Metric(
            "enforced_total",
            "counter",
            "Sockets that a rule was enforced on, by outcome.",
            [
                ({"rule": rule, "outcome": outcome}, count)
                for (rule, outcome), count in sorted(state.outcomes.items())
            ],
        ),
        Metric(
            "budget_exceeded",
            "gauge",
            "Sockets to destroy by rules and users that exceed the limits; no rule: all together.",
            [
                (
                    {
                        "rule": each["rule"] or "",
                        "uid": "" if each["uid"] is None else str(each["uid"]),
                        "user": each["user"] or "",
                    },
                    each["due"],
                )
                for each in (exceeded["exceeded"] if exceeded else ())
            ],
        ),
        counter(
            "budget_exceeded_total",
            "Passes with more sockets to destroy than the limits allow.",
            state.budget_exceeded_passes,
        ),
        counter(
            "event_batches_total",
            "Batches of rtnetlink events received, one datagram each.",
            state.events,
        ),
        counter(
            "reconcile_passes_total",
            "Completed reconcile passes, of one network namespace each.",
            state.passes,
        ),
        counter(
            "incomplete_passes_total",
            "Reconcile passes that failed, or did not evaluate every namespace and rule.",
            state.incomplete_passes,
        ),
        counter(
            "policy_rejections_total",
            "Rejected versions of the policy file and the protection files.",
            state.policy_rejections,
        ),
        counter(
            "cpu_seconds_total",
            "CPU time of the agent, without its start.",
            state.cpu_s,
        ),
        gauge(
            "faults",
            "Operations that fail at present, such as writing a file.",
            len(state.faults),
        ),
        gauge(
            "not_evaluated",
            "Namespaces, and rules in namespaces, that were not evaluated, or not in time.",
            len(last.not_evaluated) if last else 0,
        ),
        gauge(
            "waiting_namespaces",
            "Namespaces that are due for a pass.",
            last.waiting if last else 0,
        ),
        Metric(
            "oldest_pass_seconds",
            "gauge",
            "Age of the oldest last pass of a namespace.",
            [({}, last.oldest_s)] if last and last.oldest_s is not None else [],
        ),
        Metric(
            "last_pass_timestamp_seconds",
            "gauge",
            "Time of the last completed reconcile pass.",
            [({}, state.last_pass_at.wall_s)] if state.last_pass_at else [],
        ),
        gauge("metrics_written_timestamp_seconds", "Time of this file.", now.wall_s),
    ]


def render(metrics: Iterable[Metric]) -> str:
    """Return the content of the textfile, ending with a newline."""
    lines: list[str] = []
    for metric in metrics:
        if not metric.samples:
            continue
        name = PREFIX + metric.name
        lines.append(f"# HELP {name} {_escape(metric.help)}")
        lines.append(f"# TYPE {name} {metric.type}")
        for labels, value in metric.samples:
            pairs = ",".join(f'{key}="{_escape(text, True)}"' for key, text in labels.items())
            number = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
            lines.append(f"{name}{{{pairs}}} {number}" if pairs else f"{name} {number}")
    return "".join(f"{line}\n" for line in lines)


def _escape(text: str, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped
