# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nftables rule set of a policy, loaded into a namespace."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest

from linuxnet_sockets.policy.nftables_rules import remove_text, rule_set
from tests.support.policy_documents import policy, rule
from tests.support.topologies.networks import ip
from tests.support.topologies.topology import Lab, LabNamespace

pytestmark = pytest.mark.skipif(shutil.which("nft") is None, reason="there is no nft")

MARK = 0x51
USER = 1500
PORT = 4000
OUTSIDE, OUTSIDE6 = "198.51.100.1", "2001:db8:51::1"
ALLOWED, ALLOWED6 = "203.0.113.1", "2001:db8:113::1"
VPN, VPN6 = "10.8.0.2", "fd00:8::2"

# Sends with a socket of a user, and prints the result. setfsuid(2) leaves the capabilities.
_SEND = """
import ctypes, socket, sys
kind, address, port, mark, user = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
ctypes.CDLL(None).setfsuid(user)
sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET,
    socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
if mark:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
sock.settimeout(5)
try:
    sock.connect((address, port))
    sock.send(b"x")
    sock.recv(1)
    print("passed")
except OSError as error:
    print(type(error).__name__, error)
"""

# Answers TCP and UDP on its addresses, UDP from the address that was asked.
_SERVE = """
import socket, sys, threading
tcp = socket.create_server(("::", 4000), family=socket.AF_INET6, dualstack_ipv6=True)
def answer(udp):
    while True:
        data, peer = udp.recvfrom(10)
        udp.sendto(data, peer)
for address in sys.argv[1:]:
    udp = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, 4000))
    threading.Thread(target=answer, args=[udp], daemon=True).start()
print("ready", flush=True)
held = []
while True:
    held.append(tcp.accept()[0])
    held[-1].send(b"x")
"""


class Machine:
    """A host with an uplink, a link that stands for the VPN, and a server behind both."""

    def __init__(self, lab: Lab) -> None:
        self.host, far = lab.namespace("host"), lab.namespace("far")
        uplink, far_uplink = lab.connect(
            self.host,
            far,
            ["192.0.2.1/24", "2001:db8:2::1/64"],
            ["192.0.2.2/24", "2001:db8:2::2/64"],
        )
        self.vpn, _far_vpn = lab.connect(
            self.host, far, ["10.8.0.1/24", "fd00:8::1/64"], ["10.8.0.2/24", "fd00:8::2/64"]
        )
        for address in (OUTSIDE, ALLOWED):
            ip(far, f"addr add {address}/32 dev {far_uplink}")
        for address in (OUTSIDE6, ALLOWED6):
            ip(far, f"addr add {address}/128 dev {far_uplink} nodad")
        ip(self.host, f"route add default via 192.0.2.2 dev {uplink}")
        ip(self.host, f"route add ::/0 via 2001:db8:2::2 dev {uplink}")
        ip(self.host, "link set lo up")
        self.servers = [
            self._serve(self.host, "127.0.0.1", "::1", "192.0.2.1"),
            self._serve(far, OUTSIDE, OUTSIDE6, ALLOWED, ALLOWED6, VPN, VPN6),
        ]

    @staticmethod
    def _serve(where: LabNamespace, *addresses: str) -> subprocess.Popen[str]:
        server = where.spawn(
            sys.executable, "-c", _SERVE, *addresses, stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        return server

    def nft(self, text: str, *options: str) -> None:
        self.host.output("nft", *options, "-f", "-", stdin=text)

    def send(self, kind: str, address: str, *, mark: int = 0, user: int = USER) -> str:
        words = (kind, address, str(PORT), str(mark), str(user))
        return self.host.output(sys.executable, "-c", _SEND, *words).strip()

    def rules(self, **keys: object) -> str:
        lan = [f"{ALLOWED}/32", f"{ALLOWED6}/128"]
        match = {
            "protocol": ["tcp", "udp"],
            "user": "1000-60000",
            "not": {"any": [{"local": f"interface:{self.vpn}"}, {"remote": lan}]},
        }
        while_ = {"interface": self.vpn, "is": "up"}
        vpn = rule("vpn", match=match, while_=while_)
        return rule_set(policy(vpn, protect={"selectors": [{"mark": MARK}]}, **keys)).text


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Lab() as lab:
        made = Machine(lab)
        try:
            made.nft("list ruleset\n")
        except subprocess.CalledProcessError:
            pytest.skip("this kernel has no nf_tables")
        yield made
        for server in made.servers:
            server.kill()
            server.wait()


@pytest.fixture
def loaded(machine: Machine) -> Iterator[Machine]:
    assert machine.send("tcp", OUTSIDE) == "passed"
    machine.nft(machine.rules(), "--check")
    # Checking loads nothing.
    assert "linuxnet_sockets" not in machine.host.output("nft", "list", "ruleset")
    machine.nft(machine.rules())
    yield machine
    machine.nft(remove_text())
    assert machine.host.output("nft", "list", "ruleset") == ""
    assert machine.send("tcp", OUTSIDE) == "passed"


@pytest.mark.parametrize("address", [OUTSIDE, OUTSIDE6])
def test_short_connections_past_the_vpn_are_rejected_at_once(loaded: Machine, address: str) -> None:
    began = time.monotonic()
    assert loaded.send("tcp", address).startswith("ConnectionRefusedError")
    assert loaded.send("udp", address) != "passed"
    assert time.monotonic() - began < 4
    listed = loaded.host.output("nft", "list", "table", "inet", "linuxnet_sockets")
    assert "counter packets 0" not in listed


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("address", "options"),
    [
        (ALLOWED, {}),
        (ALLOWED6, {}),
        (VPN, {}),
        (VPN6, {}),
        ("127.0.0.1", {}),
        ("::1", {}),
        # Of the host itself: it leaves through lo.
        ("192.0.2.1", {}),
        # The transport of the tunnel, root, and a user outside the range.
        (OUTSIDE, {"mark": MARK}),
        (OUTSIDE6, {"mark": MARK}),
        (OUTSIDE, {"user": 0}),
        (OUTSIDE, {"user": 999}),
    ],
)
def test_everything_else_passes(
    loaded: Machine, kind: str, address: str, options: dict[str, int]
) -> None:
    assert loaded.send(kind, address, **options) == "passed"


def test_existing_connection_goes_on(machine: Machine) -> None:
    """The agent, with its guard and its limits, decides about it."""
    connect = partial(socket.create_connection, (OUTSIDE, PORT), 5)
    with machine.host.run(connect) as sock:
        machine.nft(machine.rules())
        try:
            sock.send(b"x")
            assert sock.recv(1) == b"x"
        finally:
            machine.nft(remove_text())


def test_loading_replaces_the_table_in_one_transaction(machine: Machine) -> None:
    machine.nft("table inet other { }\n")
    machine.nft(machine.rules())
    with pytest.raises(subprocess.CalledProcessError):
        machine.nft(machine.rules() + "table inet linuxnet_sockets { chain output { oops } }\n")
    # The failed load left the table as it was.
    assert machine.send("tcp", OUTSIDE).startswith("ConnectionRefusedError")
    for _again in range(2):
        machine.nft(machine.rules())
    listed = machine.host.output("nft", "list", "ruleset")
    assert listed.count("chain rule_0") == 1
    machine.nft(remove_text())
    machine.nft(remove_text())
    assert machine.host.output("nft", "list", "tables") == "table inet other\n"
    machine.nft("delete table inet other\n")
