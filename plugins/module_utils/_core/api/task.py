# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The result type that all operations share: data, warnings and failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Protocol, TypeVar

from .. import text
from ..errors import Failure, ResultWarning
from ..messages import describe_warning


class OperationResult(Protocol):
    """The result of an operation.

    warnings: problems that did not stop the operation. failures: why it failed, although its data
    is complete; empty on success. ``messages.describe_warning`` and
    ``messages.describe_failure`` turn them into sentences.
    """

    @property
    def warnings(self) -> tuple[ResultWarning, ...]: ...

    @property
    def failures(self) -> tuple[Failure, ...]: ...

    def to_dict(self) -> dict[str, Any]:
        """Return the data as mappings, lists, strings and numbers.

        ``warnings`` are sentences; the list is empty if there are none.
        Bytes of names that are not UTF-8 are escapes such as ``\\xe9``, and so are control
        characters and others without a glyph, such as ``\\x1b``. Selectors take them.
        """


_Result = TypeVar("_Result", bound=OperationResult)


def printable_dict(
    to_dict: Callable[[_Result], dict[str, Any]],
) -> Callable[[_Result], dict[str, Any]]:
    """Decorate to_dict: add ``warnings``, a list of sentences, and make all text printable."""

    @wraps(to_dict)
    def printable(result: _Result) -> dict[str, Any]:
        sentences = [describe_warning(warning) for warning in result.warnings]
        content = {**to_dict(result), "warnings": sentences}
        diff = content.pop("diff", None)
        values: dict[str, Any] = text.printable_values(content)
        if diff is not None:
            # The only text with lines.
            values["diff"] = {side: text.printable_lines(lines) for side, lines in diff.items()}
        return values

    return printable
