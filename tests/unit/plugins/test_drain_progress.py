# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the person who waits for a drain is told, and when."""

from __future__ import annotations

from itertools import islice
from typing import Any

from plugins.plugin_utils._drain_progress import Progress, steps


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


def test_a_line_tells_all_and_what_is_new() -> None:
    progress = Progress("web1")

    assert progress.line(result(), 0) == (
        "drain: [web1] 37 left (30 established, 7 close-wait), 42 s of grace left"
    )
    more = result(left=36, by_state={"established": 36}, ended=5, arrived=4, grace_left=31)
    assert progress.line(more, 1) == (
        "drain: [web1] 36 left (36 established), 5 ended (+5), 4 arrived (+4), 31 s of grace left"
    )
    destroyed = {"protected": 12, "destroyed": 2, "disconnected": 1}
    assert progress.line({**more, "ended": 6, "outcomes": destroyed}, 2) == (
        "drain: [web1] 36 left (36 established), 6 ended (+1), 3 destroyed (+3), 4 arrived, "
        "31 s of grace left"
    )


def test_what_is_no_news_is_told_only_now_and_then() -> None:
    progress = Progress("web1")
    told = [now for now in range(0, 40, 3) if progress.line(result(grace_left=60 - now), now)]

    assert told == [0, 12, 24, 36]


def test_steps_grow_to_ten_seconds() -> None:
    assert list(islice(steps(), 6)) == [1, 2, 5, 10, 10, 10]


def test_the_end() -> None:
    progress = Progress("web1")
    done = result(
        left=0, by_state={}, ended=163, arrived=2, outcomes={"destroyed": 25, "protected": 12}
    )

    assert progress.end(done) == (
        "drain: [web1] 163 ended by themselves, 25 destroyed, 12 protected, 2 arrived, "
        "done in 18.8 s"
    )
    assert progress.end(result(outcomes={})) == (
        "drain: [web1] 0 ended by themselves, 0 destroyed, 37 left (30 established, 7 close-wait), "
        "done in 18.8 s"
    )


def test_a_preview_counts_what_would_be_waited_for() -> None:
    predicted = {"destroyed": 25, "unsupported_protocol": 1, "protected": 12}

    assert Progress("web1").preview(result(left=0, outcomes=predicted)) == (
        "drain: [web1] 26 to drain, 12 protected"
    )
    assert Progress("web1").preview(result(outcomes={})) == "drain: [web1] 37 to drain"
