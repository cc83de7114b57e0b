# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parts of the modules' argument specs.

Each corresponds to the documentation fragment of the same name; sanity tests compare them.
"""

from __future__ import annotations

from typing import Any

from .._core.api.summary import GROUP_KEYS
from .._core.destroy.engines.registry import NAMES as ENGINES
from .._core.guard.options import SWITCHES
from .._core.query.record import DETAILS

Spec = dict[str, Any]


def selector(*, required: bool) -> Spec:
    match: Spec = {"type": "dict"}
    if required:
        match["required"] = True
    else:
        match["default"] = {}
    return {"match": match}


def namespaces() -> Spec:
    return {"namespaces": {"type": "list", "elements": "str", "default": ["current"]}}


def limit(default: int = 1000) -> Spec:
    return {"limit": {"type": "int", "default": default}}


def details() -> Spec:
    return {
        "details": {
            "type": "list",
            "elements": "str",
            "choices": list(DETAILS),
            "default": [],
        }
    }


def group_by() -> Spec:
    return {"group_by": {"type": "str", "choices": list(GROUP_KEYS)}}


def guard() -> Spec:
    rules: Spec = {rule: {"type": "bool", "default": True} for rule in SWITCHES}
    selectors: Spec = {"selectors": {"type": "list", "elements": "dict", "default": []}}
    return {
        "protect": {"type": "dict", "options": {**rules, **selectors}},
        "max_sockets": {"type": "str"},
    }


def engine_name() -> Spec:
    return {"engine": {"type": "str", "choices": list(ENGINES), "default": "netlink"}}


def engine() -> Spec:
    return {**engine_name(), "pace": {"type": "str"}}
