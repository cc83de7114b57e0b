# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of socket_policy: loads and validates the policy before it contacts the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.messages import rejected_text
from ansible_collections.linuxnet.sockets.plugins.plugin_utils import _policy

MODULE = "linuxnet.sockets.socket_policy"

Result = dict[str, Any]


class ActionModule(ActionBase):
    """Runs the module socket_policy with a valid policy, or fails without contacting the host."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        src = arguments.get("src")
        try:
            self._load_source(arguments)
        except ValueError as error:
            result.update(failed=True, changed=False, msg=str(error))
            return result
        if arguments.get("policy") is not None:
            checked = _policy.check_policy(arguments["policy"])
            if checked.errors:
                location = "" if src is None else f" in {src}"
                result.update(
                    failed=True,
                    changed=False,
                    errors=checked.errors,
                    msg=rejected_text(
                        checked.errors,
                        policy=f"The policy{location}",
                        effect="nothing was sent to the host",
                    ),
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

    def _load_source(self, arguments: Result) -> None:
        """Replace the argument src with the policy in that file.

        Raises ValueError with a message for the user.
        """
        src = arguments.pop("src", None)
        if src is None:
            return
        if arguments.get("policy") is not None:
            raise ValueError("policy and src are mutually exclusive; set one of them.")
        if not str(src).strip():
            raise ValueError("src: '': empty; expected a file on the controller.")
        policy = _policy.load_document(self._read(str(src)), str(src))
        if not isinstance(policy, dict):
            raise ValueError(
                f"src: {src!r} contains {_type_name(policy)}; expected a mapping with the keys "
                "version, limits and rules. Check whether it is a template that rendered empty."
            )
        arguments["policy"] = policy

    def _read(self, src: str) -> str:
        """Return the decrypted text of a file on the controller.

        Raises ValueError with a message for the user.
        """
        try:
            file = self._loader.get_real_file(self._find_needle("files", src))
            try:
                return Path(file).read_text(encoding="utf-8")
            finally:
                # Deletes only a decrypted copy.
                self._loader.cleanup_tmp_file(file)
        except (AnsibleError, OSError, UnicodeDecodeError) as error:
            # The lines after the first give advice for other modules.
            problem = str(error).partition("\n")[0]
            raise ValueError(f"src: {src!r} cannot be read on the controller: {problem}") from error


def _type_name(value: object) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
