# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the one edge between the core and Ansible."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule

from .._core.errors import SocketsError
from .._core.host.host import Host
from .._core.messages import describe


class Request(NamedTuple):
    """What the task asked: its options, and whether it runs in check and in diff mode."""

    options: Mapping[str, Any]
    check: bool
    diff: bool


class Answer(NamedTuple):
    """What the task returns.

    failure: why it failed, and what to do; None: it did not. The result comes back either way.
    """

    result: dict[str, Any]
    failure: str | None = None
    warnings: Sequence[str] = ()


Work = Callable[[Request, Host], Answer]


def run_module(argument_spec: dict[str, Any], work: Work) -> None:
    """Take the task's options, do the work, and leave through exit_json or fail_json.

    A typed error becomes its sentence. Any other exception is a defect, and is left to show itself.
    """
    # A module's process lives for a moment: collecting cycles costs more than it frees.
    gc.disable()
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    request = Request(module.params, module.check_mode, module._diff)
    try:
        answer = work(request, Host())
    except SocketsError as error:
        module.fail_json(msg=describe(error), changed=False)
    for warning in answer.warnings:
        module.warn(warning)
    if answer.failure is not None:
        module.fail_json(msg=answer.failure, **answer.result)
    module.exit_json(**answer.result)
