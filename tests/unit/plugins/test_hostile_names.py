# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hostile names in each filter, and in the page and the document of the report."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from tests.support.collection import load_plugin
from tests.support.hostile_names import NAME, assert_harmless, texts_of
from tests.support.sample_results import TIME, facts_result, info_result, record, verdict

POISONED = info_result(
    record(
        verdict("zero_window", 1, **{NAME: NAME}),
        verdict(NAME, 2),
        **dict.fromkeys(("namespace", "local", "remote", "user", "device", "timer"), NAME),
        processes=[{"pid": 1, "comm": NAME, "unit": NAME}],
    )
)


def test_filters() -> None:
    records = POISONED["sockets"]
    violations = [{"rule": NAME, "status": NAME, "reason": [NAME], "record": records[0]}]
    table = load_plugin("filter.table").table
    stuck_text = load_plugin("filter.stuck_text").stuck_text
    outputs = [
        table(records),
        table(violations),
        table(violations, ["rule", "status", "owner", "namespace", "tcp_info.rtt"], width=1000),
        stuck_text(POISONED),
        stuck_text(report()),
        load_plugin("filter.printable").printable(NAME.replace("\n", "")),
    ]
    for output in outputs:
        assert_harmless(output)
    with pytest.raises(Exception, match="unknown column") as failed:
        table([{NAME: 1}], ["x"])
    assert_harmless(str(failed.value))
    with pytest.raises(Exception, match="expected a name") as failed:
        table(records, [0])
    checked = load_plugin("filter.policy_check").policy_check({NAME: NAME, "rules": [{NAME: 1}]})
    for text in texts_of(checked):
        assert_harmless(text or "-")


def test_page_and_document_of_the_report() -> None:
    page = load_plugin("filter.stuck_page").stuck_page(report())
    # The template uses no-break spaces.
    assert_harmless(page, own="\u00a0")
    for text in texts_of(report()):
        assert_harmless(text or "-")


def report() -> dict[str, Any]:
    hosts = {NAME: POISONED, f"{NAME}2": {"failed": True, "msg": NAME}}
    built: dict[str, Any] = load_plugin("filter.stuck_report").stuck_report(
        hosts, TIME, {NAME: facts_result(kernel=NAME)}
    )
    return built


@pytest.mark.parametrize("name", ["stuck_page", "stuck_text"])
@pytest.mark.parametrize(
    "data", [{"version": 1}, {"version": 1, "totals": {}, "findings": 1}, {"version": 1, "a": NAME}]
)
def test_input_that_is_no_report(name: str, data: dict[str, Any]) -> None:
    """Jinja, too, raises errors of its own."""
    with pytest.raises(AnsibleFilterError, match="not a report") as failed:
        getattr(load_plugin(f"filter.{name}"), name)(data)
    assert_harmless(str(failed.value))
