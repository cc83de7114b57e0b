# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The one place where the core and Ansible meet."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.validation import check_type_dict

from .._core.api.task import OperationResult
from .._core.errors import InputError, PolicyErrors, SocketsError
from .._core.messages import describe, describe_failure, rejected_text
from .._core.text import encodable_values
from .._core.values import Path, describe_type
from .arguments import Spec


def run_module(
    argument_spec: Spec,
    operation: Callable[..., OperationResult],
    *,
    modes: bool = False,
    fact: str | None = None,
) -> None:
    """Call an operation of the API with the task's options, and return its result to Ansible.

    modes: the operation takes `check` and `diff`. fact: return the result as the fact of this name.
    Typed errors become messages. Any other exception is a defect of ours and is not caught.
    """
    # A module's process lives for a moment: collecting cycles costs more than it frees.
    gc.disable()
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    # Ansible repeats the parameters in the result, which must be valid UTF-8.
    module.params = encodable_values(module.params)
    try:
        options = {
            name: _mappings(spec, module.params[name], (name,))
            for name, spec in argument_spec.items()
        }
        if modes:
            options.update(check=module.check_mode, diff=module._diff)
        result = operation(**options)
    except PolicyErrors as error:
        errors = [describe(each) for each in error.errors]
        text = rejected_text(errors, effect="nothing was done on this host")
        module.fail_json(msg=text, changed=False, errors=errors)
    except SocketsError as error:
        module.fail_json(msg=describe(error), changed=False)
    data = result.to_dict()
    for warning in data.pop("warnings"):
        module.warn(warning)
    if fact is not None:
        data = {"changed": False, "ansible_facts": {fact: data}}
    if result.failures:
        module.fail_json(msg=" ".join(map(describe_failure, result.failures)), **data)
    module.exit_json(**data)


def _mappings(spec: Spec, value: Any, path: Path) -> Any:
    """Options of type raw, with mappings in place of their text as Ansible's type dict reads it.

    The core rejects other values with the right form, which Ansible does not know. Raises
    InputError for null, which the API takes for an option that is not given.
    """
    if isinstance(value, dict) and "options" in spec:
        return {
            name: _mappings(spec["options"][name], under, (*path, name))
            for name, under in value.items()
        }
    if isinstance(value, list) and spec.get("elements") == "raw":
        return [_mapping(each) for each in value]
    if spec.get("type") != "raw":
        return value
    if value is None:
        raise InputError(path, value, describe_type(value), "a selector, which is a mapping")
    return _mapping(value)


def _mapping(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return check_type_dict(value)
    except (TypeError, ValueError):
        return value
