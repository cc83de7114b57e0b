# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics in Prometheus' text format."""

from __future__ import annotations

import shutil
import subprocess

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.metrics import Metric, collect, render
from tests.unit.agent.full_state import NOW, full_state


def test_text_format() -> None:
    text = render(
        [
            Metric("paused", "gauge", "1 while paused.", [({}, 0)]),
            Metric("nothing", "gauge", "Has no samples.", []),
            Metric(
                "enforced_total",
                "counter",
                "Sockets by outcome.",
                [({"rule": 'a"b\\c\nd', "outcome": "destroyed"}, 3), ({"rule": "x"}, 0.25)],
            ),
        ]
    )
    assert text.splitlines() == [
        "# HELP linuxnet_sockets_paused 1 while paused.",
        "# TYPE linuxnet_sockets_paused gauge",
        "linuxnet_sockets_paused 0",
        "# HELP linuxnet_sockets_enforced_total Sockets by outcome.",
        "# TYPE linuxnet_sockets_enforced_total counter",
        'linuxnet_sockets_enforced_total{rule="a\\"b\\\\c\\nd",outcome="destroyed"} 3',
        'linuxnet_sockets_enforced_total{rule="x"} 0.25',
    ]
    assert text.endswith("\n")


@given(st.text())
def test_sample_is_one_line(name: str) -> None:
    text = render([Metric("m", "gauge", name, [({"rule": name}, 1)])])
    assert text.count("\n") == 3


def test_promtool_accepts_the_metrics() -> None:
    """`promtool check metrics` also reports names that break Prometheus' naming rules.

    It is in the Debian package prometheus, which tools/setup installs.
    """
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is missing; run tools/setup"
    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=render(collect(full_state(), NOW)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
