# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The result type that all operations share: data, warnings and failures."""

from __future__ import annotations

from typing import Any, Protocol

from ..errors import Failure, ResultWarning


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
        """Return the data as mappings, lists, strings and numbers."""
