# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The fields of a packet that the routing rules of a namespace match."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..netlink import routes
from ..netlink.routes import Rule

_FRA_TUN_ID = 12
_BY_TOS = frozenset({routes.FRA_DSCP, routes.FRA_DSCP_MASK})
_BY_MARK = frozenset({routes.FRA_FWMARK, routes.FRA_FWMASK})
_BY_PORTS = frozenset(
    {
        routes.FRA_IP_PROTO,
        routes.FRA_SPORT_RANGE,
        routes.FRA_DPORT_RANGE,
        routes.FRA_SPORT_MASK,
        routes.FRA_DPORT_MASK,
    }
)
_BY_LABEL = frozenset({routes.FRA_FLOWLABEL, routes.FRA_FLOWLABEL_MASK})
_CONDITIONS = (
    frozenset(
        {
            routes.FRA_DST,
            routes.FRA_SRC,
            routes.FRA_IIFNAME,
            routes.FRA_OIFNAME,
            routes.FRA_UID_RANGE,
            _FRA_TUN_ID,
        }
    )
    | _BY_TOS
    | _BY_MARK
    | _BY_PORTS
    | _BY_LABEL
)
_LAST_KNOWN = routes.FRA_DSCP_MASK
_ORDINARY = frozenset({routes.TABLE_LOCAL, routes.TABLE_MAIN, routes.TABLE_DEFAULT})


class RuleDependencies(NamedTuple):
    """The fields that the rules of one family match, and that a route look-up must contain.

    unknowable: a field that sockets do not report (flow label), or an attribute that this code does
    not know. ordinary: every look-up uses the tables local, main and default in this order, and no
    other. blackhole, prohibit: a rule rejects packets with this action.
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
        """Whether addresses and device are enough for a look-up."""
        return not (self.mark or self.uid or self.tos or self.ports or self.unknowable)


def rule_dependencies(rules: Iterable[Rule], family: int) -> RuleDependencies:
    """Return the dependencies of the rules of one address family (AF_INET or AF_INET6)."""
    of_family = [rule for rule in rules if rule.family == family]
    kinds = frozenset().union(*(rule.kinds for rule in of_family))
    actions = {rule.action for rule in of_family}
    return RuleDependencies(
        source=any(rule.source_length for rule in of_family),
        mark=not kinds.isdisjoint(_BY_MARK),
        uid=routes.FRA_UID_RANGE in kinds,
        tos=not kinds.isdisjoint(_BY_TOS) or any(rule.tos for rule in of_family),
        ports=not kinds.isdisjoint(_BY_PORTS),
        unknowable=not kinds.isdisjoint(_BY_LABEL) or max(kinds, default=0) > _LAST_KNOWN,
        ordinary=_is_ordinary([rule for rule in of_family if routes.FRA_L3MDEV not in rule.kinds]),
        blackhole=routes.ACTION_BLACKHOLE in actions,
        prohibit=routes.ACTION_PROHIBIT in actions,
    )


def _is_ordinary(rules: list[Rule]) -> bool:
    """Without CONFIG_IP_MULTIPLE_TABLES there are no rules, and look-ups are ordinary."""
    return not rules or (
        rules[0].table == routes.TABLE_LOCAL
        and all(
            rule.action == routes.ACTION_TABLE
            and rule.table in _ORDINARY
            and is_unconditional(rule)
            for rule in rules
        )
    )


def is_unconditional(rule: Rule) -> bool:
    """Whether the rule applies to every packet."""
    return (
        not (rule.source_length or rule.destination_length or rule.tos)
        and rule.kinds.isdisjoint(_CONDITIONS)
        and max(rule.kinds, default=0) <= _LAST_KNOWN
    )
