# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""All sentences for users: typed errors, warnings and failures as text.

Texts that only policies need are in ``messages.policy``, those of the agent's events in
``messages.events``.
"""

from __future__ import annotations

from .errors import (
    describe,
    errno_text,
    listed_text,
    os_error_text,
    path_text,
    rejected_text,
    untrusted_text,
    warning_text,
)
from .results import (
    budget_text,
    describe_failure,
    describe_warning,
    endpoint_text,
    exceeded_lines,
    gone_interfaces_text,
    not_evaluated_text,
    place_text,
    rule_and_user_text,
    socket_text,
    unknown_interfaces_text,
)

__all__ = [
    "budget_text",
    "describe",
    "describe_failure",
    "describe_warning",
    "endpoint_text",
    "errno_text",
    "exceeded_lines",
    "gone_interfaces_text",
    "listed_text",
    "not_evaluated_text",
    "os_error_text",
    "path_text",
    "place_text",
    "rejected_text",
    "rule_and_user_text",
    "socket_text",
    "unknown_interfaces_text",
    "untrusted_text",
    "warning_text",
]
