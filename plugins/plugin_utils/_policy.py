# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: policies on the controller: read, checked, told about."""

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

_MOST_BYTES = 4 * 1024 * 1024

_PATH = ("policy",)

# The tag of the key `<<`, which is no key, but merges mappings.
_MERGE = "tag:yaml.org,2002:merge"


class Checked(NamedTuple):
    """errors: sentences, all that is wrong; none: policy is set.

    document: the policy as it was given, as plain data; None where it is none.
    """

    policy: Policy | None
    errors: list[str]
    warnings: list[str]
    document: Any = None


def check(value: object) -> Checked:
    """Judge a policy as far as that can be done away from the host that it is for: names of users
    and services are looked up there."""
    try:
        ours = _copied(value, [MOST_VALUES], 0)
        refuse_unplain(ours, _PATH)
        # Without what Ansible has tagged strings and numbers with.
        document = json.loads(json.dumps(ours))
        policy = parse_policy(document, names=AnyNames(), files=None, path=_PATH)
    except PolicyErrors as error:
        return Checked(None, [describe(each) for each in error.errors], [])
    except SocketsError as error:
        return Checked(None, [describe(error)], [])
    return Checked(policy, [], [warning_text(each) for each in policy.warnings], document)


def _copied(value: Any, left: list[int], depth: int) -> Any:
    """Plain mappings and lists, and what was decrypted as strings. left: so many values at most,
    since aliases of YAML make a short document endless; what is left out is refused anyway."""
    left[0] -= 1
    if left[0] < 0 or depth > DEPTH:
        return value
    if isinstance(value, Mapping):
        return {key: _copied(under, left, depth + 1) for key, under in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item, left, depth + 1) for item in value]
    # A vaulted string of ansible-core before 2.19 is no str.
    return str(value) if getattr(value, "__ENCRYPTED__", False) else value


def read(text: str, file: str) -> Any:
    """What a file of YAML or JSON holds. Raises ValueError, in words, where it is neither."""
    if len(text) > _MOST_BYTES:
        raise ValueError(f"{file} is longer than {_MOST_BYTES} characters: this is no policy.")
    try:
        return yaml.load(text, Loader=_EachKeyOnce)
    except (yaml.YAMLError, RecursionError) as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"{file} is neither YAML nor JSON: {problem}.") from error


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a mapping in which a key comes twice: only the last of them would count."""

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
                    None, None, f"the key {key!r} comes more than once", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def told(checked: Checked) -> dict[str, Any]:
    """What a role or a playbook has to know of a policy."""
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
    """Whether the guard or a rule asks who holds a socket, which takes reading descriptors."""
    guard = policy.guard
    if guard.control_connection or guard.ssh_sessions or guard.kernel:
        return True
    return "owners" in guard.needs.union(*(rule.match.needs for rule in policy.rules))
