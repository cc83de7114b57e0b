# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The options that only socket_policy has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core.api.policy import PolicyResult, enforce_policy
from .._core.errors import InputError
from . import arguments


def argument_spec() -> arguments.Spec:
    """As the operation's, with src as the alternative to policy."""
    return {
        **arguments.argument_spec("enforce_policy"),
        "policy": {"type": "dict"},
        "src": {"type": "path"},
    }


def enforce(*, policy: Mapping[str, Any] | None, src: str | None, **options: Any) -> PolicyResult:
    """As enforce_policy. The action plugin replaces src by policy; a module cannot read it."""
    if src is not None:
        raise InputError(
            ("src",),
            src,
            "a file of the controller, which only its action plugin can read",
            "policy, where the module is called without it",
        )
    if policy is None:
        raise InputError(("policy",), None, "no policy is given", "policy or src")
    return enforce_policy(policy, **options)
