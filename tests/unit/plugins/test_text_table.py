# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Text table of socket records: columns, width, and the filter as Ansible runs it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plugins.plugin_utils._formatting import duration_text, endpoint_text, size_text
from plugins.plugin_utils._socket_columns import COLUMNS
from plugins.plugin_utils._text_table import TableError, format_table
from tests.support.ansible_template import templated


def record(**changes: Any) -> dict[str, Any]:
    return {
        "protocol": "tcp",
        "state": "established",
        "local": "192.0.2.10",
        "local_port": 48134,
        "remote": "10.20.3.4",
        "remote_port": 443,
        "send_queue": 18432,
        "recv_queue": 0,
        "timer": "on",
        "retransmits": 6,
        "idle_ms": 301_500,
        "uid": 33,
        "user": "www-data",
        "namespace": "current",
        "mark": 0,
        "processes": [{"pid": 912, "comm": "php-fpm", "unit": "php.service"}],
        **changes,
    }


def cell(column: str, **changes: Any) -> str:
    return format_table([record(**changes)], columns=[column], header=False)


def test_default_columns_are_those_with_a_known_value() -> None:
    one = record(processes=None, user="web", state="last-ack", local="10.0.0.1", local_port=80)
    other = {**one, "state": "closing", "timer": None, "idle_ms": None}

    lines = format_table([one, other]).splitlines()

    assert " ".join(lines[0].split()) == ("PROTO STATE LOCAL REMOTE SEND-Q RECV-Q TIMER IDLE OWNER")
    assert lines[1:] == [
        "─" * 90,
        "tcp    last-ack  10.0.0.1:80  10.20.3.4:443  18.0 KiB       0  retransmit x6  5m01s  web",
        "tcp    closing   10.0.0.1:80  10.20.3.4:443  18.0 KiB       0  -                  -  web",
    ]


def test_column_without_a_known_value_is_omitted() -> None:
    header = format_table([record(timer=None, processes=None, uid=None, user=None)]).splitlines()[0]

    assert header.split() == ["PROTO", "STATE", "LOCAL", "REMOTE", "SEND-Q", "RECV-Q", "IDLE"]


def test_namespace_column_appears_only_for_several_namespaces() -> None:
    alone = format_table([record(), record()])
    several = format_table([record(), record(namespace="blue")])

    assert "NAMESPACE" not in alone
    assert [line.split()[0] for line in several.splitlines()[2:]] == ["current", "blue"]


def test_outcome_and_reason_are_shown() -> None:
    shown = format_table([record(outcome="protected", reason="loopback")], width=160).splitlines()

    assert shown[0].split()[-2:] == ["OUTCOME", "REASON"]
    assert shown[2].split()[-2:] == ["protected", "loopback"]


@pytest.mark.parametrize(
    "empty",
    [
        [],
        {"sockets": [], "matched": 0},
        {"destroyed": [], "protected": [], "survivors": []},
        {"violations": [], "destroyed": []},
    ],
)
@pytest.mark.parametrize("options", [{}, {"columns": ["local", "remote"]}, {"header": False}])
def test_no_records_are_said_so(empty: Any, options: dict[str, Any]) -> None:
    assert format_table(empty, **options) == "no sockets"


def test_whole_result_of_a_module() -> None:
    gone, kept = record(outcome="destroyed"), record(outcome="protected", local_port=9)
    left = record(outcome="survived", local_port=8)
    listed = format_table([gone, kept])
    assert format_table({"sockets": [gone, kept], "matched": 2, "changed": False}) == listed
    destroyed = {"destroyed": [gone], "protected": [kept], "survivors": [left], "changed": True}
    assert format_table(destroyed) == format_table([gone, kept, left])
    assert format_table({**destroyed, "remaining": [left]}) == format_table([gone, kept, left])
    violation = {"rule": "one", "record": record(), "reason": []}
    policy = {"violations": [violation], **destroyed}
    assert format_table(policy) == format_table([violation])


@pytest.mark.parametrize(
    ("column", "changes", "expected"),
    [
        ("remote", {"remote": "2001:db8::1"}, "[2001:db8::1]:443"),
        ("remote", {"remote": "0.0.0.0", "remote_port": 0}, "0.0.0.0:*"),
        ("remote", {"remote": None}, "-"),
        ("send_queue", {"state": "listening", "send_queue": 4096}, "4096"),
        ("send_queue", {"send_queue": None}, "-"),
        ("timer", {"timer": "persist", "retransmits": 0}, "persist"),
        ("timer", {"timer": "keepalive", "retransmits": 2}, "keepalive x2"),
        ("retransmits", {}, "6"),
        ("processes", {"processes": []}, "-"),
        ("processes", {"processes": ["nginx", "sshd"]}, "nginx +1"),
        ("unit", {}, "php.service"),
        ("user", {"user": None}, "uid 33"),
        ("user", {"user": None, "uid": None}, "-"),
        ("owner", {"processes": None}, "www-data"),
        ("owner", {}, "php-fpm[912] php.service www-data"),
        ("mark", {"mark": 0}, "0"),
        ("mapped", {"mapped": False}, "no"),
        ("options", {"options": ["recverr", "mc_all"]}, "recverr, mc_all"),
        ("tcp_info.rtt", {"tcp_info": {"rtt": 181}}, "181"),
        ("tcp_info.rtt", {"tcp_info": None}, "-"),
        ("timer_ms", {"timer_ms": 4120}, "4.1s"),
    ],
)
def test_cell_text(column: str, changes: dict[str, Any], expected: str) -> None:
    assert cell(column, **changes).strip() == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
    ],
)
def test_size_text(count: int, expected: str) -> None:
    assert size_text(count) == expected


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (0, "0ms"),
        (999, "999ms"),
        (1000, "1.0s"),
        (59_999, "59.9s"),
        (60_000, "1m00s"),
        (3_599_999, "59m59s"),
        (3_600_000, "1h00m"),
        (86_399_999, "23h59m"),
        (86_400_000, "1d00h"),
    ],
)
def test_duration_text(milliseconds: int, expected: str) -> None:
    assert duration_text(milliseconds) == expected


def test_endpoint_without_port() -> None:
    assert endpoint_text("2001:db8::1", None) == "[2001:db8::1]"


def test_numbers_align_right_and_text_left() -> None:
    columns = ["send_queue", "mark", "state"]
    lines = format_table(
        [record(mark=7), record(send_queue=0, mark=1234)], columns=columns
    ).splitlines()

    assert lines[2:] == ["18.0 KiB     7  established", "       0  1234  established"]


def test_long_line_is_cut_with_an_ellipsis() -> None:
    v6 = "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff"
    (line,) = format_table([record(remote=v6)], width=100, header=False).splitlines()

    assert len(line) <= 100
    assert "192.0.2.10:48134" in line
    assert "…" in line
    assert "]:443" in line


def test_control_characters_in_names_are_escaped() -> None:
    named = [{"pid": 1, "comm": "a\x1b[2J\nb", "unit": None}]

    assert cell("processes", processes=named) == "a\\x1b[2J\\x0ab[1]"


@pytest.mark.parametrize(
    ("records", "options", "facts"),
    [
        ({"failed": True, "msg": "match.x: wrong"}, {}, ["mapping", "failed", "match.x: wrong"]),
        ({"changed": False}, {}, ["list", "mapping", "result of a module"]),
        ({"sockets": "tcp"}, {}, ["lists of records", "sockets"]),
        ("tcp", {}, ["list", "str"]),
        (None, {}, ["list", "NoneType"]),
        ([record(), "tcp"], {}, ["record 1", "str", "mapping"]),
        ([record()], {"columns": []}, ["columns: []", "list"]),
        ([record()], {"columns": "state"}, ["columns: 'state'", "list"]),
        ([record()], {"columns": ["state", 3]}, ["columns[1]: 3"]),
        ([record()], {"columns": ["stat"]}, ["columns[0]: ", "'stat'", "state"]),
        ([record()], {"width": 19}, ["width: 19", "20"]),
        ([record()], {"width": "100"}, ["width: '100'", "integer"]),
    ],
)
def test_error_names_the_option_and_the_value(
    records: Any, options: dict[str, Any], facts: list[str]
) -> None:
    with pytest.raises(TableError) as error:
        format_table(records, **options)

    assert [fact for fact in facts if fact not in str(error.value)] == []


_VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())
_RECORDS = st.fixed_dictionaries({}, optional=dict.fromkeys(record(), _VALUES))


@given(st.lists(_RECORDS), st.integers(20, 200))
def test_each_record_is_one_line_within_the_width(
    records: list[dict[str, Any]], width: int
) -> None:
    shown = format_table(records, width=width)
    named = format_table(records, columns=sorted(COLUMNS), width=width, header=False)

    assert len(shown.split("\n")) == (len(records) + 2 if records else 1)
    assert all(len(line) <= width for line in f"{shown}\n{named}".split("\n"))


def test_ansible_runs_the_filter() -> None:
    done = templated("records | linuxnet.sockets.table(['remote', 'owner'], width=60)", [record()])

    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "REMOTE         OWNER" in lines
    assert "10.20.3.4:443  php-fpm[912] php.service www-data" in lines


def test_ansible_runs_the_filter_on_a_result() -> None:
    expression = "{'sockets': records, 'changed': false} | linuxnet.sockets.table(['remote'])"
    done = templated(expression, [record()])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10.20.3.4:443" in done.stdout


def test_ansible_shows_the_error_of_the_filter() -> None:
    done = templated("records | linuxnet.sockets.table(['stat'])", [record()])

    assert done.returncode != 0
    assert re.search(r"linuxnet\.sockets\.table: columns\[0\]: .*'stat'", done.stdout + done.stderr)


def test_violations_are_shown_with_rule_and_reason() -> None:
    shared = {"rule": "past-the-vpn", "status": "destroy", "reason": ["stranded: rerouted"]}
    one = {**shared, "protected_by": None, "record": record(processes=None, user="web")}
    two = {**one, "status": "protected", "protected_by": "selector"}

    lines = format_table([one, two], width=140).splitlines()

    assert " ".join(lines[0].split()) == "RULE STATUS PROTO LOCAL REMOTE OWNER REASON PROTECTED-BY"
    assert [" ".join(line.split()) for line in lines[2:]] == [
        "past-the-vpn destroy tcp 192.0.2.10:48134 10.20.3.4:443 web stranded: rerouted -",
        "past-the-vpn protected tcp 192.0.2.10:48134 10.20.3.4:443 web stranded: rerouted selector",
    ]
    assert (
        format_table([one], columns=["rule", "remote"], header=False)
        == "past-the-vpn  10.20.3.4:443"
    )
