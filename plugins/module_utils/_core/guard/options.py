# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the guard's switches and selectors, as the user gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import InputError, PathStep
from ..selector.parse import Selector, parse_selector
from ..sockets.needs import Need
from ..sockets.snapshot import Snapshot
from ..values import Names
from .evaluator import Watch
from .protect_files import read_protect_files
from .reason import CONTROL_CONNECTION, KERNEL, LISTENERS, LOOPBACK, SSH_SESSIONS, UNCONNECTED

SWITCHES = (CONTROL_CONNECTION, SSH_SESSIONS, LOOPBACK, LISTENERS, UNCONNECTED, KERNEL)
_SELECTORS = "selectors"


@dataclass(frozen=True)
class Guard:
    """What must not be destroyed, whoever asks for it.

    selectors: each with the name of where it was written, for the reason.
    """

    control_connection: bool = True
    ssh_sessions: bool = True
    loopback: bool = True
    listeners: bool = True
    unconnected: bool = True
    kernel: bool = True
    selectors: tuple[tuple[str, Selector], ...] = ()

    @property
    def extensions(self) -> int:
        """The bits of idiag_ext that a dump must ask for, so that the selectors can be judged."""
        bits = 0
        for _source, selector in self.selectors:
            bits |= selector.extensions
        return bits

    @property
    def needs(self) -> frozenset[Need]:
        """What must be found out of sockets, as query.find.load takes it, so that the selectors can
        be judged. The guard's own rules look for themselves."""
        return frozenset().union(*(selector.needs for _source, selector in self.selectors))

    def watch(self, snapshot: Snapshot) -> Watch:
        """The guard over the sockets of one look in one namespace."""
        return Watch(
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
) -> Guard:
    """The guard that a mapping of switches and selectors describes; None is the default guard.

    files: the directory of protection files, which are obeyed beside what is given here; None for
    a machine without one. Raises InputError, and ProtectFileError for a file that cannot be obeyed.
    """
    from_files = () if files is None else tuple(read_protect_files(files, names))
    if value is None:
        return Guard(selectors=from_files)
    allowed = ", ".join((*SWITCHES, _SELECTORS))
    if not isinstance(value, Mapping):
        raise InputError(path, value, "not a mapping", f"a mapping with any of {allowed}")
    switches: dict[str, Any] = {}
    selectors: list[tuple[str, Selector]] = []
    for key, setting in value.items():
        if key == _SELECTORS:
            selectors = _selectors(setting, names, (*path, key))
        elif key not in SWITCHES:
            raise InputError((*path, str(key)), setting, "no such key", f"one of {allowed}")
        elif setting is None:
            # An option that was not given.
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
            parse_selector(each, names=names, path=(*path, index), role="protect"),
        )
        for index, each in enumerate(value)
    ]
