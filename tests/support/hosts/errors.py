# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of the lab. Their text is shown to the user."""

from __future__ import annotations


class LabError(Exception):
    """The command failed."""


class UnsafeOperation(LabError):
    """Rejected: the operation could affect files or processes outside the lab."""
