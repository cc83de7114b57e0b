# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words of a command line as selectors."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.selector.keys import KEYS
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.socketctl.words import (
    selector_from_text,
    selector_from_words,
    split_commas,
)


@pytest.mark.parametrize(
    ("words", "selector"),
    [
        ([], None),
        (["remote=10.0.0.0/8", "idle=10m"], {"remote": "10.0.0.0/8", "idle": "10m"}),
        (["state=established,close-wait"], {"state": ["established", "close-wait"]}),
        (["remote_port=80", "remote_port=443"], {"remote_port": ["80", "443"]}),
        (["remote=[fd00::1]:443"], {"remote": "[fd00::1]:443"}),
        (["local=interface:wg0"], {"local": "interface:wg0"}),
        (["process=a=b"], {"process": "a=b"}),
        (["process=a\\,b,c"], {"process": ["a,b", "c"]}),
        (["remote="], {"remote": ""}),
        (["remote=a,,b"], {"remote": ["a", "", "b"]}),
        (["remote!=10.0.0.0/8"], {"not": {"remote": "10.0.0.0/8"}}),
        (["remote!=a,b"], {"not": {"remote": ["a", "b"]}}),
        (
            ["remote!=a", "user!=root"],
            {"not": {"any": [{"remote": "a"}, {"user": "root"}]}},
        ),
        (["send_queue>0"], {"send_queue": ">0"}),
        (["retransmits>=3", "rtt<200ms"], {"retransmits": ">=3", "rtt": "<200ms"}),
        (["send_queue>0", "send_queue<=1k"], {"send_queue": ">0 <=1k"}),
        (["send_queue=>0"], {"send_queue": ">0"}),
        (
            ["send_queue=5", "send_queue>0"],
            {"all": [{"send_queue": "5"}, {"send_queue": ">0"}]},
        ),
        (["stuck=close_wait"], {"stuck": "close_wait"}),
        (
            ["stuck=close_wait:10m,zero_window"],
            {"stuck": [{"verdict": "close_wait", "for": "10m"}, "zero_window"]},
        ),
        (["stranded=rerouted:wg0"], {"stranded": {"verdict": "rerouted", "to": "wg0"}}),
        (
            ["superseded=30s", "local_port=22"],
            {"superseded": {"silent_for": "30s"}, "local_port": "22"},
        ),
        (['stuck={"verdict": "silent", "for": 9}'], {"stuck": {"verdict": "silent", "for": 9}}),
        (
            ["dport = :443 and not dst 10.0.0.0/8"],
            {"expression": "dport = :443 and not dst 10.0.0.0/8"},
        ),
        (
            ["dst", "10.0.0.0/8", "sport", "=", ":22"],
            {"expression": "dst 10.0.0.0/8 sport = :22"},
        ),
        (
            ["dst", "10.0.0.1", "state=established"],
            {"state": "established", "expression": "dst 10.0.0.1"},
        ),
        (["expression=dst 10.0.0.1, or"], {"expression": "dst 10.0.0.1, or"}),
    ],
)
def test_words(words: list[str], selector: Any) -> None:
    assert selector_from_words(words) == selector


def test_two_filters_are_both_required() -> None:
    found = selector_from_words(["expression=dst 10.0.0.1", "sport = :22"])
    assert found == {"all": [{"expression": "dst 10.0.0.1"}, {"expression": "sport = :22"}]}


def test_match_is_combined_with_the_words() -> None:
    nested = '{"any": [{"remote": "a"}, {"user": "root"}]}'
    assert selector_from_words([], nested) == {"any": [{"remote": "a"}, {"user": "root"}]}
    assert selector_from_words(["state=all"], '{"remote": "a"}') == {"state": "all", "remote": "a"}
    assert selector_from_words(["state=all"], '{"state": "big"}') == {
        "all": [{"state": "all"}, {"state": "big"}]
    }


def test_empty_match_beside_words_stays_and_is_refused() -> None:
    """It may come from a template: a selector must not lose a part without notice."""
    found = selector_from_words(["remote=10.0.0.1"], "{}")
    assert found == {"all": [{"remote": "10.0.0.1"}, {}]}
    with pytest.raises(InputError):
        parse_selector(found, names=Host(), role="destroy")


@pytest.mark.parametrize("text", ["", "[]", "1", "{", '"x"'])
def test_match_that_is_no_mapping_is_an_error(text: str) -> None:
    with pytest.raises(InputError) as caught:
        selector_from_words([], text)
    assert caught.value.path == ("match",)


def test_broken_json_of_a_key_names_the_key() -> None:
    with pytest.raises(InputError) as caught:
        selector_from_words(["stuck={"])
    assert caught.value.path == ("match", "stuck")


def test_selector_in_one_argument() -> None:
    assert selector_from_text("remote=10.0.0.53 protocol=udp", ("p",)) == {
        "remote": "10.0.0.53",
        "protocol": "udp",
    }
    assert selector_from_text(' {"remote": "a"}', ("p",)) == {"remote": "a"}
    assert selector_from_text("", ("p",)) == {}
    with pytest.raises(InputError) as caught:
        selector_from_text("'", ("p", 0))
    assert caught.value.path == ("p", 0)


def test_split_commas() -> None:
    assert split_commas("") == [""]
    assert split_commas(",") == ["", ""]
    assert split_commas("a\\,b") == ["a,b"]


@pytest.mark.parametrize("key", KEYS)
def test_examples_of_every_key_can_be_written_as_words(key: str) -> None:
    for example in KEYS[key].examples:
        # Users differ between hosts, and mappings have forms of their own.
        if isinstance(example, dict) or example == "alice":
            continue
        items = [str(item) for item in (example if isinstance(example, list) else [example])]
        found = selector_from_words([f"{key}={','.join(items)}"])
        assert found == {key: items if len(items) > 1 else items[0]}
        parse_selector(found, names=Host())
