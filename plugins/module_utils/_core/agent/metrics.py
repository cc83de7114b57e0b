# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: numbers as text, as Prometheus' node exporter collects them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

PREFIX = "linuxnet_sockets_"


class Metric(NamedTuple):
    """kind: gauge or counter. samples: (labels, value) each; a metric without one is left out."""

    name: str
    kind: str
    meaning: str
    samples: Sequence[tuple[Mapping[str, str], float]]


def render(metrics: Iterable[Metric]) -> str:
    """The whole file, ended by a newline."""
    lines: list[str] = []
    for metric in metrics:
        if not metric.samples:
            continue
        name = PREFIX + metric.name
        lines.append(f"# HELP {name} {_escaped(metric.meaning)}")
        lines.append(f"# TYPE {name} {metric.kind}")
        for labels, value in metric.samples:
            shown = ",".join(f'{key}="{_escaped(text, True)}"' for key, text in labels.items())
            number = f"{value:.0f}" if float(value).is_integer() else repr(float(value))
            lines.append(f"{name}{{{shown}}} {number}" if shown else f"{name} {number}")
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str, quoted: bool = False) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quoted else escaped
