# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Selectors of single findings and of groups, for the next step: to watch or destroy just these.

People copy the selectors into playbooks and shells, and their values come from hosts. A name that
a template, YAML, a shell or the direction of writing could change is therefore never part of a
selector. The selector then lists the endpoints of each connection instead.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from ...module_utils._core.host.processes import UNIT_SUFFIXES
from ...module_utils._core.netlink.constants import PROTOCOLS, STATES
from ...module_utils._core.verdicts.stranded import STRANDED
from ...module_utils._core.verdicts.stuck import DEFAULT_FOR_MS, STUCK
from .._formatting import endpoint_text
from .finding import Finding

Selector = dict[str, Any]

# A selector that lists endpoints stays readable, and fits a command line.
MAX_LISTED = 200

_PUNCTUATION = frozenset("._-@+:")
_DEFAULT_SILENT_MS = 30_000
_PLAIN_WORD = re.compile(r"[^\s,\\]+")


def finding_selector(finding: Finding) -> Selector | None:
    """Return a selector of just this connection, while its leading verdict lasts.

    None if its endpoints are not valid addresses.
    """
    ends = _ends(finding)
    if ends is None or not _is_addressable(finding):
        return None
    return {**_scope(finding), **ends, **_verdict_keys([finding])}


def group_selector(group: Sequence[Finding], others: Sequence[Finding]) -> Selector | None:
    """Return a selector of the connections of a group: equal leading verdict, program and peer.

    group: two or more findings. others: the other findings of the host and the namespace; the
    selector matches none of them. None if a selector of the group would be too long or its
    endpoints are not valid addresses.
    """
    first = group[0]
    if not all(_is_addressable(finding) and _ends(finding) for finding in group):
        return None
    owner = _owner(first)
    selector = {
        **_scope(first),
        **_common_ends(group),
        **owner,
        **_verdict_keys(group),
    }
    if not any(_may_match(selector, owner, first, finding) for finding in others):
        return selector
    if len(group) > MAX_LISTED:
        return None
    return {
        **_scope(first),
        "any": [_ends(finding) for finding in group],
        **_verdict_keys(group),
    }


def command_words(selector: Selector, namespace: str | None) -> str:
    """Return the arguments of socketctl that select the same, quoted for a shell."""
    words = _selector_words(selector)
    if words is None:
        words = ["--match", json.dumps(selector, ensure_ascii=False, sort_keys=True)]
    if namespace not in (None, "current"):
        words += ["-N", str(namespace)]
    return " ".join(map(shlex.quote, words))


def _selector_words(selector: Selector) -> list[str] | None:
    """Return key=value words, None if a value cannot be written as a word."""
    words = []
    for key, value in sorted(selector.items()):
        parts = [_word_value(part) for part in (value if isinstance(value, list) else [value])]
        text = ",".join(part for part in parts if part is not None)
        if None in parts or not _PLAIN_WORD.fullmatch(text.replace(",", "")):
            return None
        words.append(f"{key}={text}")
    return words


def _word_value(value: object) -> str | None:
    if isinstance(value, Mapping):
        if "silent_for" in value:
            return str(value["silent_for"])
        if "for" in value:
            return f"{value['verdict']}:{value['for']}"
        if "to" in value and len(value["to"]) == 1:
            return f"{value['verdict']}:{value['to'][0]}"
        return None
    return str(value)


def _is_addressable(finding: Finding) -> bool:
    """Whether the selector can name the protocol, the state and the namespace."""
    namespace = finding["namespace"]
    return (
        finding["protocol"] in PROTOCOLS
        and (namespace is None or is_harmless(namespace.replace("/", "")))
        and (bool(_known_verdict(finding)) or finding["state"] in STATES)
    )


def is_harmless(name: str) -> bool:
    """Whether a name keeps its meaning in a template, in YAML, in a shell and on the screen."""
    return bool(name) and all(
        char in _PUNCTUATION or (char.isalnum() and unicodedata.bidirectional(char) in ("L", "EN"))
        for char in name
    )


def _scope(finding: Finding) -> Selector:
    return {} if finding["protocol"] == "tcp" else {"protocol": finding["protocol"]}


def _known_verdict(finding: Finding) -> str | None:
    """Return the leading verdict if it can be part of a selector.

    `rerouted` selects only with the interfaces that packets now leave by.
    """
    name = finding["leading"]
    if name == "rerouted":
        return name if _leaves_by(finding) else None
    return name if name in STUCK or name in STRANDED or name == "superseded" else None


def _leaves_by(finding: Finding) -> list[str]:
    interfaces = finding["verdicts"][0]["evidence"].get("leaves_by")
    names = interfaces.split(", ") if isinstance(interfaces, str) and interfaces else []
    return names if all(map(is_harmless, names)) else []


def _verdict_keys(group: Sequence[Finding]) -> Selector:
    """Return the key that holds as long as the leading verdict of all of them lasts."""
    first = group[0]
    names = [_known_verdict(finding) for finding in group]
    if None in names:
        return {"state": _one_or_list({finding["state"] for finding in group if finding["state"]})}
    name = names[0]
    proven = [finding["verdicts"][0]["for_ms"] or 0 for finding in group]
    if name == "superseded":
        silent_ms = min(_DEFAULT_SILENT_MS, *proven) if all(proven) else _DEFAULT_SILENT_MS
        return {
            "local_port": _one_or_list({finding["local_port"] or 0 for finding in group}),
            "superseded": {"silent_for": f"{max(1, silent_ms // 1000)}s"},
        }
    if name == "rerouted":
        interfaces = sorted({link for finding in group for link in _leaves_by(finding)})
        return {"stranded": {"verdict": name, "to": interfaces}}
    if name in STRANDED:
        return {"stranded": name}
    if min(proven) >= DEFAULT_FOR_MS[first["leading"]]:
        return {"stuck": name}
    return {"stuck": {"verdict": name, "for": f"{min(proven) // 1000}s"}}


def _one_or_list(values: set[Any]) -> Any:
    return next(iter(values)) if len(values) == 1 else sorted(values)


def _ends(finding: Finding) -> Selector | None:
    ends = {end: _endpoint(finding, end) for end in ("local", "remote")}
    return None if None in ends.values() else ends


def _endpoint(finding: Finding, end: str) -> str | None:
    """Return address:port, the address alone without a port, None for an invalid address."""
    address, port = finding[end], finding[f"{end}_port"]
    if not _is_address(address):
        return None
    return endpoint_text(address, port) if port else str(address)


def _is_address(text: object) -> bool:
    if not isinstance(text, str):
        return False
    address, percent, link = text.partition("%")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return not percent or is_harmless(link)


def _common_ends(group: Sequence[Finding]) -> Selector:
    """Return the endpoints, addresses and ports that all of them share."""
    common: Selector = {}
    for end in ("local", "remote"):
        endpoints = {_endpoint(finding, end) for finding in group}
        addresses = {finding[end] for finding in group}
        ports = {finding[f"{end}_port"] for finding in group}
        if len(endpoints) == 1:
            common[end] = endpoints.pop()
            continue
        if len(addresses) == 1:
            common[end] = addresses.pop()
        if len(ports) == 1 and 0 not in ports and None not in ports:
            common[f"{end}_port"] = ports.pop()
    return common


def _owner(finding: Finding) -> Selector:
    """Return the key for the first process: its unit, else its command; empty if unknown."""
    processes = finding["processes"] or [{}]
    unit, comm = processes[0].get("unit"), processes[0].get("comm")
    if unit:
        return {"unit": unit} if is_harmless(unit) and unit.endswith(UNIT_SUFFIXES) else {}
    return {"process": comm} if comm and is_harmless(comm) else {}


def _may_match(selector: Selector, owner: Selector, first: Finding, other: Finding) -> bool:
    """Whether the selector of a group may match another finding of its host and namespace."""
    for end in ("local", "remote"):
        if selector.get(end) not in (None, other[end], _endpoint(other, end)):
            return False
        if selector.get(f"{end}_port") not in (None, other[f"{end}_port"]):
            return False
    if other["protocol"] != first["protocol"]:
        return False
    if owner and other["processes"] and _owner(other) and len(other["processes"]) == 1:
        ((key, name),) = owner.items()
        if other["processes"][0].get("comm" if key == "process" else "unit") != name:
            return False
    verdicts = {verdict["verdict"] for verdict in other["verdicts"]}
    return not first["verdicts"] or first["leading"] in verdicts
