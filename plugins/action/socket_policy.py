# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of socket_policy: the policy is read and judged before anything is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.messages import listed_text
from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _policy

MODULE = "linuxnet.sockets.socket_policy"

Result = dict[str, Any]


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        src = arguments.get("src")
        try:
            self._take_source(arguments)
        except ValueError as error:
            result.update(failed=True, changed=False, msg=str(error))
            return result
        if arguments.get("policy") is not None:
            checked = _policy.check(arguments["policy"])
            if checked.errors:
                place = "" if src is None else f" in {src}"
                result.update(
                    failed=True,
                    changed=False,
                    errors=checked.errors,
                    msg=f"The policy{place} is refused, and nothing was sent: "
                    f"{listed_text(checked.errors)}",
                )
                return result
            arguments["policy"] = checked.document
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
        if not str(src).strip():
            raise ValueError("src: '': empty. Allowed: a file on the controller.")
        policy = _policy.read(self._text(str(src)), str(src))
        if not isinstance(policy, dict):
            raise ValueError(
                f"src: {src!r} holds no policy, but {_kind(policy)}. Is it a template that came "
                "out empty? Allowed: a mapping with the keys version, limits, rules and others."
            )
        arguments["policy"] = policy

    def _text(self, src: str) -> str:
        """What a file of the controller holds, decrypted. Raises ValueError, in words."""
        try:
            file = self._loader.get_real_file(self._find_needle("files", src))
            try:
                return Path(file).read_text(encoding="utf-8")
            finally:
                # One that was decrypted; no other is touched.
                self._loader.cleanup_tmp_file(file)
        except (AnsibleError, OSError, UnicodeDecodeError) as error:
            # Behind the first line is advice for other modules.
            said = str(error).partition("\n")[0]
            raise ValueError(f"src: {src!r} cannot be read on the controller: {said}") from error


def _kind(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
