# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what a report says in sentences, and how its numbers are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .._formatting import address_text, duration_text, size_text
from .verdicts import certain, words

# What no look at sockets can tell.
NOT_SHOWN = (
    (
        "Connections that a host only forwards: routers, NAT, containers behind a bridge. They "
        "have no socket there. Ask the hosts at their ends."
    ),
    "Sockets in network namespaces other than those that were asked for.",
    (
        "What is protected: the report does not ask what may be destroyed. SSH sessions and "
        "connections of the kernel (NFS, iSCSI) are listed like any other, and socket_destroy and "
        "socket_drain spare them."
    ),
    (
        "Owners that may not be read. Without root, or in a container, the process that holds a "
        "socket can be unknown."
    ),
    "What an application means to do. A verdict says what the kernel has seen, in numbers.",
)


_MOST_REASONS = 3
# Of the numbers of one verdict, how many stand beside it; the others can be opened.
MOST_NUMBERS = 6


def count_text(count: int) -> str:
    return f"{count:,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count_text(count)} {one if count == 1 else many or one + 's'}"


def time_text(time: str) -> str:
    """2026-11-21T06:41:52Z as 2026-11-21 06:41:52 UTC; anything else as it is."""
    return re.sub(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)Z$", r"\1 \2 UTC", time)


def age_text(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else duration_text(milliseconds)


def headline(report: Mapping[str, Any]) -> str:
    """What is wrong, in one sentence."""
    totals = report["totals"]
    looked, asked = totals["looked"], totals["hosts"]
    if not looked:
        return "No host was asked." if not asked else "No host could be looked at."
    stuck = totals["certain"]
    if not stuck and not totals["found"]:
        return f"No connection is stuck on {_hosts(looked, asked)}."
    if not stuck:
        return f"No connection is stuck for certain, but {count_text(totals['found'])} may be."
    verb = "makes" if stuck == 1 else "make"
    return (
        f"{_at_least(totals)}{plural(stuck, 'connection')}{_where(totals)} {verb} no progress"
        f"{_mostly(totals)}."
    )


def _where(totals: Mapping[str, Any]) -> str:
    affected, looked, asked = totals["affected"], totals["looked"], totals["hosts"]
    if asked == 1:
        return ""
    if looked == 1:
        return " on the only host that answered"
    hosts = plural(looked, "host")
    answered = "" if looked == asked else " that answered"
    if affected == looked:
        return f" on all {hosts}{answered}"
    return f" on {count_text(affected)} of {'the ' if answered else ''}{hosts}{answered}"


def _hosts(looked: int, asked: int) -> str:
    if looked == asked:
        return "this host" if asked == 1 else f"any of {plural(looked, 'host')}"
    return f"the {plural(looked, 'host')} that answered, of {count_text(asked)}"


def _at_least(totals: Mapping[str, Any]) -> str:
    return "At least " if totals["left_out"] else ""


def _mostly(totals: Mapping[str, Any]) -> str:
    """Why: the one reason of more than half of them, or all if there are few, or the first two."""
    sure = {name: count for name, count in totals["verdicts"].items() if certain(name)}
    name = max(sure, key=lambda each: sure[each])
    if sure[name] == totals["certain"]:
        return f", because {words(name).because}"
    if sure[name] * 2 > totals["certain"]:
        return f", most of them ({count_text(sure[name])}) because {words(name).because}"
    most = sorted(sure, key=lambda each: -sure[each])
    reasons = [f"{words(each).because} ({count_text(sure[each])})" for each in most]
    if len(most) <= _MOST_REASONS:
        return f", because {', '.join(reasons[:-1])} and {reasons[-1]}"
    return f", above all because {reasons[0]} and {reasons[1]}"


def remarks(report: Mapping[str, Any]) -> list[str]:
    """What a reader has to know beside the headline: hosts that are missing, what was cut."""
    totals = report["totals"]
    said = []
    for status, why in (
        ("unreachable", "could not be reached"),
        ("failed", "could not be looked at"),
        ("not_asked", "gave no answer"),
    ):
        names = [host["name"] for host in report["hosts"] if host["status"] == status]
        if names:
            said.append(f"{plural(len(names), 'host')} {why}: {listed_text(names)}.")
    if totals["left_out"]:
        cut = [host["name"] for host in report["hosts"] if host["found"] > host["listed"]]
        said.append(
            f"The lists are truncated: {plural(totals['left_out'], 'connection')} of "
            f"{count_text(totals['found'])} {_are(totals['left_out'])} counted but not described "
            f"(on {listed_text(cut)}). A higher limit describes more."
        )
    if totals["owners_unknown"]:
        unknown = totals["owners_unknown"]
        said.append(
            f"Of {plural(unknown, 'connection')} the owner is unknown: no process that may be read "
            f"holds {'it' if unknown == 1 else 'them'}."
        )
    return said


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def listed_text(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    more = len(names) - most
    return f"{shown} and {count_text(more)} more" if more > 0 else shown


def endpoint(entry: Mapping[str, Any], which: str) -> str:
    address = entry[which]
    return "?" if address is None else address_text(address, entry[f"{which}_port"])


def told(name: str, for_ms: int | None) -> str:
    """A verdict and its proven time: "peer reads no more, for at least 9.5s"."""
    title = words(name).title
    return title if for_ms is None else f"{title}, for at least {duration_text(for_ms)}"


def numbers(evidence: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of what is known, for people; the most telling come first."""
    return [evidence_text(name, value) for name, value in evidence.items() if value is not None]


def evidence_text(name: str, value: object) -> tuple[str, str]:
    """The name and the value of one number, for people. The unit is at the end of its name."""
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, (int, float)):
        for unit, write in _UNITS.items():
            if name.endswith(unit):
                return _label(name[: -len(unit)]), _placed(name, write(int(value)))
        shown = f"{value:,}" if isinstance(value, int) and abs(value) >= 100_000 else f"{value:g}"
    else:
        shown = str(value)
    return _label(name), shown


def _placed(name: str, duration: str) -> str:
    """A clock tells how long ago something was, a timer in how long it will be."""
    if name.startswith("last_") or name.endswith("heard_ms"):
        return f"{duration} ago"
    return f"in {duration}" if name.startswith("next_") else duration


_UNITS = {
    "_ms": duration_text,
    "_us": lambda value: f"{value / 1000:g}ms",
    "_bytes": size_text,
}


def _label(name: str) -> str:
    return name.replace("_", " ")


def owner_text(entry: Mapping[str, Any]) -> str | None:
    """comm[pid], how many more hold it, and the unit."""
    held = entry["processes"]
    if not held:
        return None
    first = held[0]
    more = f" +{len(held) - 1}" if len(held) > 1 else ""
    return f"{first['comm']}[{first['pid']}]{more}"
