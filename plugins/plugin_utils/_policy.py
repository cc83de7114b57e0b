# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Policies on the controller: load, check and summarize them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.errors import (
    PolicyErrors,
    SocketsError,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.messages import (
    describe,
    warning_text,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.policy.model import Policy
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.policy.parse import (
    AnyNames,
    parse_policy,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.policy.plain import (
    DEPTH,
    MOST_VALUES,
    refuse_unplain,
)

# Characters of a policy file.
_MAX_LENGTH = 4 * 1024 * 1024

_PATH = ("policy",)

# The tag of the YAML key `<<`, which merges mappings.
_MERGE = "tag:yaml.org,2002:merge"


class CheckResult(NamedTuple):
    """Result of check_policy().

    policy: None if there are errors. errors, warnings: messages. document: the policy as plain
    data, None if there are errors.
    """

    policy: Policy | None
    errors: list[str]
    warnings: list[str]
    document: Any = None


def check_policy(value: object) -> CheckResult:
    """Validate a policy without its hosts: user and service names are accepted as they are."""
    try:
        copy = _copy(value, [MOST_VALUES], 0)
        refuse_unplain(copy, _PATH)
        # JSON drops the types by which Ansible tags strings and numbers.
        document = json.loads(json.dumps(copy))
        policy = parse_policy(document, names=AnyNames(), files=None, path=_PATH)
    except PolicyErrors as error:
        return CheckResult(None, [describe(entry) for entry in error.errors], [])
    except SocketsError as error:
        return CheckResult(None, [describe(error)], [])
    warnings = [warning_text(warning) for warning in policy.warnings]
    return CheckResult(policy, [], warnings, document)


def _copy(value: Any, remaining: list[int], depth: int) -> Any:
    """Copy into dicts and lists, with vaulted strings decrypted.

    remaining: one counter of the values that may still be copied. YAML aliases can expand a short
    document without end. Values beyond the limit stay as they are, and validation rejects them.
    """
    remaining[0] -= 1
    if remaining[0] < 0 or depth > DEPTH:
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
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{file} is not valid YAML or JSON: {problem}.") from error


class _UniqueKeyLoader(yaml.SafeLoader):
    """A YAML loader that rejects duplicate keys. PyYAML would keep only the last one."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[object] = set()
        for key_node, _value in node.value:
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, (str, int, float, bool, type(None))):
                continue
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def summarize(checked: CheckResult) -> dict[str, Any]:
    """Return the result of the filter policy_check."""
    policy = checked.policy
    return {
        "valid": policy is not None,
        "errors": checked.errors,
        "warnings": checked.warnings,
        "digest": None if policy is None else policy.digest,
        "mode": None if policy is None else policy.mode,
        "namespaces": [] if policy is None else list(policy.namespaces),
        "needs": [] if policy is None else sorted(policy.needs),
        "reads_owners": policy is not None and _reads_owners(policy),
        "longest_hold_s": None if policy is None else policy.longest_hold_ms / 1000,
    }


def _reads_owners(policy: Policy) -> bool:
    """Whether the guard or a rule depends on the owners of sockets, read from /proc/PID/fd."""
    guard = policy.guard
    if guard.control_connection or guard.ssh_sessions or guard.kernel:
        return True
    return "owners" in guard.needs.union(*(rule.match.needs for rule in policy.rules))
