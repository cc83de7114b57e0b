# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of drains that run in the background of a test."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from linuxnet_sockets.drain import poll_interval
from tests.kernel.drain.background import BackgroundDrain, Start, command_of


@pytest.fixture
def start() -> Iterator[Start]:
    with ThreadPoolExecutor(2) as threads:
        yield lambda *arguments, seams=None, **options: BackgroundDrain(
            threads, command_of(*arguments, **options), **(seams or {})
        )


@pytest.fixture
def long_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the poll interval longer than the test."""
    monkeypatch.setattr(poll_interval, "_MAX_S", 600.0)
    monkeypatch.setattr(poll_interval, "_GROWTH", 6000.0)
