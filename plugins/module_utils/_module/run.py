# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The one place where the core and Ansible meet."""

from __future__ import annotations

import gc
from collections.abc import Callable

from ansible.module_utils.basic import AnsibleModule

from .._core.api.task import OperationResult
from .._core.errors import PolicyErrors, SocketsError
from .._core.messages import describe, describe_failure, describe_warning, rejected_text
from .._core.text import printable_values
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
    module.params = printable_values(module.params)
    options = dict(module.params)
    if modes:
        options.update(check=module.check_mode, diff=module._diff)
    try:
        result = operation(**options)
    except PolicyErrors as error:
        errors = [describe(each) for each in error.errors]
        text = rejected_text(errors, effect="nothing was done on this host")
        module.fail_json(msg=text, changed=False, errors=errors)
    except SocketsError as error:
        module.fail_json(msg=describe(error), changed=False)
    for warning in result.warnings:
        module.warn(describe_warning(warning))
    data = result.to_dict()
    if fact is not None:
        data = {"changed": False, "ansible_facts": {fact: data}}
    if result.failures:
        module.fail_json(msg=" ".join(map(describe_failure, result.failures)), **data)
    module.exit_json(**data)
