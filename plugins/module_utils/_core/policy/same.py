# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: whether a rule that was read again means what it meant.

What it means is compared, and not how it is written: a user's name may stand for another number
now. What cannot be compared counts as another.
"""

from __future__ import annotations

import dataclasses

from ..selector.parse import Selector
from ..selector.predicates.verdict import StrandedBy
from ..selector.tree import Predicate
from .model import Rule

# What says where in the policy something stands.
_PLACE = "path"


def same_rule(one: Rule, other: Rule) -> bool:
    """Name, match, condition, hold and action; wherever in the policy each of them stands."""
    waiting: list[tuple[object, object]] = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if type(left) is not type(right):
            return False
        parts, others = _parts(left), _parts(right)
        if parts is None or others is None:
            if left != right:
                return False
        elif list(parts) != list(others):
            return False
        else:
            waiting += [(parts[key], others[key]) for key in parts]
    return True


def _parts(value: object) -> dict[object, object] | None:
    """What it is made of; None: nothing, or it can be compared as a whole."""
    if isinstance(value, Selector):
        # The rest of it follows from this, or is filled as it is asked.
        return {"root": value.root}
    if isinstance(value, Predicate):
        return {key: part for key, part in sorted(vars(value).items()) if key != _PLACE}
    if isinstance(value, StrandedBy):
        return {key: part for key, part in value._asdict().items() if key != _PLACE}
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        return dict(enumerate(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    return None
