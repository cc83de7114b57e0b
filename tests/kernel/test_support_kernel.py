# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities that this kernel reports, and probes that change nothing."""

from __future__ import annotations

import errno
import json
import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from linuxnet_sockets.host import kernel_config, namespaces
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.kernel.conftest import Diag, Sockets
from tests.support.topologies import states
from tests.support.topologies.topology import LabNamespace, Pair

_ROOT = Path(__file__).parents[2]
CONNECTIONS = 1000
TIMES = 10_000

_HOST = Host()
_CONFIG = kernel_config.read_config(_HOST.proc, _HOST.root, _HOST.release).options


def _session(where: LabNamespace) -> NamespaceSession:
    (namespace,) = namespaces.resolve([where.name])
    return NamespaceSession(_HOST, namespace)


def _require(option: str, *values: str) -> None:
    """Skip if the option has another value. A kernel without a readable configuration is tested."""
    if _CONFIG[option] not in (*values, None):
        pytest.skip(f"this kernel has {option}={_CONFIG[option]}")


def test_tcp_and_udp_are_supported(pair: Pair) -> None:
    _require("CONFIG_INET_DIAG_DESTROY", "y")
    with _session(pair.client) as session:
        for found in (capabilities.support(session), capabilities.support_for_caller(session)):
            for protocol in ("tcp", "udp"):
                assert found[protocol].verdict == capabilities.SUPPORTED
                assert "ENOENT" in found[protocol].how


def test_missing_raw_handler_names_module(pair: Pair) -> None:
    if _CONFIG["CONFIG_INET_RAW_DIAG"] != "n":
        pytest.skip("this kernel does not say that it was built without CONFIG_INET_RAW_DIAG")
    with _session(pair.client) as session:
        raw = capabilities.support(session)["raw"]
    assert (raw.verdict, raw.module) == (capabilities.HANDLER_MISSING, "raw_diag")
    assert raw.module_available is not True


def test_raw_destroy_ignores_cookie(pair: Pair, diag: Diag) -> None:
    """It counts as unsupported, since another socket may be destroyed."""
    _require("CONFIG_INET_DIAG_DESTROY", "y")
    with _session(pair.client) as session:
        raw = capabilities.support(session)["raw"]
    if raw.verdict == capabilities.HANDLER_MISSING:
        pytest.skip("this kernel has no raw_diag")
    assert raw.verdict == capabilities.NO_COOKIE_CHECK

    held = states.raw(pair)
    sockets = diag(held.where)
    sock = sockets.of(held, "raw")
    assert sockets.destroy(sock._replace(cookie=sock.cookie + 1)) == [0]
    assert not sockets.alive(sock)


def test_mptcp_has_no_destroy_handler(pair: Pair) -> None:
    _require("CONFIG_INET_MPTCP_DIAG", "y", "m")
    _require("CONFIG_INET_DIAG_DESTROY", "y")
    with _session(pair.client) as session:
        found = capabilities.support(session)["mptcp"]
    assert found.verdict == capabilities.NO_DESTROY_HANDLER
    assert "EOPNOTSUPP" in found.how


def test_udplite_cannot_be_aborted(pair: Pair, diag: Diag) -> None:
    """The probe alone would report support, but an existing socket returns another errno."""
    try:
        held = states.udplite_connected(pair)
    except OSError as error:
        pytest.skip(f"this kernel has no UDP-Lite: {error}")
    with _session(pair.client) as session:
        assert capabilities.support(session)["udplite"].verdict == capabilities.NO_DESTROY_HANDLER

    sockets = diag(held.where)
    sock = sockets.of(held, "udplite")
    assert sockets.destroy(sock) == [errno.EOPNOTSUPP]
    assert sockets.alive(sock)


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Raise the limit of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 3 * CONNECTIONS:
        pytest.skip(f"no more than {hard} descriptors for a process")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 3 * CONNECTIONS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.usefixtures("descriptors")
def test_ten_thousand_probes_destroy_nothing(pair: Pair, diag: Diag) -> None:
    ends = _connections(pair)
    pair.client.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("", 0))
    states.udp_explicit(pair)
    states.udp_explicit(pair, v6=True)
    with pair.client.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        sockets = diag(pair.client)
        protocols = [name for name in ("tcp", "udp", "mptcp") if _listed(pair, name)]
        before = _states(sockets, protocols)
        assert len(before) > CONNECTIONS

        with _session(pair.client) as session:
            first = capabilities.support_for_caller(session)
            for _each in range(TIMES):
                assert capabilities.support_for_caller(session) == first

        assert _states(sockets, protocols) == before
        assert raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    for number, (mine, theirs) in enumerate(ends):
        text = str(number).encode()
        mine.sendall(text)
        assert theirs.recv(16) == text
        theirs.sendall(text)
        assert mine.recv(16) == text


def _states(sockets: Sockets, protocols: list[str]) -> set[tuple[int, int, int, bytes]]:
    """The fields that an abort changes: the state, and the remote end of a datagram socket."""
    return {
        (sock.cookie, sock.state, sock.dport, sock.dst)
        for name in protocols
        for sock in sockets.all(name)
    }


def _listed(pair: Pair, protocol: str) -> bool:
    with _session(pair.client) as session:
        missing = (capabilities.HANDLER_MISSING, capabilities.PROTOCOL_MISSING)
        return capabilities.support(session)[protocol].verdict not in missing


def _connections(pair: Pair) -> list[tuple[socket.socket, socket.socket]]:
    listener = pair.server.socket()
    listener.bind((pair.server4, 0))
    listener.listen(CONNECTIONS)
    ends = []
    for _each in range(CONNECTIONS):
        mine = pair.client.socket()
        mine.connect(listener.getsockname())
        theirs, _address = listener.accept()
        ends.append((mine, pair.server.close_at_end(theirs)))
    return ends


_SCRIPT = """
import json, sys
sys.path.insert(0, sys.argv[1])
import tests.conftest
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.sockets.session import NamespaceSession
from linuxnet_sockets.host.namespaces import resolve
host = Host()
with NamespaceSession(host, resolve(["current"])[0]) as session:
    print(json.dumps({
        "may": capabilities.may_destroy(session),
        "kernel": {
            name: each._asdict() for name, each in capabilities.support(session).items()
        },
        "caller": {
            name: each._asdict() for name, each in capabilities.support_for_caller(session).items()
        },
    }))
"""

CALLERS = {
    "nobody": (
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
        capabilities.NO_CAPABILITY,
    ),
    "root without the capability": (
        ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"],
        capabilities.NO_CAPABILITY,
    ),
    "root of a user namespace that does not own this network namespace": (
        ["unshare", "--user", "--map-root-user"],
        capabilities.FOREIGN_USER_NAMESPACE,
    ),
}


@pytest.mark.parametrize(("words", "reason"), CALLERS.values(), ids=CALLERS)
def test_unprivileged_caller_gets_reason(
    pair: Pair, diag: Diag, words: list[str], reason: str
) -> None:
    program = [sys.executable, "-c", f"open({__file__!r})"]
    refused = subprocess.run([*words, *program], capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"{words[0]} cannot do it here: {refused.stderr.strip()}")
    held = states.established(pair)
    sock = diag(held.where).of(held)

    found = _support_as(pair, words)

    assert found["may"] is False
    # Any caller may probe the kernel. Its own permission is reported separately.
    for protocol, kernel in found["kernel"].items():
        caller = found["caller"][protocol]
        if kernel["verdict"] == capabilities.SUPPORTED:
            assert (caller["verdict"], caller["reason"]) == (capabilities.NOT_PERMITTED, reason)
            assert "EPERM" in caller["how"]
        else:
            assert caller == kernel
    assert found["kernel"]["tcp"]["verdict"] == capabilities.SUPPORTED
    assert diag(held.where).alive(sock)


def _support_as(pair: Pair, words: list[str]) -> dict[str, Any]:
    answer = json.loads(pair.client.output(*words, sys.executable, "-B", "-c", _SCRIPT, str(_ROOT)))
    assert isinstance(answer, dict)
    return answer


def test_owner_of_network_namespace_may_destroy() -> None:
    words = ["unshare", "--user", "--map-root-user", "--net"]
    refused = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
    if refused.returncode:
        pytest.skip(f"no user namespaces for this user: {refused.stderr.strip()}")
    done = subprocess.run(
        [*words, sys.executable, "-B", "-c", _SCRIPT, str(_ROOT)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = json.loads(done.stdout)
    assert found["may"] is True
    assert found["caller"] == found["kernel"]
