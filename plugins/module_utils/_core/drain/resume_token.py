# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the progress of a drain in a form that can be sent.

A drain may be done in steps, by one process after the other. What they hand on is JSON: numbers,
the namespaces, and of each connection its cookie, as one text for each namespace and protocol.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..destroy import outcomes
from ..errors import InputError, PathStep
from ..host.host import Host, read_boot_id
from ..host.namespaces import Namespace
from ..netlink import constants
from .progress import Progress
from .quiescence import Bytes
from .tracker import IGNORED, PROTECTED, WAITED, Entry

_VERSION = 1
_ALLOWED = (
    "what the last result that was not finished gave under resume, with all other options as they "
    "were"
)
_LETTERS = {WAITED: "w", PROTECTED: "s", IGNORED: "i"}
_KINDS = {letter: kind for kind, letter in _LETTERS.items()}
# Kind, A where it arrived meanwhile, cookie, checksum of its ends, and since when it is quiet (ms).
_ENTRY = re.compile(r"([wsi])(A?)([0-9a-f]{1,16})-([0-9a-f]{1,8})(?:-([0-9]{1,16}))?", re.ASCII)
_LARGEST = 2**63 - 1
_NAMES: Mapping[type, str] = {dict: "mapping", list: "list"}


def to_resume(progress: Progress, host: Host, digest: str) -> dict[str, Any]:
    """What from_resume takes. digest: of the options that must be the same."""
    sockets: dict[str, dict[str, list[str]]] = {}
    for (name, protocol, cookie), entry in progress.watchlist.entries.items():
        since = "" if entry.quiet_since is None else f"-{int(entry.quiet_since * 1000)}"
        arrived = "A" if entry.arrived else ""
        text = f"{_LETTERS[entry.kind]}{arrived}{cookie:x}-{entry.ends:x}{since}"
        sockets.setdefault(name, {}).setdefault(protocol, []).append(text)
    return {
        "version": _VERSION,
        "boot": _boot(host),
        "options": digest,
        "started_ms": int(progress.started * 1000),
        "namespaces": [
            {
                "name": namespace.name,
                "path": namespace.path,
                "device": namespace.identity[0],
                "inode": namespace.identity[1],
                "explicit": namespace.explicit,
                "sockets": {
                    protocol: " ".join(texts)
                    for protocol, texts in sockets.get(namespace.name, {}).items()
                },
            }
            for namespace in progress.namespaces
        ],
        "ended": progress.ended,
        "arrived": progress.arrived,
        "sent": progress.sent,
        "outcomes": dict(progress.counts),
        "lost": list(progress.lost),
    }


def from_resume(
    value: object, host: Host, digest: str, path: Sequence[PathStep] = ("resume",)
) -> Progress:
    """Raises InputError for anything but what to_resume gave on this machine, since it booted, and
    with the same digest."""
    reader = _Reader(value, tuple(path))
    if reader.number("version") != _VERSION:
        raise reader.error("version", f"not {_VERSION}: of another release")
    if reader.text("boot") != _boot(host):
        raise reader.error("boot", "of another machine, or of before it booted")
    if reader.text("options") != digest:
        raise reader.error("options", "of a drain with other options")
    started = reader.number("started_ms") / 1000
    if started > host.monotonic():
        raise reader.error("started_ms", "in the future")
    lost = reader.list("lost", 3)
    progress = Progress(
        started,
        [],
        ended=reader.number("ended"),
        arrived=reader.number("arrived"),
        sent=reader.number("sent"),
        counts=_counts(reader.mapping("outcomes")),
        lost=Bytes(*(lost.number(index) for index in range(3))),
    )
    namespaces = reader.list("namespaces")
    for index in range(len(namespaces.value)):
        _take_namespace(namespaces.mapping(index), progress)
    reader.nothing_else()
    return progress


def _boot(host: Host) -> str:
    """What tells this boot of the machine from every other (random(4)); empty if unreadable."""
    try:
        return read_boot_id(host.proc)
    except (OSError, ValueError):
        return ""


def _counts(reader: _Reader) -> Counter[str]:
    for outcome in reader.value:
        if outcome not in outcomes.OUTCOMES:
            raise reader.error(outcome, "no outcome")
    return Counter({outcome: reader.number(outcome) for outcome in reader.value})


def _take_namespace(reader: _Reader, progress: Progress) -> None:
    name, where, explicit = reader.text("name"), reader.get("path"), reader.get("explicit")
    identity = reader.number("device"), reader.number("inode")
    if where is not None and not (isinstance(where, str) and where.startswith("/")):
        raise reader.error("path", "not an absolute path")
    if not isinstance(explicit, bool):
        raise reader.error("explicit", "not a boolean")
    if any(name == each.name or identity == each.identity for each in progress.namespaces):
        raise reader.error("name", "there twice")
    progress.namespaces.append(Namespace(name, where, identity, explicit))
    sockets = reader.mapping("sockets")
    for protocol in sockets.value:
        if protocol not in constants.PROTOCOLS:
            raise sockets.error(protocol, "not a protocol")
        for text in sockets.text(protocol).split(" "):
            match = _ENTRY.fullmatch(text)
            if match is None:
                raise sockets.error(protocol, "not a list of cookies")
            kind, arrived, cookie, ends, since = match.groups()
            progress.watchlist.entries[name, protocol, int(cookie, 16)] = Entry(
                _KINDS[kind],
                int(ends, 16),
                arrived=bool(arrived),
                quiet_since=None if since is None else int(since) / 1000,
            )
    reader.nothing_else()


class _Reader:
    """A mapping or a list in which everything must be as expected, and nothing else be."""

    def __init__(self, value: object, path: tuple[PathStep, ...], kind: type = dict) -> None:
        if not isinstance(value, kind):
            raise InputError(path, value, f"not a {_NAMES[kind]}", _ALLOWED)
        self.value: Any = value
        self._path = path
        self._asked: set[PathStep] = set()

    def error(self, key: PathStep, problem: str) -> InputError:
        return InputError((*self._path, key), self.value[key], problem, _ALLOWED)

    def get(self, key: PathStep) -> object:
        self._asked.add(key)
        try:
            found: object = self.value[key]
        except (KeyError, IndexError):
            raise InputError((*self._path, key), None, "not there", _ALLOWED) from None
        return found

    def number(self, key: PathStep) -> int:
        found = self.get(key)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _LARGEST:
            raise self.error(key, "not a number from 0")
        return found

    def text(self, key: PathStep) -> str:
        found = self.get(key)
        if not isinstance(found, str):
            raise self.error(key, "not a string")
        return found

    def mapping(self, key: PathStep) -> _Reader:
        return _Reader(self.get(key), (*self._path, key))

    def list(self, key: PathStep, length: int | None = None) -> _Reader:
        found = _Reader(self.get(key), (*self._path, key), list)
        if length not in (None, len(found.value)):
            raise self.error(key, f"not {length} of them")
        return found

    def nothing_else(self) -> None:
        for key in self.value:
            if key not in self._asked:
                raise self.error(key, "no such key")
