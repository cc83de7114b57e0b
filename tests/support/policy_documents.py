# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policy documents for tests, and the user and service names that they use."""

from __future__ import annotations

from typing import Any

from linuxnet_sockets.policy.model import Policy
from linuxnet_sockets.policy.parse import parse_policy


class PolicyNames:
    """User and service names of the sample policies."""

    def user_id(self, name: str) -> int | None:
        return {"root": 0, "www": 33, "alice": 1000}.get(name)

    def service_port(self, name: str, protocol: str) -> int | None:
        return {"https": 443, "domain": 53}.get(name) if protocol in ("tcp", "udp") else None


def rule(name: str = "a-rule", **keys: Any) -> dict[str, Any]:
    """A rule; `while_` stands for the key `while`."""
    named = {("while" if key == "while_" else key): value for key, value in keys.items()}
    return {"name": name, "match": {"remote": "198.51.100.0/24"}, **named}


def document(*rules: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "limits": {"max_sockets": 100},
        "rules": list(rules) or [rule()],
        **keys,
    }


def policy(*rules: dict[str, Any], **keys: Any) -> Policy:
    return parse_policy(document(*rules, **keys), names=PolicyNames(), files=None)
