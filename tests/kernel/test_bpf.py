# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf_sock_destroy on the running kernel: exact cookies, one namespace, permissions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.bpf import btf, socket_destroy
from linuxnet_sockets.destroy.engines import registry
from linuxnet_sockets.destroy.engines.base import Declined
from linuxnet_sockets.destroy.engines.bpf import BpfEngine
from linuxnet_sockets.destroy.engines.pidfd import PidfdEngine
from linuxnet_sockets.destroy.engines.sock_destroy import NetlinkEngine
from linuxnet_sockets.host import namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.sockets.socket import Socket
from tests.kernel.bpf_calls import needs_bpf
from tests.kernel.conftest import Diag
from tests.kernel.destroy_calls import outcomes_of, run
from tests.support.topologies import states
from tests.support.topologies.topology import Lab, Pair

_ROOT = Path(__file__).parents[2]

pytestmark = needs_bpf


def _destroy(where: str, cookies: Sequence[int]) -> dict[int, int]:
    (namespace,) = namespaces.resolve([where])
    return Host().destroy_by_bpf(namespace, "tcp", cookies)


def test_only_listed_cookies_are_destroyed(pair: Pair) -> None:
    held = [states.established(pair) for _connection in range(40)]
    cookies = [states.cookie_of(each.target) for each in held if each.target is not None]
    assert len(cookies) == 40
    results = _destroy(pair.client.name, [*cookies[::2], 1 << 60])
    assert results == {**dict.fromkeys(cookies[::2], 0), 1 << 60: socket_destroy.UNSEEN}
    for index, each in enumerate(held):
        assert each.target is not None
        if index % 2:
            each.target.sendall(b"x")
        else:
            with pytest.raises(ConnectionAbortedError):
                each.target.recv(1)


def test_only_one_namespace_is_visited(lab: Lab) -> None:
    pairs = [Pair(lab), Pair(lab)]
    held = [states.established(pair) for pair in pairs]
    cookies = [states.cookie_of(each.target) for each in held if each.target is not None]
    results = _destroy(pairs[1].client.name, cookies)
    assert results == {cookies[0]: socket_destroy.UNSEEN, cookies[1]: 0}
    assert held[0].target is not None
    held[0].target.sendall(b"x")


def test_reuseport_listeners_go_in_one_walk(lab: Lab) -> None:
    where = lab.namespace("a")
    group = states.reuseport(where, "127.0.0.1", 1, 16)
    cookies = [states.cookie_of(sock) for sock in group]
    assert _destroy(where.name, cookies) == dict.fromkeys(cookies, 0)


class _WithoutDestroy(NetlinkEngine):
    """Engine netlink on a kernel without CONFIG_INET_DIAG_DESTROY."""

    def declines(
        self,
        session: NamespaceSession,  # noqa: ARG002 - of the interface
        sockets: Sequence[Socket],
    ) -> list[Declined | None]:
        return [Declined("kernel_without_destroy")] * len(sockets)


def test_auto_falls_back_to_bpf(pair: Pair, diag: Diag, monkeypatch: pytest.MonkeyPatch) -> None:
    held, orphan = states.established(pair), states.fin_wait_1_orphan(pair)
    before = diag(pair.client).of(orphan)
    engines = (_WithoutDestroy(), BpfEngine(), PidfdEngine())
    monkeypatch.setattr(registry, "engines_named", lambda _name: engines)
    match = {"state": ["established", "fin-wait-1"], "local": pair.client4}
    report = run(pair.client, match, engine="auto")
    assert outcomes_of(report) == {held.cookie: "destroyed", before.cookie: "destroyed"}
    assert report.engines == ("bpf",)
    assert not diag(pair.client).alive(before)


def test_no_descriptor_is_left_open(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    held = states.established(pair)
    run(pair.client, {"remote_port": 1}, engine="bpf")
    before = sorted(os.listdir("/proc/self/fd"))
    # The verifier rejects a kfunc that is no function.
    types = socket_destroy.read_types()
    assert types is not None
    with monkeypatch.context() as patched:
        patched.setattr(socket_destroy, "read_types", lambda: types._replace(kfunc=1))
        assert socket_destroy.probe("tcp").verdict == socket_destroy.REJECTED
        assert run(pair.client, {"remote_port": held.remote[1]}, engine="bpf").failed
    assert run(pair.client, {"remote_port": held.remote[1]}, engine="bpf").counts == {
        "destroyed": 1
    }
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_types_are_read_quickly() -> None:
    content = Path(btf.VMLINUX).read_bytes()
    times = []
    for _attempt in range(3):
        start = time.process_time()
        socket_destroy.types_in(content)
        times.append(time.process_time() - start)
    assert min(times) < 0.1


# Permissions.

_PROBE = """
import json, sys
sys.path.insert(0, "plugins/module_utils")
from _core import api
print(json.dumps(api.support().to_dict()["bpf"]))
"""


def _support(*prefix: str) -> dict[str, dict[str, str | None]]:
    """What a process with fewer rights reports."""
    done = subprocess.run(
        [*prefix, sys.executable, "-c", _PROBE],
        cwd=_ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def _with_only(*names: str) -> list[str]:
    setpriv = shutil.which("setpriv") or "setpriv"
    kept = "".join(f",+{name}" for name in names)
    return [setpriv, f"--bounding-set=-all{kept}", "--inh-caps=-all"]


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        (["bpf", "perfmon"], "supported"),
        (["sys_admin"], "supported"),
        (["bpf"], "not_permitted"),
        (["perfmon", "net_admin"], "not_permitted"),
        ([], "not_permitted"),
    ],
)
def test_capabilities_that_it_needs(kept: list[str], verdict: str) -> None:
    found = _support(*_with_only(*kept))
    reason = None if verdict == "supported" else capabilities.NO_CAPABILITY
    for protocol in ("tcp", "udp"):
        assert (found[protocol]["verdict"], found[protocol]["reason"]) == (verdict, reason)
    assert found["mptcp"]["verdict"] == socket_destroy.NO_ITERATOR


def test_root_of_a_user_namespace_may_not() -> None:
    found = _support("unshare", "--user", "--map-root-user")
    assert found["tcp"]["verdict"] == socket_destroy.NOT_PERMITTED
    assert found["tcp"]["reason"] == capabilities.FOREIGN_USER_NAMESPACE


def test_support_of_this_kernel() -> None:
    found = api.support().to_dict()["bpf"]
    assert {name: each["verdict"] for name, each in found.items()} == {
        "tcp": "supported",
        "udp": "supported",
        "udplite": "no_iterator",
        "raw": "no_iterator",
        "mptcp": "no_iterator",
    }
