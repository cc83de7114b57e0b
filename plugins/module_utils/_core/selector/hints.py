# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""What to write instead of values that other tools accept: phrases for InputError.allowed.

    endpoint_hint("v0", "local")  # "interface:v0 for the addresses of an interface, ..."
    port_hint("80:90", "local_port")  # "80-90"

Each function returns None if it recognises nothing. They only read text: a hint may name an
interface that does not exist.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

_NO_NAMES = "host names are not resolved"
_ANY = frozenset({"any", "all", "*", "default"})
_NAME = re.compile(r"[^\s/:,;=<>!*\[\]]{1,127}")
_PREFIX_OF_INTERFACE = re.compile(
    r"(?:if|dev|iface|device|interface|link|%|@)[:=\s]*(\S+)", re.IGNORECASE
)
_PLAIN = re.compile(r"[A-Za-z0-9/][\w./-]*(?::[\w./]+)*", re.ASCII)
_ADDRESS = r"\[?[0-9a-fA-F:.]+\]?"
_URL = re.compile(r"[a-z][a-z0-9+.-]*://([^/?#]+)\S*", re.IGNORECASE)
_MAX_PREFIXES = 8


def quoted(written: str) -> str:
    """A string as it is written in YAML: in quotes only where it needs them."""
    return written if _PLAIN.fullmatch(written) else '"' + written.replace('"', '\\"') + '"'


def endpoint_hint(written: str, key: str) -> str | None:
    """For a value of local or remote. key: which of the two."""
    for find in (_whole, _with_ports, _several, _netmask, _interface):
        hint = find(written.strip(), key)
        if hint is not None:
            return hint
    return None


def _whole(written: str, key: str) -> str | None:
    if written.lower() in _ANY:
        return f"no {key}, to select any address"
    found = re.fullmatch(r"(?:\*|any|all)?:(\S+)", written, re.IGNORECASE)
    if found is not None:
        return f"{key}_port: {found[1]}" if found[1] != "*" else f"no {key}, to select any"
    url = _URL.fullmatch(written)
    return None if url is None else f"{url[1]}, where the host is an address: {_NO_NAMES}"


def _with_ports(written: str, key: str) -> str | None:
    """An address with several ports, or with its port after another sign than a colon."""
    found = re.fullmatch(rf"({_ADDRESS}):(\d+\s*[-,]\s*\d[\d,\s-]*|\*|any|all)", written)
    if found is not None and _is_address(found[1]):
        if found[2] in _ANY:
            return found[1].strip("[]")
        ports = f"[{found[2]}]" if "," in found[2] else found[2]
        return f"{key}: {found[1].strip('[]')} and {key}_port: {ports}"
    found = re.fullmatch(rf"({_ADDRESS})(?:\s+|\s*#)(?:port\s+)?(\d+)", written)
    if found is None or not _is_address(found[1]):
        return None
    address = found[1].strip("[]")
    return f"[{address}]:{found[2]}" if ":" in address else f"{address}:{found[2]}"


def _several(written: str, key: str) -> str | None:  # noqa: ARG001
    """A range of addresses."""
    first, dash, last = written.partition("-")
    if not dash or not (_is_address(first) and _is_address(last)):
        return None
    try:
        low, high = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
        prefixes: list[Any] = list(ipaddress.summarize_address_range(low, high))
    except (TypeError, ValueError):
        return None
    if len(prefixes) > _MAX_PREFIXES:
        return f"prefixes, such as {prefixes[0]}"
    texts = [
        str(prefix.network_address if prefix.prefixlen == prefix.max_prefixlen else prefix)
        for prefix in prefixes
    ]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _netmask(written: str, key: str) -> str | None:  # noqa: ARG001
    """`10.0.0.0/255.0.0.0`, `10.0.0.0 255.0.0.0`, `10.*` and `10/8`."""
    wild = re.fullmatch(
        r"((?:\d{1,3}\.){0,2}\d{1,3})(?:\.[*xX]){1,3}|(\d{1,3}(?:\.\d{1,3}){0,2})\.?/(\d+)", written
    )
    if wild is not None:
        parts = (wild[1] or wild[2]).split(".")
        length = int(wild[3]) if wild[3] else 8 * len(parts)
        address = ".".join([*parts, *["0"] * (4 - len(parts))])
        return _network(f"{address}/{length}")
    mask = re.fullmatch(r"([\d.]+)(?:\s*/\s*|\s+(?:netmask\s+)?)([\d.]+)", written)
    return _network(f"{mask[1]}/{mask[2]}") if mask and "." in mask[2] else None


def _network(written: str) -> str | None:
    try:
        return str(ipaddress.ip_network(written, strict=False))
    except ValueError:
        return None


def _interface(written: str, key: str) -> str | None:  # noqa: ARG001
    """The name of an interface, or of a host."""
    prefixed = _PREFIX_OF_INTERFACE.fullmatch(written)
    if prefixed is not None and not written.startswith("interface:"):
        return f"interface:{prefixed[1]}"
    name, colon, port = written.partition(":")
    if not _NAME.fullmatch(name) or not re.search("[a-zA-Z]", name) or ":" in port:
        return None
    if name.lower() == "localhost":
        return "127.0.0.0/8 or ::1"
    # Names of interfaces may contain dots (eth0.100), but hardly a last part of letters alone.
    if re.search(r"\.[a-zA-Z]{2,}\.?$", name):
        return f"the address of {name}: {_NO_NAMES}"
    if colon:
        return f"ADDRESS:{port}, as {_NO_NAMES}; interface:{written} for those of an interface"
    return f"interface:{name} for the addresses of an interface; {_NO_NAMES}"


def _is_address(written: str) -> bool:
    try:
        ipaddress.ip_address(written.strip().strip("[]"))
    except ValueError:
        return False
    return True


def port_hint(written: str, key: str) -> str | None:
    """For a value of local_port or remote_port. key: which of the two."""
    written = written.strip()
    if written.lower() in _ANY:
        return f"no {key}, to select any port"
    ranges = re.fullmatch(r"(\d+)\s*(?::|\.\.+|\u2013|\u2014|\s+to\s+)\s*(\d+)", written)
    if ranges is not None:
        return f"{ranges[1]}-{ranges[2]}"
    compared = re.fullmatch(r"(>=|<=|==?|>|<)\s*(\d{1,5})", written)
    if compared is not None:
        port = int(compared[2])
        first, last = {
            ">": (port + 1, 65535),
            ">=": (port, 65535),
            "<": (0, port - 1),
            "<=": (0, port),
        }.get(compared[1], (port, port))
        return f"{first}-{last}" if first < last else str(first) if first == last else None
    open_ended = re.fullmatch(r"(\d+)-|-(\d+)", written)
    if open_ended is not None:
        return f"{open_ended[1]}-65535" if open_ended[1] else f"0-{open_ended[2]}"
    protocol = re.fullmatch(r"(?:(tcp|udp)[/:](\w+)|(\w+)/(tcp|udp))", written, re.IGNORECASE)
    if protocol is None:
        return None
    name, port_text = protocol[1] or protocol[4], protocol[2] or protocol[3]
    return f"{port_text}, with protocol: {name.lower()}"


def range_hint(written: str) -> str | None:
    """For a range of numbers with another sign than `-`."""
    found = re.fullmatch(r"(\d+)\s*(?::|\.\.+|\s+to\s+)\s*(\d+)", written.strip())
    return None if found is None else f"{found[1]}-{found[2]}"
