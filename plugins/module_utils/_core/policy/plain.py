# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: documents that JSON can say: only these have a digest."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping

from ..errors import InputError
from ..values import Path, describe_type

DEPTH = 100
MOST_VALUES = 100_000
_BITS = 128
_ALLOWED = "strings, numbers, booleans, lists, and mappings whose keys are strings"


def refuse_unplain(value: object, path: Path) -> None:
    """Refuse dates, sets, keys that are numbers, and whatever else YAML can make.

    Raises InputError, also for what is nested too deep or has too many values.
    """
    left = MOST_VALUES
    pending: list[tuple[object, Path]] = [(value, path)]
    while pending:
        item, at = pending.pop()
        left -= 1
        if left < 0:
            raise InputError(path, "...", f"more than {MOST_VALUES} values", "a smaller policy")
        if len(at) - len(path) > DEPTH:
            raise InputError(path, "...", f"nested more than {DEPTH} deep", "a flatter policy")
        if isinstance(item, Mapping):
            for key, under in item.items():
                if not isinstance(key, str):
                    problem = f"a key that is {describe_type(key)}"
                    raise InputError(at, key, problem, "keys that are strings: quote it")
                pending.append((under, (*at, key)))
        elif isinstance(item, list):
            pending += [(under, (*at, index)) for index, under in enumerate(item)]
        elif isinstance(item, int) and item.bit_length() > _BITS:
            # Python itself refuses to write thousands of digits.
            raise InputError(at, "...", f"wider than {_BITS} bits", "a smaller number")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InputError(at, item, "no finite number", _ALLOWED)
        elif item is not None and not isinstance(item, (str, int, float)):
            dated = isinstance(item, (datetime.date, datetime.time))
            problem = "a date or a time" if dated else describe_type(item)
            raise InputError(at, str(item) if dated else item, problem, f"{_ALLOWED}: quote it")
