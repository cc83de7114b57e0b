# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from typing import Any

import pytest
import salt.loader

from linuxnet_sockets import api
from saltext.linuxnet_sockets import kernel_support


@pytest.fixture(autouse=True)
def _uncached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_support, "_cached", None)


def grains_of(minion: Any) -> dict[str, Any]:
    grains: dict[str, Any] = salt.loader.grain_funcs(minion.opts)
    return dict(grains["socket_diag.socket_diag"]())


def test_the_grain_is_what_the_api_reports(minion: Any) -> None:
    support = api.support()

    assert grains_of(minion) == {
        "socket_diag": {
            "kernel": support.kernel,
            "may_destroy": support.may_destroy,
            "support": {name: each.verdict for name, each in support.protocols.items()},
        }
    }


def test_the_kernel_is_asked_once(minion: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = grains_of(minion)
    monkeypatch.setattr(api, "support", lambda: pytest.fail("the kernel was asked again"))

    assert grains_of(minion) == first


def test_the_kernel_is_asked_again_after_a_minute(
    minion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    grains_of(minion)
    asked: list[bool] = []
    support = api.support()
    monkeypatch.setattr(api, "support", lambda: asked.append(True) or support)
    monkeypatch.setattr(kernel_support, "_MAX_AGE_S", -1.0)

    grains_of(minion)

    assert asked == [True]


def test_without_an_answer_there_is_no_grain(minion: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(api, "support", fail)

    assert grains_of(minion) == {}
