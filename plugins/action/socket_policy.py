# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of socket_policy: the policy is read and judged before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _policy

MODULE = "linuxnet.sockets.socket_policy"

Result = dict[str, Any]


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        try:
            self._take_source(arguments)
        except ValueError as error:
            result.update(failed=True, changed=False, msg=str(error))
            return result
        if arguments.get("policy") is not None:
            checked = _policy.check(arguments["policy"])
            if checked.errors:
                result.update(
                    failed=True,
                    changed=False,
                    errors=checked.errors,
                    msg=f"The policy is refused, and nothing was sent. {' '.join(checked.errors)}",
                )
                return result
        result.update(
            self._execute_module(
                module_name=MODULE,
                module_args=arguments,
                task_vars=task_vars or {},
                wrap_async=bool(self._task.async_val) and not self._connection.has_native_async,
            )
        )
        return result

    def _take_source(self, arguments: Result) -> None:
        """Put what src holds in the place of policy. Raises ValueError, in words."""
        src = arguments.pop("src", None)
        if src is None:
            return
        if arguments.get("policy") is not None:
            raise ValueError("Both policy and src are given. Allowed: one of them.")
        try:
            file = self._loader.get_real_file(self._find_needle("files", str(src)))
            text = Path(file).read_text(encoding="utf-8")
        except (AnsibleError, OSError, UnicodeDecodeError) as error:
            raise ValueError(f"src: {src!r} cannot be read on the controller: {error}") from error
        policy = _policy.read(text, str(src))
        if not isinstance(policy, dict):
            raise ValueError(
                f"src: {src!r} holds no policy, but {_kind(policy)}. Is it a template that came "
                "out empty? Allowed: a mapping with the keys version, limits, rules and others."
            )
        arguments["policy"] = policy


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
