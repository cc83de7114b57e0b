# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Events of the agent as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..text import printable
from .policy import protection_text
from .results import connection_text


def event_text(event: Mapping[str, Any]) -> str:
    """Describe an event in one line, with its time."""
    describe = _TEXTS.get(event["event"], _unknown)
    return printable(f"{event['at']} {describe(event)}")


def _policy(event: Mapping[str, Any]) -> str:
    rules = event["rules"]
    counted = "1 rule" if rules == 1 else f"{rules} rules"
    return f"policy {event['digest'][:12]} in force: mode {event['mode']}, {counted}"


def _state(event: Mapping[str, Any]) -> str:
    condition, text = event["condition"], event["text"]
    return f"{condition}: ended" if text is None else f"{condition}: {text}"


def _socket(event: Mapping[str, Any]) -> str:
    reason = "" if event["reason"] is None else f" ({event['reason']})"
    sock = connection_text(event["record"])
    return (
        f"{event['outcome']}{reason}: {sock}{_cause(event['rule'], '; '.join(event['evidence']))}"
    )


def _violation(event: Mapping[str, Any]) -> str:
    owner = "" if event["comm"] is None else f" {event['comm']}[{event['pid']}]"
    namespace = "" if event["namespace"] == "current" else f" in {event['namespace']}"
    return (
        f"{event['status']}{protection_text(event)}: {event['protocol']} {event['state']} "
        f"{event['local']} -> {event['remote']}{owner}{namespace}"
        f"{_cause(event['rule'], event['evidence'])}"
    )


def _cause(rule: str, evidence: str | None) -> str:
    return f" (rule {rule})" if not evidence else f" (rule {rule}: {evidence})"


def _unknown(event: Mapping[str, Any]) -> str:
    fields = {key: value for key, value in event.items() if key not in ("event", "at")}
    return f"{event['event']}: {json.dumps(fields)}"


_TEXTS = {"policy": _policy, "state": _state, "socket": _socket, "violation": _violation}
