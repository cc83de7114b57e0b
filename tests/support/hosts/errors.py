# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong in the lab, as one type for each kind; the text is a sentence for the person."""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do what was asked."""


class Refused(LabError):
    """The lab will not do this: it would reach outside what is its own."""
