# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Predicates on the endpoints of a socket: `local`, `remote`, and the hosts of an expression."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ... import text, values
from ...errors import Absent, InputError
from ...netlink import bytecode, constants
from ...sockets.needs import Need
from ...values import Names, Path
from .. import kernel_filter
from ..kernel_filter import REJECT, Condition, Filter
from ..prefixes import AddressSet, Prefix
from ..tree import FilterContext, Possible, Predicate
from .socket import absent_interface

if TYPE_CHECKING:
    from ...sockets.snapshot import Snapshot
    from ...sockets.socket import Socket
    from ..tree import Bound

ENDPOINT = (
    "an address, a prefix, address:port, [v6 address]:port, or interface:NAME for any address of "
    "an interface"
)
_INTERFACE = "interface:"
# dev_valid_name(), net/core/dev.c; isspace() in lib/ctype.c. Alternative names have up to 127 bytes
# (ALTIFNAMSIZ), and may contain colons.
_INTERFACE_NAME = re.compile(rb"[^\t-\r \xa0/]{1,127}")
_BLANKS = " \t\n\r\v\f"
_LINK_LOCAL = ipaddress.IPv6Network("fe80::/10")


class EndpointPattern(NamedTuple):
    """An endpoint to match: an address in the prefix, or any address of the interface.

    port: None for any. With a prefix, interface is the link of a link-local address (fe80::1%eth0).
    label: interface and port as written (eth0:1), which may also be an alternative name of an
    interface, or the label of an address. invalid: the error if it is neither.
    """

    prefix: Prefix | None
    port: int | None = None
    interface: str | None = None
    label: str | None = None
    invalid: InputError | None = None


class _Resolved(NamedTuple):
    prefix: Prefix
    port: int | None
    # The interface to which the socket must be bound; None: any.
    ifindex: int | None


class EndpointIn(Predicate):
    """The local or the remote endpoint matches one of the patterns.

    Unknown instead of false if one of the interfaces does not exist or has no address.
    as_ss: IPv6 prefixes that cover the v4-mapped addresses also match them. A prefix of length 0 is
    never false, because ss and the kernel differ on sockets of the other family.
    """

    exact = True

    def __init__(
        self,
        path: Path,
        value: object,
        *,
        remote: bool,
        patterns: Iterable[EndpointPattern],
        as_ss: bool = False,
    ) -> None:
        super().__init__(path, value)
        self.remote = remote
        self.patterns = tuple(dict.fromkeys(patterns))
        self.as_ss = as_ss
        if any(host.interface is not None for host in self.patterns):
            self.needs = frozenset({Need.ADDRESSES, Need.LINKS})

    def possible(self, protocol: str, family: str, state: int) -> Possible:  # noqa: ARG002
        # An AF_INET6 socket may be v4-mapped, so only IPv6 patterns exclude a family.
        four = any(host.prefix is None or host.prefix.size == 32 for host in self.patterns)
        return family == "inet6" or four, True

    def _resolve(self, snapshot: Snapshot) -> tuple[list[_Resolved], bool]:
        """Resolve interfaces; the second value is whether a socket that matches none is false."""
        resolved: list[_Resolved] = []
        whole = True
        for host in self.patterns:
            if host.interface is None:
                if host.prefix is not None:
                    whole = whole and not (self.as_ss and host.prefix.length == 0)
                    resolved.append(_Resolved(host.prefix, host.port, None))
                continue
            name, port = self._name_and_port(host, snapshot)
            index = snapshot.interface_index(name)
            if host.prefix is not None and index is not None:
                resolved.append(_Resolved(host.prefix, port, index))
                continue
            addresses = snapshot.interface_addresses(name)
            if host.prefix is not None or index is None or addresses is None:
                whole = False
                continue
            for address in sorted(addresses):
                prefix = Prefix(address, 8 * len(address))
                resolved.append(_Resolved(prefix, port, index if _is_link_local(prefix) else None))
        return resolved, whole

    def _name_and_port(
        self, pattern: EndpointPattern, snapshot: Snapshot
    ) -> tuple[str, int | None]:
        """The interface and the port that the user means.

        Raises InputError for the label of an address, such as eth0:1, and for an invalid port.
        """
        if pattern.label is None:
            return pattern.interface or "", pattern.port
        if snapshot.interface_index(pattern.label) is not None:
            return pattern.label, None
        labelled = [
            str(ipaddress.ip_address(address.address))
            for address in snapshot.addresses
            if address.label == pattern.label
        ]
        if labelled:
            raise InputError(
                self.path,
                f"{_INTERFACE}{pattern.label}",
                f"{pattern.label} is the label of an address, not port {pattern.port} of "
                f"{pattern.interface}",
                f"{', '.join(labelled)} for the address, or interface:{pattern.interface} with "
                f"{'remote' if self.remote else 'local'}_port",
            )
        if pattern.invalid is not None:
            raise pattern.invalid
        return pattern.interface or "", pattern.port

    def absent(self, snapshot: Snapshot) -> Iterable[Absent]:
        for host in self.patterns:
            if host.interface is None or snapshot.interface_index(host.interface) is not None:
                continue
            if host.label is None or snapshot.interface_index(host.label) is None:
                yield absent_interface(self.path, host.interface, snapshot)

    def bind(self, snapshot: Snapshot) -> Bound:
        resolved, whole = self._resolve(snapshot)
        if not resolved:
            return None
        otherwise = False if whole else None
        # The addresses for each pair of port and ifindex; None for any.
        sets: dict[tuple[int | None, int | None], AddressSet] = {}
        for prefix, port, ifindex in resolved:
            sets.setdefault((port, ifindex), AddressSet()).add(prefix, wide=self.as_ss)
        only = sets.get((None, None)) if len(sets) == 1 else None
        if only is not None:
            return self._any_port(only, otherwise)
        ports = any(port is not None for port, _ifindex in sets)
        links = any(ifindex is not None for _port, ifindex in sets)
        remote = self.remote

        def test(sock: Socket) -> bool | None:
            address = sock.remote_address if remote else sock.local_address
            six = sock.family == "inet6"
            ports_to_try = (
                (None, sock.remote_port if remote else sock.local_port) if ports else (None,)
            )
            for port in ports_to_try:
                for ifindex in (None, sock.ifindex) if links else (None,):
                    addresses = sets.get((port, ifindex))
                    if addresses is not None and addresses.holds(address, six):
                        return True
            return otherwise

        return test

    def _any_port(self, addresses: AddressSet, otherwise: bool | None) -> Bound:
        """The test for addresses without ports; many sockets share one, so results are cached."""
        answers: dict[tuple[bytes, int], bool | None] = {}
        remote = self.remote

        def test(sock: Socket) -> bool | None:
            message = sock.message
            key = (message.dst if remote else message.src, message.family)
            if key not in answers:
                address = sock.remote_address if remote else sock.local_address
                held = addresses.holds(address, sock.family == "inet6")
                answers[key] = True if held else otherwise
            return answers[key]

        return test

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        resolved, whole = self._resolve(context.snapshot)
        accepted = kernel_filter.any_of(
            self._condition(pattern, context.family) for pattern in resolved
        )
        return accepted, kernel_filter.negation(accepted) if whole else REJECT

    def _condition(self, pattern: _Resolved, family: str) -> Filter:
        """The same comparison as in bind(), for inet_diag_bc_run (net/ipv4/inet_diag.c)."""
        host = bytecode.dst_host if self.remote else bytecode.src_host
        prefix, port, ifindex = pattern
        number = constants.FAMILIES["inet" if prefix.size == 32 else "inet6"]
        if prefix.size != 32 and family == "inet":
            return REJECT
        # -1: any port (struct inet_diag_hostcond).
        port_or_any = -1 if port is None else port
        parts: list[Filter] = [Condition(host(number, prefix.length, prefix.address, port_or_any))]
        if not self.as_ss and prefix.covers_mapped() and not prefix.inside_mapped():
            mapped = Condition(host(constants.FAMILIES["inet"], 0, b"\0" * 4))
            parts.append(kernel_filter.negation(mapped))
        if ifindex is not None:
            parts.append(Condition(bytecode.device(ifindex)))
        return kernel_filter.all_of(parts)


class LocalStateIs(Predicate):
    """The local address has one of the states, on each interface that has the address.

    Unknown if no interface has it, or if only some of them report the state.
    """

    needs = frozenset({Need.ADDRESSES})

    def __init__(self, path: Path, value: object, states: Iterable[str]) -> None:
        super().__init__(path, value)
        self.states = frozenset(states)

    def bind(self, snapshot: Snapshot) -> Bound:
        found: dict[bytes, dict[int, bool]] = {}
        for address in snapshot.addresses:
            of_address = found.setdefault(address.address, {})
            of_address[address.ifindex] = not self.states.isdisjoint(address.states)

        def test(sock: Socket) -> bool | None:
            by_link = found.get(sock.local_address, {})
            values = set(by_link.values())
            if sock.ifindex and _is_link_local(Prefix(sock.local_address, 128)):
                values = {by_link[sock.ifindex]} if sock.ifindex in by_link else set()
            return values.pop() if len(values) == 1 else None

        return test

    def filters(self, context: FilterContext) -> tuple[Filter, Filter]:
        accepted = kernel_filter.any_of(
            Condition(bytecode.src_host(address.family, 8 * len(address.address), address.address))
            for address in context.snapshot.addresses
            if not self.states.isdisjoint(address.states)
            and (context.family == "inet6" or len(address.address) == 4)
        )
        return accepted, kernel_filter.ACCEPT


def _is_link_local(prefix: Prefix) -> bool:
    return prefix.size == 128 and ipaddress.IPv6Address(prefix.address) in _LINK_LOCAL


def parse_endpoint(value: object, path: Path, names: Names) -> EndpointPattern:
    """Parse an entry of local or remote. Raises InputError."""
    values.text(value, path, ENDPOINT)
    # Names of interfaces may end in white space beyond ASCII.
    written = str(value).strip(_BLANKS)
    if written.startswith(_INTERFACE):
        label = written[len(_INTERFACE) :]
        name, colon, port = label.partition(":")
        interface = _link(name, value, path)
        whole = _interface_name(label) if colon else None
        try:
            number = _port(colon, port, value, path, names)
        except InputError as error:
            hint = f"{error.allowed}; for the label of an address: the address itself"
            invalid = InputError(path, value, error.problem, hint)
            if whole is None:
                raise invalid from error
            return EndpointPattern(None, None, interface, whole, invalid)
        return EndpointPattern(None, number, interface, whole)
    address, length, colon, port = _parts(written, value, path)
    number = _port(colon, port, value, path, names)
    address, percent, link = address.partition("%")
    prefix = _prefix(address, length, value, path)
    if not percent:
        return EndpointPattern(prefix, number)
    if not _is_link_local(prefix):
        raise InputError(
            path, value, "names a link, but is not a link-local address", "fe80::/10 before the %"
        )
    return EndpointPattern(prefix, number, _link(link, value, path))


def _parts(written: str, value: object, path: Path) -> tuple[str, str | None, str, str]:
    """Split into (address, prefix length or None, colon or nothing, port)."""
    if written.startswith("["):
        inside, bracket, behind = written[1:].partition("]")
        if not bracket:
            raise InputError(path, value, "has no closing bracket", ENDPOINT)
        address, slash, length = inside.partition("/")
        if not slash and behind.startswith("/"):
            length, colon, port = behind[1:].partition(":")
            return address, length, colon, port
        if behind and not behind.startswith(":"):
            raise InputError(path, value, "has something behind the bracket", ENDPOINT)
        return address, length if slash else None, behind[:1], behind[1:]
    address, slash, rest = written.partition("/")
    if slash:
        length, colon, port = rest.partition(":")
        return address, length, colon, port
    if written.count(":") == 1:
        address, colon, port = written.partition(":")
        return address, None, colon, port
    return written, None, "", ""


def _port(colon: str, port: str, value: object, path: Path, names: Names) -> int | None:
    if not colon:
        return None
    try:
        return values.parse_port(port, path, names)
    except InputError as error:
        raise values.error_of_whole(error, value, "its port is ") from error


def _link(name: str, value: object, path: Path) -> str:
    found = _interface_name(name)
    if found is None:
        raise InputError(
            path, value, "names no interface", "interface:NAME, a name of 1 to 127 bytes"
        )
    return found


def _interface_name(written: str) -> str | None:
    """The name of an interface as the kernel has it, from what a result shows; None: invalid."""
    name = text.spellings(written)[-1]
    if not _INTERFACE_NAME.fullmatch(text.encode(name)) or name in (".", ".."):
        return None
    return name


def _prefix(address: str, length: str | None, value: object, path: Path) -> Prefix:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError as error:
        raise InputError(path, value, "not an address", ENDPOINT) from error
    if length is None:
        return Prefix(parsed.packed, parsed.max_prefixlen)
    allowed = f"a prefix length from 0 to {parsed.max_prefixlen}"
    try:
        bits = values.integer(length, path, allowed, high=parsed.max_prefixlen)
    except InputError as error:
        raise values.error_of_whole(error, value, "its prefix length is ") from error
    network = ipaddress.ip_network((parsed.packed, bits), strict=False)
    if network.network_address != parsed:
        raise InputError(
            path,
            value,
            "has bits set beyond its prefix length",
            f"{network} for the whole network, or {parsed} for the one address",
        )
    return Prefix(parsed.packed, bits)


def parse_device(value: object, path: Path) -> str:
    """Return the name of an interface. Raises InputError."""
    allowed = "the name of an interface"
    values.text(value, path, allowed)
    written = str(value).strip(_BLANKS)
    name = _interface_name(written)
    if name is None or written.startswith(_INTERFACE):
        prefixed = _interface_name(written.removeprefix(_INTERFACE))
        hint = prefixed if written.startswith(_INTERFACE) and prefixed else allowed
        raise InputError(path, value, "cannot be an interface's name", hint)
    return name
