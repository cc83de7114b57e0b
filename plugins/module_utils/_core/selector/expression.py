# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parser for the filter language of ss(8).

The grammar is that of ss (misc/ssfilter.y and misc/ss.c of iproute2). Words stand between blanks,
and a backslash quotes the next character. Escapes of bytes, such as ``\\xe9``, stay: they are how
results show names that are not UTF-8. States come first. `and`, `or` and a missing operator
have the same precedence and are evaluated from left to right, contrary to the manual page.
Host names are not resolved, and families other than inet and inet6 are rejected.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import NamedTuple

from .. import text, values
from ..errors import InputError
from ..netlink import constants
from ..values import PORT_MAX, Names, Path
from .predicates.address import EndpointIn, EndpointPattern
from .predicates.owner import CgroupIs
from .predicates.socket import (
    STATE_ALIASES,
    STATES_BY_NAME,
    Autobound,
    Constant,
    DeviceIs,
    FamilyIs,
    MarkIs,
    PortIn,
    StateIs,
    parse_state,
)
from .prefixes import Prefix
from .tree import All, Any, Node, Not

ALLOWED = (
    "a filter of ss(8), such as: state established ( dport = :443 or sport = :443 ) and not dst "
    "10.0.0.0/8"
)
_OPERATORS = {
    **dict.fromkeys((">=", "ge", "geq"), ">="),
    **dict.fromkeys(("<=", "le", "leq"), "<="),
    **dict.fromkeys(("!=", "ne", "neq"), "!="),
    **dict.fromkeys(("=", "==", "eq"), "="),
    **dict.fromkeys((">", "gt"), ">"),
    **dict.fromkeys(("<", "lt"), "<"),
}
_NOT = ("!", "not")
_AND = ("&", "&&", "and")
_OR = ("|", "||", "or")
_STATE_WORDS = ("state", "exclude", "excl")
_PREDICATES = ("dst", "src", "dport", "sport", "dev", "fwmark", "cgroup", "autobound")
_RESERVED = frozenset({*_OPERATORS, *_NOT, *_AND, *_OR, "(", ")", *_PREDICATES})
_MAX_DEPTH = 16
# As ss: other white space may be part of a name.
_BLANKS = " \t\n\r\v\f"


class _Word(NamedTuple):
    text: str
    position: int


def parse_expression(value: object, path: Path, names: Names) -> Node:
    """Parse an expression into a node. Raises InputError with the word and its position."""
    return _Parser(values.text(value, path, ALLOWED), value, path, names).parse()


def _words(written: str) -> list[_Word]:
    words: list[_Word] = []
    position = 0
    while position < len(written):
        if written[position] in _BLANKS:
            position += 1
            continue
        start, characters = position, []
        while position < len(written) and written[position] not in _BLANKS:
            quoted = written[position] == "\\" and position + 1 < len(written)
            if quoted and not text.ESCAPED.match(written, position):
                position += 1
            characters.append(written[position])
            position += 1
        words.append(_Word("".join(characters), start))
    return words


class _Parser:
    def __init__(self, written: str, value: object, path: Path, names: Names) -> None:
        self.value = value
        self.path = path
        self.names = names
        self.words = _words(written)
        self.end = len(written)
        self.next = 0
        self.depth = 0
        self.families: list[str] = []

    def parse(self) -> Node:
        nodes: list[Node] = []
        states = self._states()
        if states is not None:
            nodes.append(StateIs(self.path, self.value, states))
        if self._peek() is not None:
            nodes.append(self._list())
            word = self._peek()
            if word is not None:
                raise self._error(word, "closes a parenthesis that is not open")
        families = set(self.families)
        if len(families) > 1:
            raise InputError(
                self.path,
                self.value,
                "mixes inet: and inet6:, where ss uses only the last one",
                "one of them, or the key family",
            )
        nodes += [FamilyIs(self.path, self.value, {family}) for family in families]
        return nodes[0] if len(nodes) == 1 else All(tuple(nodes))

    def _peek(self) -> _Word | None:
        return self.words[self.next] if self.next < len(self.words) else None

    def _take(self, expected: str) -> _Word:
        word = self._peek()
        if word is None:
            problem = f"ends at character {self.end}, where {expected} is missing"
            raise InputError(self.path, self.value, problem, ALLOWED)
        self.next += 1
        return word

    def _operand(self, expected: str) -> _Word:
        word = self._take(expected)
        if word.text in _RESERVED:
            raise self._error(word, f"stands where {expected} is missing")
        return word

    def _error(self, word: _Word, problem: str, allowed: str = ALLOWED) -> InputError:
        where = f"`{word.text}` at character {word.position + 1}"
        return InputError(self.path, self.value, f"{where} {problem}", allowed)

    def _states(self) -> frozenset[int] | None:
        """`state NAME` adds states, `exclude NAME` removes them; exclude alone starts from all."""
        states: frozenset[int] | None = None
        while True:
            word = self._peek()
            if word is None or word.text not in _STATE_WORDS:
                return states
            self.next += 1
            name = self._take("a state")
            try:
                named = parse_state(name.text, self.path)
            except InputError as error:
                hint = " (write `state` before each)" if "," in name.text else ""
                raise self._error(name, f"is {error.problem}{hint}", error.allowed) from error
            if word.text == "state":
                states = named if states is None else states | named
            else:
                states = (constants.GROUPS["all"] if states is None else states) - named
            if not states:
                raise self._error(name, "leaves no state")

    def _list(self) -> Node:
        """Parse conditions up to a closing parenthesis or the end."""
        nodes = [self._condition()]
        joined_by: type[All | Any] = All
        depth = 0
        while True:
            word = self._peek()
            if word is None or word.text == ")":
                return nodes[0] if len(nodes) == 1 else joined_by(tuple(nodes))
            operator: type[All | Any] = Any if word.text in _OR else All
            if word.text in _OR or word.text in _AND:
                self.next += 1
            if len(nodes) > 1 and operator is not joined_by:
                depth += 1
                if depth > _MAX_DEPTH:
                    raise self._error(word, "is one of too many changes between and and or")
                nodes = [joined_by(tuple(nodes))]
            joined_by = operator
            nodes.append(self._condition())

    def _condition(self) -> Node:
        word = self._take("a condition")
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self._error(word, "is nested too deeply")
        node = self._condition_at(word)
        self.depth -= 1
        return node

    def _condition_at(self, word: _Word) -> Node:
        text = word.text
        if text == "(":
            node = self._list()
            self._take("a closing parenthesis")
            return node
        if text in _NOT:
            return Not(self._condition())
        if text in ("dst", "src"):
            return self._host(remote=text == "dst")
        if text in ("dport", "sport"):
            return self._port(remote=text == "dport")
        if text in ("dev", "fwmark", "cgroup"):
            return self._equal_or_not(text)
        if text == "autobound":
            return Autobound(self.path, self.value)
        raise self._error(word, self._unknown(text), self._form(text) or ALLOWED)

    @staticmethod
    def _unknown(text: str) -> str:
        if text in _STATE_WORDS:
            return "must stand at the beginning of the filter"
        if text not in _RESERVED and any(sign in text for sign in "()=<>!"):
            return "is no condition: signs and parentheses stand between blanks"
        near = values.similar(text, _PREDICATES)
        return f"is no condition{values.suggestion(near)}"

    def _form(self, text: str) -> str | None:
        """The condition that a word alone may stand for."""
        signs = re.fullmatch(r"(dst|src|dport|sport|dev|fwmark)(==?|!=|>=|<=|>|<)(.+)", text)
        if signs is not None:
            return " ".join(signs.groups())
        if values.spelled(text, STATES_BY_NAME) or values.spelled(text, STATE_ALIASES):
            return f"state {text}, before other conditions"
        if values.spelled(text, constants.PROTOCOLS):
            return f"the key protocol: {text.lower()}"
        try:
            host = _read_host(text, self.names)
        except _Unreadable:
            return None
        if host.prefix is not None:
            return f"dst {text}, or src {text}"
        return None if host.port is None else f"dport = {text}, or sport = {text}"

    def _operator(self, allowed: tuple[str, ...]) -> str:
        """Take the operator in front of an operand; without one it is =."""
        word = self._peek()
        operator = _OPERATORS.get(word.text) if word is not None else None
        if word is None or operator is None:
            return "="
        if operator not in allowed:
            raise self._error(word, "cannot compare this", f"{' or '.join(allowed)}, or nothing")
        self.next += 1
        return operator

    def _read(self, expected: str, reader: Callable[[str], _HostWord]) -> _HostWord:
        word = self._operand(expected)
        try:
            host = reader(word.text)
        except _Unreadable as error:
            raise self._error(word, error.problem, error.allowed) from error
        if host.family is not None:
            self.families.append(host.family)
        return host

    def _host(self, *, remote: bool) -> Node:
        self._operator(("=",))
        host = self._read("a host", lambda text: _read_host(text, self.names))
        if host.prefix is not None:
            pattern = EndpointPattern(host.prefix, host.port)
            return EndpointIn(self.path, self.value, remote=remote, patterns=[pattern], as_ss=True)
        if host.port is not None:
            return self._ports(remote, host.port, host.port)
        return Constant(self.path, self.value, answer=True)

    def _port(self, *, remote: bool) -> Node:
        operator = self._operator(("=", "!=", "<", "<=", ">", ">="))
        host = self._read("a port", lambda text: _read_port(text, self.names))
        port = host.port
        if port is None:
            if operator != "=":
                word = self.words[self.next - 1]
                raise self._error(word, f"is any port, which {operator} cannot compare")
            return Constant(self.path, self.value, answer=True)
        if operator in ("=", "!="):
            node = self._ports(remote, port, port)
        elif operator in (">=", "<"):
            node = self._ports(remote, port, PORT_MAX)
        else:
            node = self._ports(remote, 0, port)
        return Not(node) if operator in ("!=", "<", ">") else node

    def _ports(self, remote: bool, first: int, last: int) -> Node:
        return PortIn(self.path, self.value, remote=remote, ranges=[(first, last)])

    def _equal_or_not(self, predicate: str) -> Node:
        operator = self._operator(("=", "!="))
        word = self._operand({"dev": "an interface", "fwmark": "a mark"}.get(predicate, "a path"))
        node: Node
        if predicate == "dev":
            node = DeviceIs(self.path, self.value, text.spellings(word.text)[-1:], numeric=True)
        elif predicate == "cgroup":
            node = CgroupIs(self.path, self.value, word.text, below=False)
        else:
            try:
                pair = _read_mark(word.text)
            except _Unreadable as error:
                raise self._error(word, error.problem, error.allowed) from error
            node = MarkIs(self.path, self.value, [pair])
        return Not(node) if operator == "!=" else node


_FOREIGN = ("unix", "link", "netlink", "vsock", "tipc", "xdp")
_ANY_ADDRESS = ("any", "all", "default")
_U32_MAX = 2**32 - 1


class _Unreadable(Exception):
    """A word that cannot be parsed. problem, allowed: as in InputError."""

    def __init__(self, problem: str, allowed: str) -> None:
        super().__init__(problem, allowed)
        self.problem = problem
        self.allowed = allowed


class _HostWord(NamedTuple):
    """A parsed host. family: the prefix inet: or inet6:. prefix, port: None for any."""

    family: str | None
    prefix: Prefix | None
    port: int | None


def _read_host(text: str, names: Names) -> _HostWord:
    """Parse [FAMILY:]ADDRESS[/LENGTH][:PORT] (parse_hostcond, misc/ss.c)."""
    family, text = _family(text)
    if text.startswith("["):
        address, bracket, port = text[1:].partition("]")
        if not bracket:
            raise _Unreadable("has no closing bracket", "[v6 address]:port")
    elif text.startswith("*"):
        address, port = "", text[1:]
    else:
        colon = text.rfind(":", max(text.find("/"), 0))
        address, port = (text, "") if colon < 0 else (text[:colon], text[colon:])
    return _HostWord(family, _prefix(address, family), _port(port, names))


def _read_port(text: str, names: Names) -> _HostWord:
    """Parse [FAMILY:][:]PORT (parse_hostcond, misc/ss.c)."""
    family, text = _family(text)
    return _HostWord(family, None, _port(text, names))


def _read_mark(text: str) -> tuple[int, int]:
    """Parse VALUE[/MASK] into (value, mask) (parse_markmask, misc/ss.c)."""
    value, slash, mask = text.partition("/")
    numbers = _c_integer(value), _c_integer(mask) if slash else _U32_MAX
    if numbers[0] is None or numbers[1] is None or max(numbers[0], numbers[1]) > _U32_MAX:
        raise _Unreadable("is no mark", "a mark of 32 bits such as 0x10, or value/mask")
    return numbers[0], numbers[1]


def _family(text: str) -> tuple[str | None, str]:
    family, colon, rest = text.partition(":")
    if colon and family in ("inet", "inet6"):
        return family, rest
    if colon and family in _FOREIGN:
        raise _Unreadable(f"is of the family {family}", "inet or inet6")
    return None, text


def _port(text: str, names: Names) -> int | None:
    port = text.removeprefix(":")
    if port in ("", "*"):
        return None
    number = _c_integer(port)
    try:
        return values.parse_port(port if number is None else number, (), names)
    except InputError as error:
        raise _Unreadable(f"has a port that is {error.problem}", error.allowed) from error


def _prefix(text: str, family: str | None) -> Prefix | None:
    """Parse ADDRESS[/LENGTH] (get_prefix, lib/utils.c of iproute2); None: any address."""
    if text in ("", *_ANY_ADDRESS):
        return None
    address, slash, length = text.partition("/")
    packed = _six(address) if ":" in address else _four(address)
    if packed is None:
        raise _Unreadable(
            "has no address that can be read (host names are not resolved)",
            "an IPv4 address or prefix, or an IPv6 one in brackets",
        )
    if family is not None and (len(packed) == 4) != (family == "inet"):
        raise _Unreadable(f"is no {family} address", "an address of that family")
    bits = _length(length) if slash else 8 * len(packed)
    if bits is None or bits > 8 * len(packed):
        raise _Unreadable("has a prefix length that cannot be", f"up to {8 * len(packed)}")
    return Prefix(packed, bits)


def _six(text: str) -> bytes | None:
    try:
        return socket.inet_pton(socket.AF_INET6, text)
    except (OSError, ValueError):
        return None


def _four(text: str) -> bytes | None:
    """Parse an IPv4 address; missing numbers at the end are zero (get_addr_ipv4, lib/utils.c)."""
    numbers = [_c_integer(part) for part in text.split(".")]
    if len(numbers) > 4:
        return None
    whole = [number for number in numbers if number is not None and number <= 255]
    if len(whole) != len(numbers):
        return None
    return bytes(whole).ljust(4, b"\0")


def _length(text: str) -> int | None:
    """Parse a number of bits, or a contiguous netmask."""
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
    """Parse a number like strtol(3) with base 0: decimal, 0x hexadecimal, 0 octal."""
    if not text.isascii() or not text.isalnum() or not text[0].isdigit() or len(text) > 20:
        return None
    base = 16 if text[:2] in ("0x", "0X") else 8 if text[0] == "0" and len(text) > 1 else 10
    try:
        return int(text, base)
    except ValueError:
        return None
