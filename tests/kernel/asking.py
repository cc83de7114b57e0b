# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that gives one order to the core, as a module does, and prints what came of it.

It runs in a process of its own: who asks, and with which privileges, decides about the guard.
Run as ``python -m tests.kernel.asking ORDER`` with a mapping of ask()'s arguments as JSON.
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


def ask(
    match: Mapping[str, Any] | None,
    namespaces: Sequence[str],
    *,
    protect: Mapping[str, Any] | None = None,
    check: bool = False,
    without: Sequence[str] = (),
    apart: bool = False,
    environ: Mapping[str, str] | None = None,
    engine: str = "netlink",
) -> dict[str, Any]:
    """Run the program; {outcomes: {cookie: name}, rules: {cookie: name}}, or {error: type, ...}.

    match None: only resolve the namespaces and say their labels. without: capabilities that it
    shall not have, as setpriv(1) writes them. apart: it sees no processes but its own, as in a
    container. environ: more variables.
    """
    order = {
        "match": match,
        "namespaces": list(namespaces),
        "protect": protect,
        "check": check,
        "engine": engine,
    }
    words = [sys.executable, "-m", "tests.kernel.asking", json.dumps(order)]
    if apart:
        unshare = shutil.which("unshare") or "unshare"
        words = [unshare, "--fork", "--pid", "--mount-proc", "--kill-child", *words]
    if without:
        setpriv = shutil.which("setpriv") or "setpriv"
        dropped = ",".join(f"-{name}" for name in without)
        words = [setpriv, f"--bounding-set={dropped}", f"--inh-caps={dropped}", *words]
    done = subprocess.run(
        words,
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


def _answer(order: Mapping[str, Any]) -> dict[str, Any]:
    from linuxnet_sockets import errors
    from linuxnet_sockets.destroy.command import destroy
    from linuxnet_sockets.destroy.model import DestroyOptions
    from linuxnet_sockets.guard.options import parse_guard
    from linuxnet_sockets.host import namespaces
    from linuxnet_sockets.host.host import Host
    from linuxnet_sockets.selector.parse import parse_selector

    host = Host()
    try:
        meant = namespaces.resolve(order["namespaces"])
        if order["match"] is None:
            return {"labels": [each.name for each in meant]}
        report = destroy(
            host,
            parse_selector(order["match"], names=host, role="destroy"),
            meant,
            DestroyOptions(
                parse_guard(order["protect"], names=host, files=None),
                check=order["check"],
                engine=order["engine"],
            ),
        )
    except errors.SocketsError as error:
        return {"error": type(error).__name__, "arguments": [str(each) for each in error.args]}
    return {
        "outcomes": {result.socket.cookie: result.outcome for result in report.results},
        "rules": {
            result.socket.cookie: result.reason.rule
            for result in report.results
            if result.reason is not None
        },
    }


if __name__ == "__main__":
    # For what it does: it makes the core importable.
    import tests.conftest  # noqa: F401  # pylint: disable=unused-import

    json.dump(_answer(json.loads(sys.argv[1])), sys.stdout)
