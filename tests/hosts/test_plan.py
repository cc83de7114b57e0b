# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Parsed hosts and digests of recipes."""

from __future__ import annotations

import pytest

from tests.support.hosts.errors import LabError
from tests.support.hosts.plan import Address, parse_hosts
from tests.support.hosts.recipe import RECIPES, Recipe


def test_addresses_follow_the_order_of_the_hosts() -> None:
    first, second = parse_hosts(["deb12=bookworm", "a=trixie"])
    assert (first.name, first.suite, first.link) == ("deb12", "bookworm", "v-deb12")
    assert first.address == Address("192.0.2.1", "2001:db8::1")
    assert second.address == Address("192.0.2.2", "2001:db8::2")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["deb12"], "write NAME=SUITE"),
        (["deb12=sarge"], "the suites are bullseye, bookworm, trixie"),
        (["..=bookworm"], "is not a host name"),
        (["a=bookworm", "a=trixie"], "the name is already used"),
        (["controller=trixie"], "the name is already used"),
        ([], "0 hosts: a lab here has 1 to"),
        ([f"h{number}=trixie" for number in range(300)], "300 hosts: a lab here has 1 to"),
    ],
)
def test_invalid_hosts_are_rejected(arguments: list[str], problem: str) -> None:
    with pytest.raises(LabError, match=problem):
        parse_hosts(arguments)


def test_digest_depends_on_each_part_of_a_recipe() -> None:
    recipe = Recipe("bookworm")
    others = [
        Recipe("trixie"),
        Recipe("bookworm", variant="essential"),
        Recipe("bookworm", packages=(*recipe.packages, "nftables")),
        Recipe("bookworm", hooks=recipe.hooks[:-1]),
    ]
    assert recipe.digest == Recipe("bookworm").digest
    assert len({recipe.digest, *(other.digest for other in others)}) == 5
    assert len({known.digest for known in RECIPES.values()}) == len(RECIPES)
