# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away network namespaces, wired with veth pairs, for tests on the real kernel.

Names begin with lns- and the pid, and everything is removed at the end, also after a failure:
processes, then sockets, then links, then namespaces.
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
    """Why no topology can be made here; None if it can."""
    try:
        with Lab() as lab:
            lab.namespace("probe")
    except (OSError, NetlinkError) as error:
        return f"no network namespace can be made here: {error}"
    return None


class LabNamespace:
    """One namespace with its loopback up. Sockets and functions are brought into it by threads."""

    def __init__(self, role: str) -> None:
        self.name = f"lns-{os.getpid()}-{next(_numbers)}-{role}"
        self.path = f"/run/netns/{self.name}"
        self._resources = contextlib.ExitStack()
        self._links: list[str] = []
        netns.create(self.name)
        try:
            # Threads that have entered the namespace. One for short errands, so that what blocks
            # in the others holds nobody up.
            self._errands = self._threads(1)
            self._blocking = self._threads(8)
            # Addresses are usable at once (RFC 4862, duplicate address detection).
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
        """A pyroute2 handle, to be closed: it pins the namespace."""
        return NetNS(self.name, flags=0)

    def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call the function inside the namespace and wait for it."""
        return self._errands.submit(function, *arguments).result(timeout=30)

    def start(self, function: Callable[..., T], *arguments: Any) -> Any:
        """Call the function inside the namespace, in a thread of its own; a Future."""
        return self._blocking.submit(function, *arguments)

    def sysctl(self, name: str, value: object) -> None:
        """Write below /proc/sys/net of this namespace."""
        path = Path("/proc/sys/net") / name
        self.run(lambda: path.write_text(f"{value}\n"))

    def socket(self, *arguments: Any) -> socket.socket:
        """socket.socket(*arguments) made inside; closed at the end, if it still is open."""
        return self.close_at_end(self.run(socket.socket, *arguments))

    def close_at_end(self, sock: socket.socket) -> socket.socket:
        """Close this one too at the end; what it does takes at most five seconds."""
        sock.settimeout(5)
        self._resources.callback(sock.close)
        return sock

    def command(self, *words: str) -> list[str]:
        """The command line that runs a command inside."""
        return [_tool("nsenter"), f"--net={self.path}", "--", _tool(words[0]), *words[1:]]

    def output(self, *words: str, stdin: str = "") -> str:
        """What a command prints that is run inside. Raises CalledProcessError."""
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
        """A process inside, which ends with the namespace at the latest."""
        process = subprocess.Popen(self.command(*words), **options)
        self._resources.callback(_end, process)
        return process

    def address(self, ifname: str, *addresses: str) -> None:
        """Give an interface addresses, each with its prefix length."""
        with self.route() as route:
            (index,) = route.link_lookup(ifname=ifname)
            for text in addresses:
                address, _slash, length = text.partition("/")
                flags = {"flags": _IFA_F_NODAD} if ":" in address else {}
                route.addr("add", index=index, address=address, prefixlen=int(length), **flags)

    def delete_link_at_end(self, ifname: str) -> None:
        """Remember a link that has to go before the namespace."""
        self._links.append(ifname)

    def close(self) -> None:
        """End what runs in it, and remove it. A second time does nothing."""
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
    """A context manager that holds namespaces and takes all of them down."""

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
        """A namespace with nothing but its loopback."""
        namespace = LabNamespace(role)
        self._namespaces.append(namespace)
        return namespace

    def connect(
        self,
        one: LabNamespace,
        other: LabNamespace,
        one_addresses: Sequence[str] = (),
        other_addresses: Sequence[str] = (),
    ) -> tuple[str, str]:
        """A veth pair between two namespaces, up, with these addresses; its ends' names."""
        number = next(_numbers)
        names = f"v{number}a", f"v{number}b"
        with one.route() as route:
            route.link(
                "add",
                ifname=names[0],
                kind="veth",
                peer={"ifname": names[1], "net_ns_fd": other.path},
            )
        one.delete_link_at_end(names[0])
        for namespace, ifname, addresses in (
            (one, names[0], one_addresses),
            (other, names[1], other_addresses),
        ):
            namespace.address(ifname, *addresses)
            with namespace.route() as route:
                (index,) = route.link_lookup(ifname=ifname)
                route.link("set", index=index, state="up")
        return names


class Pair:
    """A client's and a server's namespace on one wire, with IPv4 and IPv6.

    The networks of silent and silent6 are reached through the server, which does not forward: what
    is sent there gets no answer at all.
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
        self._introduce()
        with self.client.route() as route:
            route.route("add", dst="198.51.100.0/24", gateway=self.server4)
            route.route("add", dst="2001:db8:dead::/48", gateway=self.server6)
        with self.server.route() as route:
            # Of what it has no route for, IPv6 tells the sender even where it does not forward.
            route.route("add", dst="2001:db8:dead::/48", type="blackhole")

    def _introduce(self) -> None:
        """Tell each end the other's link address: the first packet does not wait a second."""
        for address in (self.server4, self.server6):
            self.deliver_packets_to(address)
        far = _link_address(self.client, self.client_device)
        for address in (self.client4, self.client6):
            _neighbour(self.server, self.server_device, address, far)

    def add_server_addresses(self, *addresses: str) -> None:
        """Give the server more addresses on the wire, each with its prefix length."""
        self.server.address(self.server_device, *addresses)
        for text in addresses:
            self.deliver_packets_to(text.partition("/")[0])

    def lose_packets_to(self, address: str) -> None:
        """From now on what the client sends to this address of the server is lost on the wire.

        No end hears of it: the frames carry a link address that nobody has.
        """
        _neighbour(self.client, self.client_device, address, "02:00:00:00:00:fe")

    def deliver_packets_to(self, address: str) -> None:
        """Undo lose()."""
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
    """A Pair that is gone afterwards."""
    with Lab() as lab:
        yield Pair(lab)
