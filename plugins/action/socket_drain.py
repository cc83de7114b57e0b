# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Action plugin of socket_drain: runs the module in steps and shows progress.

A module cannot report progress while it runs. This plugin therefore runs it in steps, passes the
`resume` token of each step to the next, and prints a line per host after each step. It makes no
decisions: the module alone does the same in a single run.
"""

from __future__ import annotations

import time
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.drain_sockets import (
    join_steps,
)
from ansible_collections.linuxnet.sockets.plugins.module_utils._core.api.options import (
    DEFAULT_LIMIT,
)
from ansible_collections.linuxnet.sockets.plugins.plugin_utils._drain_progress import (
    DrainProgress,
    step_seconds,
)

MODULE = "linuxnet.sockets.socket_drain"

Result = dict[str, Any]

# Keys of the earlier steps that go into the combined result. The others list every tracked
# connection, and there may be many steps.
_COMBINED_KEYS = ("destroyed", "truncated", "diff", "warnings", "deprecations")

display = Display()


class ActionModule(ActionBase):
    """Runs the module socket_drain step by step."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> Result:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        if self._task.async_val or self._task.args.get("step") is not None:
            # An asynchronous task shows no progress. A task with `step` does the stepping itself.
            result.update(self._run_step(variables))
        else:
            result.update(self._run_steps(variables))
        return result

    def _run_step(self, variables: dict[str, Any], **more: Any) -> Result:
        return self._execute_module(
            module_name=MODULE,
            module_args={**self._task.args, **more},
            task_vars=variables,
            wrap_async=bool(self._task.async_val) and not self._connection.has_native_async,
        )

    def _run_steps(self, variables: dict[str, Any]) -> Result:
        progress = DrainProgress(self._host(variables))
        results: list[Result] = []
        resume = self._task.args.get("resume")
        for seconds in step_seconds():
            try:
                last = self._run_step(variables, step=f"{seconds}s", resume=resume)
            except AnsibleError as error:
                if not results:
                    raise
                unreachable = isinstance(error, AnsibleConnectionFailure)
                last = {"unreachable" if unreachable else "failed": True, "msg": str(error)}
            if "finished" not in last:
                # The step was rejected, crashed or lost its connection; its message says which.
                # The combined result keeps the results of the earlier steps.
                return self._interrupted(results, last) if results else last
            if results:
                results[-1] = {
                    key: results[-1][key] for key in _COMBINED_KEYS if key in results[-1]
                }
            results.append(last)
            resume = last["resume"]
            if resume is None:
                break
            self._show(progress.update(last, time.monotonic()))
        result = _combine(results)
        if not result.get("failed"):
            self._show(
                progress.preview(result) if self._task.check_mode else progress.summary(result)
            )
        return result

    def _interrupted(self, results: list[Result], last: Result) -> Result:
        """Return the failed step with the combined result of the steps before it."""
        before = _combine(results)
        return {**before, **last, "changed": before["changed"], "drained": False}

    def _host(self, variables: dict[str, Any]) -> str:
        host = str(variables.get("inventory_hostname", "?"))
        return f"{host} -> {self._task.delegate_to}" if self._task.delegate_to else host

    def _show(self, line: str | None) -> None:
        """Print to standard error, because callbacks own standard output."""
        if line is not None and not self._task.no_log:
            display.display(line, color=constants.COLOR_VERBOSE, stderr=True)


def _combine(results: list[Result]) -> Result:
    """Combine the results of all steps into that of a single run."""
    # As the module parsed it: a second parser here could fail after sockets were destroyed.
    parsed = results[-1].get("invocation", {}).get("module_args", {}).get("limit")
    result = join_steps(results, parsed if isinstance(parsed, int) else DEFAULT_LIMIT)
    for key in ("warnings", "deprecations"):
        entries: list[Any] = []
        for step in results:
            entries += [entry for entry in step.get(key) or () if entry not in entries]
        if entries:
            result[key] = entries
    arguments = result.get("invocation", {}).get("module_args", {})
    arguments.update({key: None for key in ("step", "resume") if key in arguments})
    return result
