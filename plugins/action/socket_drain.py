# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of socket_drain: it waits in steps, and shows how far it has come.

A module says nothing before it ends. So this one runs it in steps, each of which hands over what
it knows to the next, and shows a line for the host after each. It decides nothing: without it, the
module does the same in one go.
"""

from __future__ import annotations

import time
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.drain import joined
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._drain_progress import (
    Progress,
    steps,
)

MODULE = "linuxnet.sockets.socket_drain"
DEFAULT_LIMIT = 1000

Result = dict[str, Any]

# Of all steps but the last, what the whole result is made of. The rest is long, since it names
# every connection that is waited for, and steps may be many.
_KEPT = ("destroyed", "truncated", "diff", "warnings", "deprecations")

display = Display()


class ActionModule(ActionBase):
    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        if self._task.async_val or self._task.args.get("step") is not None:
            # Nobody watches a task in the background. One that sets its step goes its own steps.
            result.update(self._step(variables))
        else:
            result.update(self._whole(variables))
        return result

    def _step(self, variables: dict[str, Any], **more: Any) -> Result:
        return self._execute_module(
            module_name=MODULE,
            module_args={**self._task.args, **more},
            task_vars=variables,
            wrap_async=bool(self._task.async_val) and not self._connection.has_native_async,
        )

    def _whole(self, variables: dict[str, Any]) -> Result:
        progress = Progress(self._host(variables))
        results: list[Result] = []
        resume = self._task.args.get("resume")
        for seconds in steps():
            try:
                last = self._step(variables, step=f"{seconds}s", resume=resume)
            except AnsibleError as error:
                if not results:
                    raise
                lost = isinstance(error, AnsibleConnectionFailure)
                last = {"unreachable" if lost else "failed": True, "msg": str(error)}
            if "finished" not in last:
                # Refused, crashed or cut off: it says so itself. What was done before is told too.
                return self._cut_off(results, last) if results else last
            if results:
                results[-1] = {key: results[-1][key] for key in _KEPT if key in results[-1]}
            results.append(last)
            resume = last["resume"]
            if resume is None:
                break
            self._show(progress.line(last, time.monotonic()))
        result = _one(results, self._limit())
        if not result.get("failed"):
            self._show(progress.preview(result) if self._task.check_mode else progress.end(result))
        return result

    def _cut_off(self, results: list[Result], last: Result) -> Result:
        """What failed, and all that the steps before it did."""
        before = _one(results, self._limit())
        return {**before, **last, "changed": before["changed"], "drained": False}

    def _limit(self) -> int:
        return int(self._task.args.get("limit", DEFAULT_LIMIT))

    def _host(self, variables: dict[str, Any]) -> str:
        host = str(variables.get("inventory_hostname", "?"))
        return f"{host} -> {self._task.delegate_to}" if self._task.delegate_to else host

    def _show(self, line: str | None) -> None:
        """On standard error: what a callback prints on standard output stays as it is."""
        if line is not None and not self._task.no_log:
            display.display(line, color=constants.COLOR_VERBOSE, stderr=True)


def _one(results: list[Result], limit: int) -> Result:
    """One result of all steps, which does not show that there were any."""
    result = joined(results, limit)
    for key in ("warnings", "deprecations"):
        said: list[Any] = []
        for each in results:
            said += [entry for entry in each.get(key) or () if entry not in said]
        if said:
            result[key] = said
    asked = result.get("invocation", {}).get("module_args", {})
    asked.update({key: None for key in ("step", "resume") if key in asked})
    return result
