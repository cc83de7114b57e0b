# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The resume token: the progress of a drain as JSON, passed from one step to the next.

Each step may run in a process of its own. The token contains counts, the namespaces and, for each
namespace and protocol, the tracked connections as one string.
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
from ..text import spellings
from .model import Progress
from .quiescence import PendingBytes
from .tracker import AWAITED, IGNORED, PROTECTED, TrackedConnection

_VERSION = 1
_ALLOWED = "the value of resume in the last unfinished result, with all other options unchanged"
_LETTERS = {AWAITED: "w", PROTECTED: "p", IGNORED: "i"}
_STATUSES = {letter: status for status, letter in _LETTERS.items()}
# Status, A for an arrival, cookie, checksum of the endpoints, and the time in milliseconds since
# which the queues are empty.
_CONNECTION = re.compile(
    r"([wpi])(A?)([0-9a-f]{1,16})-([0-9a-f]{1,8})(?:-([0-9]{1,16}))?", re.ASCII
)
_MAX_NUMBER = 2**63 - 1
_TYPE_NAMES: Mapping[type, str] = {dict: "mapping", list: "list"}


def encode_resume_token(progress: Progress, host: Host, digest: str) -> dict[str, Any]:
    """Return the token of this progress.

    digest: of the options that every step of the drain must share.
    """
    sockets: dict[str, dict[str, list[str]]] = {}
    for (name, protocol, cookie), tracked in progress.tracker.connections.items():
        since = "" if tracked.empty_since is None else f"-{int(tracked.empty_since * 1000)}"
        arrived = "A" if tracked.arrived else ""
        text = f"{_LETTERS[tracked.status]}{arrived}{cookie:x}-{tracked.endpoints:x}{since}"
        sockets.setdefault(name, {}).setdefault(protocol, []).append(text)
    return {
        "version": _VERSION,
        "boot": _boot_id(host),
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


def decode_resume_token(
    value: object, host: Host, digest: str, path: Sequence[PathStep] = ("resume",)
) -> Progress:
    """Return the progress in a token.

    Raises InputError unless encode_resume_token made the token on this machine, since its last
    boot, with the same digest.
    """
    reader = _StrictReader(value, tuple(path))
    if reader.number("version") != _VERSION:
        raise reader.error("version", f"not {_VERSION}: from another release")
    if reader.text("boot") != _boot_id(host):
        raise reader.error("boot", "from another machine, or from before its last boot")
    if reader.text("options") != digest:
        raise reader.error("options", "from a drain with other options")
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
        counts=_decode_counts(reader.mapping("outcomes")),
        lost=PendingBytes(*(lost.number(index) for index in range(3))),
    )
    namespaces = reader.list("namespaces")
    for index in range(len(namespaces.value)):
        _decode_namespace(namespaces.mapping(index), progress)
    reader.reject_unread_keys()
    return progress


def _boot_id(host: Host) -> str:
    """The id of the current boot (random(4)); empty if unreadable."""
    try:
        return read_boot_id(host.proc)
    except (OSError, ValueError):
        return ""


def _decode_counts(reader: _StrictReader) -> Counter[str]:
    for outcome in reader.value:
        if outcome not in outcomes.OUTCOMES:
            raise reader.error(outcome, "not an outcome")
    return Counter({outcome: reader.number(outcome) for outcome in reader.value})


def _decode_namespace(reader: _StrictReader, progress: Progress) -> None:
    """Add a namespace and its connections to the progress."""
    name, path, explicit = reader.text("name"), reader.get("path"), reader.get("explicit")
    identity = reader.number("device"), reader.number("inode")
    if path is not None and not (isinstance(path, str) and path.startswith("/")):
        raise reader.error("path", "not an absolute path")
    if not isinstance(explicit, bool):
        raise reader.error("explicit", "not a boolean")
    if any(name == other.name or identity == other.identity for other in progress.namespaces):
        raise reader.error("name", "given twice")
    # The token went through JSON as results do, so it has escapes for bytes that are not UTF-8.
    name = spellings(name)[-1]
    path = None if path is None else spellings(path)[-1]
    progress.namespaces.append(Namespace(name, path, identity, explicit))
    sockets = reader.mapping("sockets")
    for protocol in sockets.value:
        if protocol not in constants.PROTOCOLS:
            raise sockets.error(protocol, "not a protocol")
        for text in sockets.text(protocol).split(" "):
            match = _CONNECTION.fullmatch(text)
            if match is None:
                raise sockets.error(protocol, "not a list of connections")
            letter, arrived, cookie, endpoints, since = match.groups()
            progress.tracker.connections[name, protocol, int(cookie, 16)] = TrackedConnection(
                _STATUSES[letter],
                int(endpoints, 16),
                arrived=bool(arrived),
                empty_since=None if since is None else int(since) / 1000,
            )
    reader.reject_unread_keys()


class _StrictReader:
    """Reads a mapping or a list, and raises InputError for missing, wrong or unknown entries."""

    def __init__(self, value: object, path: tuple[PathStep, ...], kind: type = dict) -> None:
        if not isinstance(value, kind):
            raise InputError(path, value, f"not a {_TYPE_NAMES[kind]}", _ALLOWED)
        self.value: Any = value
        self._path = path
        self._read: set[PathStep] = set()

    def error(self, key: PathStep, problem: str) -> InputError:
        return InputError((*self._path, key), self.value[key], problem, _ALLOWED)

    def get(self, key: PathStep) -> object:
        self._read.add(key)
        try:
            found: object = self.value[key]
        except (KeyError, IndexError):
            raise InputError((*self._path, key), None, "missing", _ALLOWED) from None
        return found

    def number(self, key: PathStep) -> int:
        found = self.get(key)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _MAX_NUMBER:
            raise self.error(key, "not a non-negative integer")
        return found

    def text(self, key: PathStep) -> str:
        found = self.get(key)
        if not isinstance(found, str):
            raise self.error(key, "not a string")
        return found

    def mapping(self, key: PathStep) -> _StrictReader:
        return _StrictReader(self.get(key), (*self._path, key))

    def list(self, key: PathStep, length: int | None = None) -> _StrictReader:
        found = _StrictReader(self.get(key), (*self._path, key), list)
        if length not in (None, len(found.value)):
            raise self.error(key, f"not {length} entries")
        return found

    def reject_unread_keys(self) -> None:
        for key in self.value:
            if key not in self._read:
                raise self.error(key, "unknown key")
