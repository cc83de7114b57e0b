# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The guard: rules and selectors that protect sockets from being destroyed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, PathStep
from ..selector.parse import Selector, parse_selector
from ..sockets.needs import Need
from ..sockets.snapshot import Snapshot
from ..values import Names, no_such
from .evaluator import GuardEvaluator
from .protect_files import read_protect_files
from .reason import (
    CONTROL_CONNECTION,
    KERNEL,
    LISTENERS,
    LOOPBACK,
    SHARED_PORT,
    SSH_FORWARDS,
    SSH_SESSIONS,
    UNCONNECTED,
)

SWITCHES = (
    CONTROL_CONNECTION,
    SSH_SESSIONS,
    SSH_FORWARDS,
    LOOPBACK,
    LISTENERS,
    UNCONNECTED,
    SHARED_PORT,
    KERNEL,
)
# Off in a policy unless it asks for them: a user could evade the policy through a forwarded port.
OFF_IN_POLICIES = frozenset({SSH_FORWARDS})
_SELECTORS = "selectors"


@dataclass(frozen=True)
class Guard:
    """Which rules are on, and the selectors of further protected sockets.

    selectors: each with the place where it is written, which becomes the reason's detail.
    """

    control_connection: bool = True
    ssh_sessions: bool = True
    ssh_forwards: bool = True
    loopback: bool = True
    listeners: bool = True
    unconnected: bool = True
    shared_port: bool = True
    kernel: bool = True
    selectors: tuple[tuple[str, Selector], ...] = ()

    @property
    def extensions(self) -> int:
        """The idiag_ext bits that the selectors need in a dump."""
        bits = 0
        for _place, selector in self.selectors:
            bits |= selector.extensions
        return bits

    @property
    def needs(self) -> frozenset[Need]:
        """The facts that the selectors need, for query.find.load. The rules load their own."""
        return frozenset().union(*(selector.needs for _place, selector in self.selectors))

    def evaluator(self, snapshot: Snapshot) -> GuardEvaluator:
        """The guard, bound to a snapshot."""
        return GuardEvaluator(
            snapshot,
            switches=frozenset(name for name in SWITCHES if getattr(self, name)),
            selectors=self.selectors,
        )


def parse_guard(
    value: object,
    *,
    names: Names,
    files: str | None,
    path: Sequence[PathStep] = ("protect",),
    off: Collection[str] = (),
) -> Guard:
    """Parse a mapping of rules and selectors; None: the default guard.

    names: resolves user and service names. files: the directory of protection files, whose
    selectors are added; None: no directory. path: of the value, for errors. off: the rules that are
    off by default. Raises InputError, and ProtectFileError for a file that is unreadable or
    invalid.
    """
    from_files = () if files is None else tuple(read_protect_files(files, names))
    switches: dict[str, Any] = dict.fromkeys(off, False)
    if value is None:
        return Guard(**switches, selectors=from_files)
    allowed = ", ".join((*SWITCHES, _SELECTORS))
    if not isinstance(value, Mapping):
        hint = f"a mapping with any of {allowed}"
        if isinstance(value, (list, tuple)):
            hint = "{selectors: [...]} for a list of selectors"
        raise InputError(path, value, "not a mapping", hint)
    selectors: list[tuple[str, Selector]] = []
    for key, setting in value.items():
        if key == _SELECTORS:
            selectors = _selectors(setting, names, (*path, key))
        elif key not in SWITCHES:
            raise no_such(
                (*path, str(key)),
                setting,
                "no such key",
                str(key),
                (*SWITCHES, _SELECTORS),
                f"one of {allowed}",
            )
        elif setting is None:
            # Ansible passes options that are not given as null.
            continue
        elif not isinstance(setting, bool):
            raise InputError((*path, key), setting, "not a boolean", "true or false")
        else:
            switches[key] = setting
    return Guard(**switches, selectors=(*selectors, *from_files))


def _selectors(value: object, names: Names, path: Sequence[PathStep]) -> list[tuple[str, Selector]]:
    if value is None:
        return []
    if isinstance(value, (str, bytes, Mapping)) or not isinstance(value, Sequence):
        raise InputError(path, value, "not a list", "a list of selectors")
    return [
        (
            f"protect.{_SELECTORS}[{index}]",
            parse_selector(selector, names=names, path=(*path, index), role="protect"),
        )
        for index, selector in enumerate(value)
    ]
