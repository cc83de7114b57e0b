# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The protocol of agent.sock: one line of JSON as the request, one as the answer.

    -> {"request": "pause", "reason": "moving the database", "for_s": 1800}
    <- {"answer": {"done": true}}
    -> {"request": "confirm", "digest": "821f..."}
    <- {"error": {"name": "other_policy_on_trial", "on_trial": "03ab...", "given": "821f..."}}

After the answer to ``events``, the connection is a stream of events. The page agent_reference.rst
documents all of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..errors import InputError
from ..host.files import parse_json
from ..messages import describe

PAUSE, RESUME, CONFIRM = "pause", "resume", "confirm"
TRIAL, STATUS, EVENTS = "trial", "status", "events"

# Requests that change what the agent does. TRIAL is for root and the agent's own user only.
CHANGES = frozenset({PAUSE, RESUME, CONFIRM, TRIAL})
PRIVILEGED = frozenset({TRIAL})

# Names of errors.
NOT_PERMITTED = "not_permitted"
INVALID = "invalid_request"
TOO_LONG = "request_too_long"
TIMEOUT = "request_timeout"
TOO_MANY = "too_many_clients"
TOO_OFTEN = "too_many_requests"
OTHER_POLICY = "other_policy_on_trial"
FAILED = "failed"
ERRORS = (
    NOT_PERMITTED,
    INVALID,
    TOO_LONG,
    TIMEOUT,
    TOO_MANY,
    TOO_OFTEN,
    OTHER_POLICY,
    FAILED,
)

MAX_REQUEST_BYTES = 4096
# In characters.
MAX_REASON = 200
# A hundred years, which no clock and no file format overflows.
_MAX_SECONDS = 100 * 366 * 86_400.0
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ALLOWED_KEYS = {
    PAUSE: {"reason", "for_s"},
    RESUME: set[str](),
    CONFIRM: {"digest"},
    TRIAL: {"digest", "within_s"},
    STATUS: set[str](),
    EVENTS: set[str](),
}


class Request(NamedTuple):
    """name: of the request. seconds: for_s or within_s; None: no end. digest: None: any policy."""

    name: str
    reason: str = ""
    seconds: float | None = None
    digest: str | None = None


def parse_request(line: bytes) -> Request:
    """Parse the line of a client, without its line feed. Raises InputError."""
    try:
        value = parse_json(line)
    except ValueError as error:
        raise InputError((), "", str(error), "one JSON object on one line") from error
    if not isinstance(value, dict):
        raise InputError((), "", "not a JSON object", '{"request": NAME, ...}')
    name = value.pop("request", None)
    if not isinstance(name, str) or name not in _ALLOWED_KEYS:
        raise InputError(("request",), name, "unknown request", ", ".join(_ALLOWED_KEYS))
    allowed = _ALLOWED_KEYS[name]
    for key in value:
        if key not in allowed:
            raise InputError(
                (key,), value[key], "unknown key", ", ".join(sorted(allowed)) or "none"
            )
    digest = value.get("digest")
    return Request(
        name,
        parse_reason(value.get("reason", "")),
        _seconds(name, value),
        None if digest is None and name != TRIAL else parse_digest(digest),
    )


def parse_reason(value: object) -> str:
    """Check the reason of a pause. Raises InputError."""
    if not isinstance(value, str) or len(value) > MAX_REASON:
        problem = "not a text" if not isinstance(value, str) else f"{len(value)} characters long"
        raise InputError(("reason",), value, problem, f"a text of at most {MAX_REASON} characters")
    return value


def parse_digest(value: object) -> str:
    """Check the digest of a policy. Raises InputError."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise InputError(("digest",), value, "not a digest", "64 hexadecimal digits in lower case")
    return value


def _seconds(name: str, value: Mapping[str, Any]) -> float | None:
    key = "within_s" if name == TRIAL else "for_s"
    seconds = value.get(key)
    if seconds is None and name != TRIAL:
        return None
    valid = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    if not valid or not math.isfinite(seconds) or not 0 < seconds <= _MAX_SECONDS:  # type: ignore[arg-type,operator]
        raise InputError((key,), seconds, "not a valid time", "a positive number of seconds")
    return float(seconds)  # type: ignore[arg-type]


def answer(**fields: Any) -> bytes:
    """The line that answers a request."""
    return _line({"answer": fields})


def error(name: str, **fields: Any) -> bytes:
    """The line that refuses a request. name: one of ERRORS."""
    return _line({"error": {"name": name, **fields}})


def invalid(problem: InputError) -> bytes:
    """The line for a request with an invalid value."""
    return error(INVALID, message=describe(problem))


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n"
