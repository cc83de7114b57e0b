# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be asked of the lab."""

from __future__ import annotations

import pytest

from tests.support.hosts.errors import LabError
from tests.support.hosts.plan import Address, hosts_of
from tests.support.hosts.recipe import RECIPES, Recipe


def test_hosts_get_addresses_in_their_order() -> None:
    first, second = hosts_of(["deb12=bookworm", "a=trixie"])
    assert (first.name, first.suite, first.link) == ("deb12", "bookworm", "v-deb12")
    assert first.address == Address("192.0.2.1", "2001:db8::1")
    assert second.address == Address("192.0.2.2", "2001:db8::2")


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (["deb12"], "write NAME=SUITE"),
        (["deb12=sarge"], "the suites are bullseye, bookworm, trixie"),
        (["..=bookworm"], "is no name for a host"),
        (["a=bookworm", "a=trixie"], "the name is taken"),
        (["controller=trixie"], "the name is taken"),
        ([], "0 hosts: one to"),
        ([f"h{number}=trixie" for number in range(300)], "300 hosts: one to"),
    ],
)
def test_what_it_does_not_have_is_refused(wanted: list[str], problem: str) -> None:
    with pytest.raises(LabError, match=problem):
        hosts_of(wanted)


def test_every_part_of_a_recipe_is_in_its_digest() -> None:
    recipe = Recipe("bookworm")
    others = [
        Recipe("trixie"),
        Recipe("bookworm", variant="essential"),
        Recipe("bookworm", packages=(*recipe.packages, "nftables")),
        Recipe("bookworm", hooks=recipe.hooks[:-1]),
    ]
    assert recipe.digest == Recipe("bookworm").digest
    assert len({recipe.digest, *(other.digest for other in others)}) == 5
    assert len({each.digest for each in RECIPES.values()}) == len(RECIPES)
