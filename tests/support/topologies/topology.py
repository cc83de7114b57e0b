# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary network namespaces connected by veth pairs, for tests on the real kernel.

Their names begin with lns- and the pid. Processes, sockets, links and namespaces are removed at the
end, in this order, even after a failure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from pyroute2 import NetNS, netns
from pyroute2.netlink.exceptions import NetlinkError

T = TypeVar("T")

_numbers = itertools.count()
_IFA_F_NODAD = 0x02
_NUD_PERMANENT = 0x80
_TOOLS = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


def unavailable_reason() -> str | None:
    """Why no topology can be created here, or None."""
    try:
        with Lab() as lab:
            lab.namespace("probe")
    except (OSError, NetlinkError) as error:
        return f"cannot create a network namespace: {error}"
    return None


class LabNamespace:
    """A network namespace with its loopback up. Threads open sockets and call functions in it."""

    def __init__(self, role: str) -> None:
        self.name = f"lns-{os.getpid()}-{next(_numbers)}-{role}"
        self.path = f"/run/netns/{self.name}"
        self._resources = contextlib.ExitStack()
        self._links: list[str] = []
        netns.create(self.name)
        try:
            # Threads in the namespace. Short calls use one of their own, so blocking calls do not
            # delay them.
            self._short_calls = self._threads(1)
            self._blocking = self._threads(8)
            # Without duplicate address detection (RFC 4862), addresses are usable immediately.
            for which in ("all", "default"):
                self.sysctl(f"ipv6/conf/{which}/accept_dad", 0)
            with self.route() as route:
                route.link("set", index=1, state="up")
        except BaseException:
            self.close()
            raise

    def _threads(self, count: int) -> ThreadPoolExecutor:
        threads = ThreadPoolExecutor(
            count, thread_name_prefix=self.name, initializer=netns.setns, initargs=(self.name, 0)
        )
        self._resources.callback(threads.shutdown)
        return threads

    def route(self) -> NetNS:
        """Return a pyroute2 handle. Close it: it keeps the namespace alive."""
        return NetNS(self.name, flags=0)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function in the namespace and return its result."""
        return self._short_calls.submit(function, *arguments).result(timeout=30)

    def start(self, function: Callable[..., T], *arguments: Any) -> Any:
        """Call the function in the namespace, in a separate thread. Returns a Future."""
        return self._blocking.submit(function, *arguments)

    def sysctl(self, name: str, value: object) -> None:
        """Write a file in /proc/sys/net of this namespace."""
        path = Path("/proc/sys/net") / name
        self.run(lambda: path.write_text(f"{value}\n"))

    def socket(self, *arguments: Any) -> socket.socket:
        """Return socket.socket(*arguments), created in the namespace and closed at the end."""
        return self.close_at_end(self.run(socket.socket, *arguments))

    def close_at_end(self, sock: socket.socket) -> socket.socket:
        """Close the socket at the end, and set its timeout to five seconds."""
        sock.settimeout(5)
        self._resources.callback(sock.close)
        return sock

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command in the namespace."""
        return [_tool("nsenter"), f"--net={self.path}", "--", _tool(words[0]), *words[1:]]

    def output(self, *words: str, stdin: str = "") -> str:
        """Run a command in the namespace and return its output. Raises CalledProcessError."""
        done = subprocess.run(
            self.command(*words),
            check=True,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout

    def spawn(self, *words: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process in the namespace. It is terminated at the end."""
        process = subprocess.Popen(self.command(*words), **options)
        self._resources.callback(_end, process)
        return process

    def address(self, ifname: str, *addresses: str) -> None:
        """Add addresses, with prefix lengths, to an interface."""
        with self.route() as route:
            (index,) = route.link_lookup(ifname=ifname)
            for text in addresses:
                address, _slash, length = text.partition("/")
                flags = {"flags": _IFA_F_NODAD} if ":" in address else {}
                route.addr("add", index=index, address=address, prefixlen=int(length), **flags)

    def delete_link_at_end(self, ifname: str) -> None:
        """Delete this link at the end, before the namespace."""
        self._links.append(ifname)

    def close(self) -> None:
        """Terminate its processes and remove the namespace. Idempotent."""
        self._resources.close()
        if not os.path.exists(self.path):
            return
        with contextlib.suppress(OSError, NetlinkError), self.route() as route:
            for ifname in self._links:
                for index in route.link_lookup(ifname=ifname):
                    route.link("del", index=index)
        with contextlib.suppress(OSError):
            netns.remove(self.name)


def _tool(name: str) -> str:
    return shutil.which(name, path=_TOOLS) or name


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()


class Lab:
    """A context manager that removes its namespaces at the end."""

    def __init__(self) -> None:
        self._namespaces: list[LabNamespace] = []

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for namespace in self._namespaces:
                stack.callback(namespace.close)
        self._namespaces.clear()

    def namespace(self, role: str) -> LabNamespace:
        """Create a namespace that has only its loopback."""
        namespace = LabNamespace(role)
        self._namespaces.append(namespace)
        return namespace

    def connect(
        self,
        first: LabNamespace,
        second: LabNamespace,
        first_addresses: Sequence[str] = (),
        second_addresses: Sequence[str] = (),
    ) -> tuple[str, str]:
        """Connect two namespaces by a veth pair: up, with these addresses. Returns its names."""
        number = next(_numbers)
        names = f"v{number}a", f"v{number}b"
        with first.route() as route:
            route.link(
                "add",
                ifname=names[0],
                kind="veth",
                peer={"ifname": names[1], "net_ns_fd": second.path},
            )
        first.delete_link_at_end(names[0])
        for namespace, ifname, addresses in (
            (first, names[0], first_addresses),
            (second, names[1], second_addresses),
        ):
            namespace.address(ifname, *addresses)
            with namespace.route() as route:
                (index,) = route.link_lookup(ifname=ifname)
                route.link("set", index=index, state="up")
        return names


class Pair:
    """Namespaces of a client and a server, connected by one link with IPv4 and IPv6.

    Packets to silent and silent6 get no reply: their route goes through the server, which does not
    forward.
    """

    client4, server4 = "192.0.2.1", "192.0.2.2"
    client6, server6 = "2001:db8::1", "2001:db8::2"
    silent, silent6 = "198.51.100.1", "2001:db8:dead::1"

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.client = lab.namespace("client")
        self.server = lab.namespace("server")
        for namespace in (self.client, self.server):
            namespace.sysctl("ipv4/ip_forward", 0)
        self.client_device, self.server_device = lab.connect(
            self.client,
            self.server,
            [f"{self.client4}/24", f"{self.client6}/64"],
            [f"{self.server4}/24", f"{self.server6}/64"],
        )
        self._add_neighbours()
        with self.client.route() as route:
            route.route("add", dst="198.51.100.0/24", gateway=self.server4)
            route.route("add", dst="2001:db8:dead::/48", gateway=self.server6)
        with self.server.route() as route:
            # Without a route, IPv6 would reply with an ICMPv6 error even if it does not forward.
            route.route("add", dst="2001:db8:dead::/48", type="blackhole")

    def _add_neighbours(self) -> None:
        """Add static neighbour entries, so that no packet waits for address resolution."""
        for address in (self.server4, self.server6):
            self.deliver_packets_to(address)
        far = _link_address(self.client, self.client_device)
        for address in (self.client4, self.client6):
            _neighbour(self.server, self.server_device, address, far)

    def add_server_addresses(self, *addresses: str) -> None:
        """Add addresses, with prefix lengths, to the link of the server."""
        self.server.address(self.server_device, *addresses)
        for text in addresses:
            self.deliver_packets_to(text.partition("/")[0])

    def lose_packets_to(self, address: str) -> None:
        """Lose all packets of the client to this address of the server, without an error.

        The neighbour entry gets a link address that no host has.
        """
        _neighbour(self.client, self.client_device, address, "02:00:00:00:00:fe")

    def deliver_packets_to(self, address: str) -> None:
        """Undo lose_packets_to()."""
        far = _link_address(self.server, self.server_device)
        _neighbour(self.client, self.client_device, address, far)


def _link_address(where: LabNamespace, device: str) -> str:
    with where.route() as route:
        (index,) = route.link_lookup(ifname=device)
        (link,) = route.get_links(index)
    return str(link.get_attr("IFLA_ADDRESS"))


def _neighbour(where: LabNamespace, device: str, address: str, lladdr: str) -> None:
    with where.route() as route:
        (index,) = route.link_lookup(ifname=device)
        route.neigh("replace", dst=address, lladdr=lladdr, ifindex=index, state=_NUD_PERMANENT)


@contextlib.contextmanager
def pair() -> Iterator[Pair]:
    """Create a pair and remove it at the end."""
    with Lab() as lab:
        yield Pair(lab)
