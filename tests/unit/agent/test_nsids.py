# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids of other namespaces: reuse, and unknown ones."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linuxnet_sockets.agent.nsids import NsidMap

BLUE, GREEN = (4, 1), (4, 2)


def test_reused_id_belongs_to_the_namespace_that_has_it_now() -> None:
    nsids = NsidMap()
    nsids.learn(0, BLUE)
    nsids.learn(0, GREEN)
    assert nsids.identity(0) == GREEN
    # Blue ended before, and its end is noticed only now.
    nsids.forget(BLUE)
    assert nsids.identity(0) == GREEN
    nsids.learn(3, GREEN)
    assert (nsids.identity(0), nsids.identity(3)) == (None, GREEN)


def test_unknown_id_is_new_once() -> None:
    nsids = NsidMap()
    assert nsids.is_new(5)
    assert not nsids.is_new(5)
    nsids.learn(5, BLUE)
    assert not nsids.is_new(5)
    nsids.forget(BLUE)
    assert nsids.is_new(5)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["learn", "forget", "event"]), st.integers(0, 3), st.integers(0, 3)
        ),
        max_size=60,
    )
)
def test_each_namespace_has_one_id_and_each_id_one_namespace(
    history: list[tuple[str, int, int]],
) -> None:
    nsids, expected = NsidMap(), dict[int, tuple[int, int]]()
    for kind, nsid, number in history:
        identity = (4, number)
        if kind == "event":
            nsids.is_new(nsid)
            continue
        expected = {key: each for key, each in expected.items() if each != identity}
        if kind == "learn":
            expected[nsid] = identity
            nsids.learn(nsid, identity)
        else:
            nsids.forget(identity)
    assert {key: nsids.identity(key) for key in range(4)} == {
        key: expected.get(key) for key in range(4)
    }
