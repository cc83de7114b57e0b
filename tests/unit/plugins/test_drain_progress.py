# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Progress lines of a drain, and when they are printed."""

from __future__ import annotations

from itertools import islice
from typing import Any

from plugins.plugin_utils._drain_progress import DrainProgress, step_seconds


def result(**changes: Any) -> dict[str, Any]:
    return {
        "left": 37,
        "by_state": {"close-wait": 7, "established": 30},
        "ended": 0,
        "arrived": 0,
        "outcomes": {"protected": 12},
        "grace_left": 41.2,
        "elapsed": 18.84,
        **changes,
    }


def test_line_shows_totals_and_increases() -> None:
    progress = DrainProgress("web1")

    assert progress.update(result(), 0) == (
        "drain: [web1] 37 left (30 established, 7 close-wait), 42 s of grace left"
    )
    more = result(left=36, by_state={"established": 36}, ended=5, arrived=4, grace_left=31)
    assert progress.update(more, 1) == (
        "drain: [web1] 36 left (36 established), 5 ended (+5), 4 arrived (+4), 31 s of grace left"
    )
    destroyed = {"protected": 12, "destroyed": 2, "disconnected": 1}
    assert progress.update({**more, "ended": 6, "outcomes": destroyed}, 2) == (
        "drain: [web1] 36 left (36 established), 6 ended (+1), 3 destroyed (+3), 4 arrived, "
        "31 s of grace left"
    )


def test_unchanged_drain_repeats_its_line_at_intervals() -> None:
    progress = DrainProgress("web1")
    printed = [now for now in range(0, 40, 3) if progress.update(result(grace_left=60 - now), now)]

    assert printed == [0, 12, 24, 36]


def test_steps_grow_to_ten_seconds() -> None:
    assert list(islice(step_seconds(), 6)) == [1, 2, 5, 10, 10, 10]


def test_summary_of_a_finished_drain() -> None:
    progress = DrainProgress("web1")
    done = result(
        left=0, by_state={}, ended=163, arrived=2, outcomes={"destroyed": 25, "protected": 12}
    )

    assert progress.summary(done) == (
        "drain: [web1] 163 ended on their own, 25 destroyed, 12 protected, 2 arrived, "
        "done in 18.8 s"
    )
    assert progress.summary(result(outcomes={})) == (
        "drain: [web1] 0 ended on their own, 0 destroyed, 37 left (30 established, 7 close-wait), "
        "done in 18.8 s"
    )


def test_preview_counts_connections_to_drain() -> None:
    predicted = {"destroyed": 25, "unsupported_protocol": 1, "protected": 12}

    assert DrainProgress("web1").preview(result(left=0, outcomes=predicted)) == (
        "drain: [web1] 26 to drain, 12 protected"
    )
    assert DrainProgress("web1").preview(result(outcomes={})) == "drain: [web1] 37 to drain"
