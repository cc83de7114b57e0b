# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Policies as people write them at first: each error names the right form."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.errors import PolicyErrors
from linuxnet_sockets.messages import describe
from linuxnet_sockets.policy.parse import AnyNames, parse_policy

RULE = {"name": "a", "match": {"remote": "10.0.0.1"}}
WG0 = {"interface": "wg0"}


def sentences(**changes: Any) -> list[str]:
    """Changes of the document; those of the key `rule` are of its rule."""
    one = {**RULE, **changes.pop("rule", {})}
    document = {"version": 1, "limits": {"max_sockets": 1}, "rules": [one], **changes}
    document = {key: value for key, value in document.items() if value is not None}
    with pytest.raises(PolicyErrors) as caught:
        parse_policy(document, names=AnyNames(), files=None)
    return [describe(error) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("changes", "path", "form"),
    [
        ({"version": None}, "version: missing", "Allowed: 1."),
        ({"rule": {"match": "dst 10.0.0.1"}}, "rules[0].match", '{expression: "dst 10.0.0.1"}'),
        ({"rule": {"match": [{"state": "all"}]}}, "rules[0].match", "{any: [...]}"),
        ({"rule": {"match": {"port": 80}}}, "rules[0].match.port", "local_port or remote_port?"),
        ({"rule": {"match": {"remote_port": "80,443"}}}, "rules[0].match", "[80, 443]"),
        ({"rule": {"when": {}}}, "rules[0].when", "did you mean while?"),
        ({"rule": {"hold": ">5m"}}, "rules[0].hold", "5m, without >"),
        ({"rule": {"while": "wg0 is up"}}, "rules[0].while", "{interface: wg0, is: up}"),
        ({"rule": {"while": "default via wg0"}}, "rules[0].while", "{route: default, via: wg0}"),
        ({"rule": {"while": WG0}}, "rules[0].while.is", "{interface: NAME, is: up}"),
        ({"rule": {"while": {**WG0, "is": "down"}}}, "rules[0].while.is", "{not: {..., is: up}}"),
        (
            {"rule": {"while": {**WG0, "is": "absent"}}},
            "rules[0].while.is",
            "{not: {..., is: present}}",
        ),
        ({"rule": {"while": {**WG0, "state": "up"}}}, "rules[0].while.state", "mean is?"),
        ({"rule": {"while": {"iface": "wg0", "is": "up"}}}, "rules[0].while", "mean interface?"),
        ({"rule": {"while": {"route": "default", "dev": "wg0"}}}, "rules[0].while", "mean via?"),
        (
            {"rule": {"while": {"address": "10.0.0.1/24", "is": "present"}}},
            "rules[0].while.address",
            "10.0.0.1, the address alone",
        ),
        ({"limits": {"max": 5}}, "limits.max: ", "did you mean max_sockets?"),
        ({"protect": [{"remote": "10.0.0.1"}]}, "protect", "{selectors: [...]}"),
        ({"protect": {"listener": False}}, "protect.listener", "did you mean listeners?"),
        ({"guard": {"listeners": False}}, "guard", "did you mean protect?"),
    ],
)
def test_error_names_the_right_form(changes: dict[str, Any], path: str, form: str) -> None:
    text = sentences(**changes)[0]
    assert text.startswith(path)
    assert form in text


@pytest.mark.parametrize("hold", ["5min", "5 minutes", "1m 30sec"])
def test_units_of_systemd_are_accepted(hold: str) -> None:
    document = {"version": 1, "limits": {"max_sockets": 1, "per": "1 min"}}
    rule = {**RULE, "hold": hold, "match": {"stuck": {"verdict": "close-wait", "for": hold}}}
    parse_policy({**document, "rules": [rule]}, names=AnyNames(), files=None)
