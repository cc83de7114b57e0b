# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the tests of the page share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.integration.browser import Page

DESKTOP, PHONE = (1400, 900), (390, 844)


PAGE_SIZE = 50


Finding = dict[str, Any]


def count(page: Page) -> int:
    """Return the number of connections that the filter shows."""
    return int(page.texts("#count")[0].split()[0])


def rows(page: Page) -> int:
    return page.evaluate("document.querySelectorAll('tbody tr.row').length")


def to_list(page: Page) -> None:
    page.evaluate("document.getElementById('list').scrollIntoView({behavior: 'instant'})")


def has_verdict(name: str) -> Callable[[Finding], bool]:
    return lambda finding: any(entry["verdict"] == name for entry in finding["verdicts"])
