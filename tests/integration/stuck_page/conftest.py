# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page with 500 findings of fifty hosts and with one finding, in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plugins.plugin_utils._report.page import render_page
from tests.integration.browser import Browser, Page
from tests.integration.stuck_page.helpers import (
    DESKTOP,
    PAGE_SIZE,
    Finding,
)
from tests.support.sample_fleet import (
    compared_report,
    fleet_report,
    single_report,
)

REPORTS = {"500": fleet_report, "compared": compared_report, "1": single_report}


@pytest.fixture(scope="module")
def reports() -> dict[str, dict[str, Any]]:
    return {name: make() for name, make in REPORTS.items()}


@pytest.fixture(scope="module")
def files(
    reports: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    paths = {name: folder / f"{name}.html" for name in reports}
    for name, path in paths.items():
        path.write_text(render_page(reports[name]), encoding="utf-8")
    return paths


@pytest.fixture(scope="module")
def shared(browser: Browser, files: dict[str, Path]) -> Page:
    page = browser.open(files["500"])
    page.resize(*DESKTOP)
    # Clicks would miss what still moves.
    page.prefer(prefers_reduced_motion="reduce")
    return page


@pytest.fixture
def large(shared: Page) -> Page:
    """The page with 500 findings, without filters."""
    shared.set_hash(f"size={PAGE_SIZE}")
    shared.evaluate("scrollTo({top: 0, behavior: 'instant'})")
    return shared


@pytest.fixture
def findings(reports: dict[str, dict[str, Any]]) -> list[Finding]:
    return reports["500"]["findings"]
