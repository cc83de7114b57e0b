# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run destroy() in a subprocess and print its result as JSON.

The guard depends on the calling process: its ancestors and its privileges. Usage:
``python -m tests.kernel.destroy_subprocess REQUEST``. REQUEST is a JSON object with the arguments
of destroy_in_subprocess().
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[2]


def destroy_in_subprocess(
    match: Mapping[str, Any] | None,
    namespaces: Sequence[str],
    *,
    protect: Mapping[str, Any] | None = None,
    check: bool = False,
    without: Sequence[str] = (),
    new_pid_namespace: bool = False,
    proc_options: str | None = None,
    environ: Mapping[str, str] | None = None,
    engine: str = "netlink",
) -> dict[str, Any]:
    """Run the program and return {outcomes: {cookie: name}, rules: {cookie: name}}.

    The result is {error: type, arguments: [...]} if it fails. match None: only resolve the
    namespaces and return their names as {labels: [...]}. without: capabilities to drop, as
    setpriv(1) writes them. new_pid_namespace: run in a PID namespace of its own, as in a container.
    proc_options: run with a /proc mounted with these options. environ: additional variables.
    """
    request = {
        "match": match,
        "namespaces": list(namespaces),
        "protect": protect,
        "check": check,
        "engine": engine,
    }
    command = [sys.executable, "-m", "tests.kernel.destroy_subprocess", json.dumps(request)]
    if new_pid_namespace:
        unshare = shutil.which("unshare") or "unshare"
        command = [unshare, "--fork", "--pid", "--mount-proc", "--kill-child", *command]
    if without:
        setpriv = shutil.which("setpriv") or "setpriv"
        dropped = ",".join(f"-{name}" for name in without)
        command = [setpriv, f"--bounding-set={dropped}", f"--inh-caps={dropped}", *command]
    if proc_options is not None:
        unshare = shutil.which("unshare") or "unshare"
        script = 'mount -t proc -o "$0" proc /proc && exec "$@"'
        command = [unshare, "--mount", "sh", "-c", script, proc_options, *command]
    done = subprocess.run(
        command,
        cwd=_ROOT,
        env={**os.environ, **(environ or {})},
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return {
        key: {int(cookie): name for cookie, name in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in answer.items()
    }


def _destroy(order: Mapping[str, Any]) -> dict[str, Any]:
    from linuxnet_sockets import errors
    from linuxnet_sockets.destroy.command import destroy
    from linuxnet_sockets.destroy.model import DestroyOptions
    from linuxnet_sockets.guard.options import parse_guard
    from linuxnet_sockets.host import namespaces
    from linuxnet_sockets.host.host import Host
    from linuxnet_sockets.selector.parse import parse_selector

    host = Host()
    try:
        resolved = namespaces.resolve(order["namespaces"])
        if order["match"] is None:
            return {"labels": [namespace.name for namespace in resolved]}
        report = destroy(
            host,
            parse_selector(order["match"], names=host, role="destroy"),
            resolved,
            DestroyOptions(
                parse_guard(order["protect"], names=host, files=None),
                check=order["check"],
                engine=order["engine"],
            ),
        )
    except errors.SocketsError as error:
        return {
            "error": type(error).__name__,
            "arguments": [str(argument) for argument in error.args],
        }
    return {
        "outcomes": {result.socket.cookie: result.outcome for result in report.results},
        "rules": {
            result.socket.cookie: result.reason.rule
            for result in report.results
            if result.reason is not None
        },
    }


if __name__ == "__main__":
    # Imported for its side effect: it makes the core importable.
    import tests.conftest  # noqa: F401  # pylint: disable=unused-import

    json.dump(_destroy(json.loads(sys.argv[1])), sys.stdout)
