# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors of PyYAML."""

from __future__ import annotations

import pytest

from linuxnet_sockets.host.yaml_document import parse_yaml


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: \x1b",
        '!!int ""',
        '!!float ""',
        "!!timestamp never",
        "2026-99-99",
        "!!python/object:os.system {}",
        "[" * 5000,
        "a: *b",
        "{[1]: 2}",
        "{? {a: b} : 1}",
    ],
)
def test_whatever_pyyaml_raises_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="not valid YAML or JSON: "):
        parse_yaml(text)
