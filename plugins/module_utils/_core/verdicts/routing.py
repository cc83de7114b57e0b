# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what the routing rules of a namespace look at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..wire import fib
from ..wire.fib import Rule

_FRA_TUN_ID = 12
_BY_TOS = frozenset({fib.FRA_DSCP, fib.FRA_DSCP_MASK})
_BY_MARK = frozenset({fib.FRA_FWMARK, fib.FRA_FWMASK})
_BY_PORTS = frozenset(
    {
        fib.FRA_IP_PROTO,
        fib.FRA_SPORT_RANGE,
        fib.FRA_DPORT_RANGE,
        fib.FRA_SPORT_MASK,
        fib.FRA_DPORT_MASK,
    }
)
_BY_LABEL = frozenset({fib.FRA_FLOWLABEL, fib.FRA_FLOWLABEL_MASK})
_CONDITIONS = (
    frozenset(
        {
            fib.FRA_DST,
            fib.FRA_SRC,
            fib.FRA_IIFNAME,
            fib.FRA_OIFNAME,
            fib.FRA_UID_RANGE,
            _FRA_TUN_ID,
        }
    )
    | _BY_TOS
    | _BY_MARK
    | _BY_PORTS
    | _BY_LABEL
)
_LAST_KNOWN = fib.FRA_DSCP_MASK
_ORDINARY = frozenset({fib.TABLE_LOCAL, fib.TABLE_MAIN, fib.TABLE_DEFAULT})


class Needs(NamedTuple):
    """What the rules of one family look at, so what a question has to say.

    unknowable: something that no socket tells of itself (a flow label), or that is newer than this
    code. ordinary: every look-up asks the local table first, then main and default, and no other.
    blackhole, prohibit: a rule refuses packets so.
    """

    source: bool = False
    mark: bool = False
    uid: bool = False
    tos: bool = False
    ports: bool = False
    unknowable: bool = False
    ordinary: bool = True
    blackhole: bool = False
    prohibit: bool = False

    @property
    def only_addresses(self) -> bool:
        """A socket's two addresses and its device say all that matters."""
        return not (self.mark or self.uid or self.tos or self.ports or self.unknowable)


def needs(rules: Iterable[Rule], family: int) -> Needs:
    mine = [rule for rule in rules if rule.family == family]
    kinds = frozenset().union(*(rule.kinds for rule in mine))
    actions = {rule.action for rule in mine}
    return Needs(
        source=any(rule.source_length for rule in mine),
        mark=not kinds.isdisjoint(_BY_MARK),
        uid=fib.FRA_UID_RANGE in kinds,
        tos=not kinds.isdisjoint(_BY_TOS) or any(rule.tos for rule in mine),
        ports=not kinds.isdisjoint(_BY_PORTS),
        unknowable=not kinds.isdisjoint(_BY_LABEL) or max(kinds, default=0) > _LAST_KNOWN,
        ordinary=_is_ordinary([rule for rule in mine if fib.FRA_L3MDEV not in rule.kinds]),
        blackhole=fib.ACTION_BLACKHOLE in actions,
        prohibit=fib.ACTION_PROHIBIT in actions,
    )


def _is_ordinary(rules: list[Rule]) -> bool:
    """No rule at all: a kernel without CONFIG_IP_MULTIPLE_TABLES, which does just that."""
    return not rules or (
        rules[0].table == fib.TABLE_LOCAL
        and all(rule.table in _ORDINARY and _is_unconditional(rule) for rule in rules)
    )


def _is_unconditional(rule: Rule) -> bool:
    return (
        rule.action == fib.ACTION_TABLE
        and not (rule.source_length or rule.destination_length or rule.tos)
        and rule.kinds.isdisjoint(_CONDITIONS)
        and max(rule.kinds, default=0) <= _LAST_KNOWN
    )
