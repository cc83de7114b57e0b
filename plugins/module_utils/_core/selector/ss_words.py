# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the words of ss(8)'s filters that stand for hosts, ports and marks.

As parse_hostcond() and parse_markmask() read them (misc/ss.c of iproute2), and get_prefix()
(lib/utils.c). A reader returns what it read, or raises Unreadable with what is wrong.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from .. import values
from ..errors import InputError
from ..values import Names
from .prefixes import Prefix

_FOREIGN = ("unix", "link", "netlink", "vsock", "tipc", "xdp")
_ANY_ADDRESS = ("any", "all", "default")
_U32_MAX = 2**32 - 1


class Unreadable(Exception):
    """problem, allowed: as of InputError."""

    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(problem, allowed)
        self.problem = problem
        self.allowed = allowed


class HostWord(NamedTuple):
    """family: of an inet: or inet6: in front; prefix, port: None for any."""

    family: str | None
    prefix: Prefix | None
    port: int | None


def read_host(text: str, names: Names) -> HostWord:
    """[FAMILY:]ADDRESS[/LENGTH][:PORT]"""
    family, text = _family(text)
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket:
            raise Unreadable("has no closing bracket", "[v6 address]:port")
    elif text.startswith("*"):
        address, port = "", text[1:]
    else:
        colon = text.rfind(":", max(text.find("/"), 0))
        address, port = (text, "") if colon < 0 else (text[:colon], text[colon:])
    return HostWord(family, _prefix(address, family), _port(port, names))


def read_port(text: str, names: Names) -> HostWord:
    """[FAMILY:][:]PORT"""
    family, text = _family(text)
    return HostWord(family, None, _port(text, names))


def read_mark(text: str) -> tuple[int, int]:
    """(value, mask) of VALUE[/MASK]."""
    value, slash, mask = text.partition("/")
    numbers = _c_integer(value), _c_integer(mask) if slash else _U32_MAX
    if numbers[0] is None or numbers[1] is None or max(numbers[0], numbers[1]) > _U32_MAX:
        raise Unreadable("is no mark", "a mark of 32 bits such as 0x10, or value/mask")
    return numbers[0], numbers[1]


def _family(text: str) -> tuple[str | None, str]:
    family, colon, rest = text.partition(":")
    if colon and family in ("inet", "inet6"):
        return family, rest
    if colon and family in _FOREIGN:
        raise Unreadable(f"is of the family {family}", "inet and inet6: only they are looked at")
    return None, text


def _port(text: str, names: Names) -> int | None:
    port = text.removeprefix(":")
    if port in ("", "*"):
        return None
    number = _c_integer(port)
    try:
        return values.parse_port(port if number is None else number, (), names)
    except InputError as error:
        raise Unreadable(f"has a port that is {error.problem}", error.allowed) from error


def _prefix(text: str, family: str | None) -> Prefix | None:
    """None: any address."""
    if text in ("", *_ANY_ADDRESS):
        return None
    address, slash, length = text.partition("/")
    packed = _six(address) if ":" in address else _four(address)
    if packed is None:
        raise Unreadable(
            "has no address that can be read (host names are not looked up)",
            "an IPv4 address or prefix, or an IPv6 one in brackets",
        )
    if family is not None and (len(packed) == 4) != (family == "inet"):
        raise Unreadable(f"is no {family} address", "an address of that family")
    bits = _length(length) if slash else 8 * len(packed)
    if bits is None or bits > 8 * len(packed):
        raise Unreadable("has a prefix length that cannot be", f"up to {8 * len(packed)}")
    return Prefix(packed, bits)


def _six(text: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None


def _four(text: str) -> bytes | None:
    """get_addr_ipv4(): up to four numbers; those left out at the end are zero."""
    numbers = [_c_integer(part) for part in text.split(".")]
    if len(numbers) > 4:
        return None
    whole = [number for number in numbers if number is not None and number <= 255]
    if len(whole) != len(numbers):
        return None
    return bytes(whole).ljust(4, b"\0")


def _length(text: str) -> int | None:
    """A number of bits, or a netmask whose ones all stand in front."""
    number = _c_integer(text)
    if number is not None:
        return number
    mask = _four(text)
    if mask is None:
        return None
    bits = int.from_bytes(mask, "big")
    length = f"{bits:b}".count("1")
    return length if bits == _U32_MAX ^ (_U32_MAX >> length) else None


def _c_integer(text: str) -> int | None:
    """As strtol(3) with base 0: decimal, 0x hexadecimal, 0 octal."""
    if not text.isascii() or not text.isalnum() or not text[0].isdigit() or len(text) > 20:
        return None
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" and len(text) > 1 else 10
    try:
        return int(text, base)
    except ValueError:
        return None
