# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Policies on the controller: load and check them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api import policy as api
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.errors import (
    InputError,
    SocketsError,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.host.yaml_document import (
    parse_yaml,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.policy.model import Policy
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.policy.parse import (
    MAX_DEPTH,
    MAX_VALUES,
    require_json,
)

# Characters of a policy file.
_MAX_LENGTH = 4 * 1024 * 1024

_PATH = ("policy",)

_ALLOWED = "a mapping with the keys version, limits and rules, or its text as JSON or YAML"


class CheckResult(NamedTuple):
    """Result of check_policy(). document: the policy as plain data, None if it has errors."""

    check: api.PolicyCheck
    document: Any = None

    @property
    def policy(self) -> Policy | None:
        """The parsed policy, None if it has errors."""
        return self.check.policy

    @property
    def summary(self) -> dict[str, Any]:
        """What the filter policy_check returns."""
        return self.check.to_dict()

    @property
    def errors(self) -> list[str]:
        """All that is wrong, as sentences; empty for a valid policy."""
        errors: list[str] = self.summary["errors"]
        return errors


def check_policy(value: object) -> CheckResult:
    """Validate a policy without its hosts: user and service names are accepted as they are.

    value: a mapping, or its text as JSON or YAML. Since ansible-core 2.19 a template of JSON is
    text.
    """
    copy = _copy(value, [MAX_VALUES], 0)
    try:
        if isinstance(copy, str):
            copy = _parsed(copy)
        require_json(copy, _PATH)
    except SocketsError as error:
        return CheckResult(api.PolicyCheck(None, errors=(error,)))
    # JSON drops the types by which Ansible tags strings and numbers.
    document = json.loads(json.dumps(copy))
    checked = api.check_policy(document, resolve_names=False)
    return CheckResult(checked, document if checked.valid else None)


def _parsed(text: str) -> Any:
    """The mapping in a text; the text itself if it is not one. Raises InputError."""
    try:
        document = load_document(text, "the text")
    except ValueError as error:
        raise InputError(_PATH, text, str(error).rstrip("."), _ALLOWED) from error
    return document if isinstance(document, dict) else text


def _copy(value: Any, remaining: list[int], depth: int) -> Any:
    """Copy into dicts and lists, with vaulted strings decrypted.

    remaining: one counter of the values that may still be copied. YAML aliases can expand a short
    document without end. Values beyond the limit stay as they are, and validation rejects them.
    """
    remaining[0] -= 1
    if remaining[0] < 0 or depth > MAX_DEPTH:
        return value
    if isinstance(value, Mapping):
        return {key: _copy(item, remaining, depth + 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copy(item, remaining, depth + 1) for item in value]
    # Before ansible-core 2.19, a vaulted string is no str.
    return str(value) if getattr(value, "__ENCRYPTED__", False) else value


def load_document(text: str, file: str) -> Any:
    """Parse the text of a YAML or JSON file. file: its name in messages.

    Raises ValueError with a message for the user.
    """
    if len(text) > _MAX_LENGTH:
        raise ValueError(
            f"{file} is longer than {_MAX_LENGTH} characters, the maximum of a policy."
        )
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{file} is {error}.") from error
