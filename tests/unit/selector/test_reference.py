# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generated selectors and sockets: the result agrees with the reference implementation."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from linuxnet_sockets.errors import InputError
from linuxnet_sockets.selector.parse import Selector, parse_selector
from tests.support import generated_selectors
from tests.support.fake_kernel import bytecode
from tests.support.oracles.reference_selector import Expression, truth
from tests.support.sample_sockets import (
    STATES,
    SampleNames,
    decoded,
    inet_diag_address,
    snapshot_of,
)

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}
_REJECTED = (
    "means nothing for",
    "autobound",
    "superseded without local_port",
)


def _parsed(selector: Mapping[str, Any], role: str = "find") -> Selector:
    """Parse; a generated selector may only be rejected for its combination of keys."""
    try:
        return parse_selector(selector, names=SampleNames(), role=role)
    except InputError as error:
        if error.problem.startswith(_REJECTED):
            assume(False)
        raise


def _entry(facts: Mapping[str, Any]) -> bytecode.Entry:
    family = facts["family"]
    return bytecode.Entry(
        family=_FAMILIES[family],
        src=inet_diag_address(family, facts["local"]),
        dst=inet_diag_address(family, facts["remote"]),
        sport=facts["local_port"],
        dport=facts["remote_port"],
        autobound=facts["autobound"],
        ifindex=facts["ifindex"],
        mark=facts["mark"] or 0,
        cgroup=facts["cgroup"] or 0,
    )


def _dumped(selector: Selector, facts: Mapping[str, Any], exact_ops: bool) -> bool:
    """Whether the kernel filter of the selector accepts the socket."""
    protocol, family = facts["protocol"], facts["family"]
    if protocol not in selector.protocols or family not in selector.families:
        return False
    if not selector.states(protocol) >> STATES[facts["state"]] & 1:
        return False
    snapshot: Any = snapshot_of(facts)
    programs = selector.programs(snapshot, protocol, family, exact_ops=exact_ops)
    for program in programs:
        assert not program or bytecode.audit(program, privileged=False) == 0
    entry = _entry(facts)
    return any(not program or bytecode.run(program, entry) for program in programs)


@given(generated_selectors.selectors(expressions=False), generated_selectors.sockets())
@settings(max_examples=600, deadline=None)
@example({"not": {"remote": "::/0"}}, generated_selectors.facts(family="inet6"))
@example({"not": {"remote": "interface:nowhere0"}}, generated_selectors.facts())
@example({"not": {"device": "nowhere0"}}, generated_selectors.facts())
@example(
    {"superseded": {"silent_for": "1s"}, "local_port": 40000},
    generated_selectors.facts(
        remote_port=0, info=dict.fromkeys(("last_data_recv", "last_ack_recv"), 0)
    ),
)
def test_bound_test_agrees_with_reference(selector: dict[str, Any], facts: dict[str, Any]) -> None:
    snapshot: Any = snapshot_of(facts)
    matches = _parsed(selector).bind(snapshot)
    assert matches(decoded(facts, snapshot)) is truth(selector, facts)


@given(generated_selectors.selectors(expressions=False), generated_selectors.sockets())
@settings(max_examples=300, deadline=None)
def test_protecting_selector_agrees_with_reference(
    selector: dict[str, Any], facts: dict[str, Any]
) -> None:
    snapshot: Any = snapshot_of(facts)
    matches = _parsed(selector, role="protect").bind(snapshot)
    assert matches(decoded(facts, snapshot)) is truth(selector, facts, defaults=False)


@given(generated_selectors.selectors(), generated_selectors.sockets(), st.booleans())
@settings(max_examples=800, deadline=None)
def test_filter_and_test_agree_with_reference(
    selector: dict[str, Any], facts: dict[str, Any], exact_ops: bool
) -> None:
    parsed = _parsed(selector)
    snapshot: Any = snapshot_of(facts)
    found = _dumped(parsed, facts, exact_ops) and parsed.bind(snapshot)(decoded(facts, snapshot))
    assert (found is True) is (truth(selector, facts) is True)


@given(generated_selectors.selectors(), generated_selectors.sockets())
@settings(max_examples=600, deadline=None)
def test_filter_of_both_families_accepts_every_match(
    selector: dict[str, Any], facts: dict[str, Any]
) -> None:
    parsed = _parsed(selector)
    snapshot: Any = snapshot_of(facts)
    program = parsed.program_of_both(snapshot, facts["protocol"])
    if not program:
        return
    assert bytecode.audit(program, privileged=False) == 0
    assert bytecode.run(program, _entry(facts)) or truth(selector, facts) is not True


@given(generated_selectors.filters(exact=True), generated_selectors.sockets())
@settings(max_examples=600, deadline=None)
def test_expressions_select_like_ss(expression: Expression, facts: dict[str, Any]) -> None:
    selector = {"expression": expression, "protocol": ["tcp", "udp", "mptcp"]}
    parsed = _parsed(selector)
    snapshot: Any = snapshot_of(facts)
    found = _dumped(parsed, facts, True) and parsed.bind(snapshot)(decoded(facts, snapshot))
    assert (found is True) is (truth(selector, facts) is True)
