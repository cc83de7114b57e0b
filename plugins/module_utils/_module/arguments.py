# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Argument specs of modules, derived from the options of the API.

Sanity tests compare them with the documentation.
"""

from __future__ import annotations

from typing import Any

from .._core.api.options import OPERATIONS, Kind, Option

Spec = dict[str, Any]

# Durations, rates and shares are strings, because their numbers may have a unit.
_TYPES = {
    Kind.BOOL: "bool",
    Kind.INT: "int",
    # The parser of selectors rejects other types, and names the right form.
    Kind.SELECTOR: "raw",
    Kind.POLICY: "dict",
    Kind.MAPPING: "dict",
}


def argument_spec(operation: str) -> Spec:
    """The argument spec of the module for an operation of the API.

    Check mode and diff mode are not arguments in Ansible.
    """
    options = OPERATIONS[operation].values()
    return {option.name: _argument(option) for option in options if not option.mode}


def _argument(option: Option) -> Spec:
    kind = _TYPES.get(option.kind, "str")
    spec: Spec = {"type": "list", "elements": kind} if option.many else {"type": kind}
    if option.choices:
        spec["choices"] = list(option.choices)
    if option.keys:
        spec["options"] = {key.name: _argument(key) for key in option.keys}
    if option.required:
        spec["required"] = True
    elif option.many:
        spec["default"] = list(option.default)
    elif option.kind is Kind.SELECTOR:
        # Without a selector, the operation selects what an empty one does.
        spec["default"] = {}
    elif option.default is not None:
        spec["default"] = option.default
    return spec
