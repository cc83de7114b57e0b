# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""A parsed selector: which dumps and facts it needs, and its test for sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from ..errors import Absent
from ..netlink import constants, inet_diag
from ..sockets.needs import Need
from . import kernel_filter, tree
from .kernel_filter import Filter
from .predicates.socket import Autobound, Constant, ProtocolIs
from .tree import FilterContext, Node

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot
    from ..sockets.socket import Socket

    Matches = Callable[[Socket], Optional[bool]]


class Selector:
    """A parsed selector, which is true, false or unknown (None) for each socket.

    protocols, families: those whose sockets can match. named_protocols: those that the user wrote,
    without the ones that only `not` leaves. needs: facts beyond the dump.
    extensions: bits of idiag_ext to request. kernel_decides: the kernel filter is part of the
    result, because Python cannot evaluate all of the selector.
    """

    def __init__(self, root: Node) -> None:
        self.root = root
        predicates = list(tree.predicates(root))
        self.named_protocols: frozenset[str] = frozenset().union(
            *(
                predicate.protocols
                for predicate in predicates
                if isinstance(predicate, ProtocolIs) and predicate.path
            )
        )
        self.needs: frozenset[Need] = frozenset().union(
            *(predicate.needs for predicate in predicates)
        )
        self.kernel_decides = any(isinstance(predicate, Autobound) for predicate in predicates)
        numbers = {number for predicate in predicates for number in predicate.extensions}
        self.extensions = inet_diag.extension_bits(sorted(numbers))
        self._states: dict[str, int] = {}
        families: set[str] = set()
        for protocol in constants.PROTOCOLS:
            found = {
                (family, state)
                for family in constants.FAMILIES
                for state in constants.STATES.values()
                if self._possible(protocol, family, state)
            }
            if found:
                self._states[protocol] = constants.state_mask({state for _family, state in found})
                families |= {family for family, _state in found}
        self.protocols = tuple(self._states)
        self.families = tuple(family for family in constants.FAMILIES if family in families)

    def _possible(self, protocol: str, family: str, state: int) -> bool:
        true, _false = tree.possible(
            self.root, lambda predicate: predicate.possible(protocol, family, state)
        )
        return true

    def absent(self, snapshot: Snapshot) -> list[Absent]:
        """The names in the selector that mean nothing in a snapshot, so that it cannot match."""
        return [each for node in tree.predicates(self.root) for each in node.absent(snapshot)]

    def states(self, protocol: str) -> int:
        """Return the idiag_states bits of the states in which sockets of a protocol can match."""
        return self._states.get(protocol, 0)

    def programs(
        self, snapshot: Snapshot, protocol: str, family: str, *, exact_ops: bool = True
    ) -> list[bytes]:
        """Return kernel filters that together accept at least every matching socket.

        []: no socket can match. [b""]: no filter is possible. Several: the filter was split, and
        may accept a socket twice. exact_ops: allow the ops that Linux 5.4 lacks. Raises
        BytecodeTooLong if kernel_decides, because such a filter cannot be split or widened.
        """
        accepted = self._accepted(FilterContext(snapshot, protocol, family, exact_ops))
        return kernel_filter.programs(accepted, whole=self.kernel_decides)

    def program_of_both(self, snapshot: Snapshot, protocol: str) -> bytes | None:
        """Return one kernel filter for both families; None: dump each family with its own."""
        if self.kernel_decides or len(self.families) != len(constants.FAMILIES):
            return None
        filters = [
            self._accepted(FilterContext(snapshot, protocol, name, True)) for name in self.families
        ]
        if kernel_filter.REJECT in filters:
            return None
        return kernel_filter.program_of_both(*filters)

    def _accepted(self, context: FilterContext) -> Filter:
        accepted, _rejected = tree.node_filters(self.root, context)
        return accepted

    def bind(self, snapshot: Snapshot, *, protocol: str | None = None) -> Matches:
        """Return the test for the sockets of a snapshot.

        Names of interfaces and cgroups are resolved in the snapshot. protocol: all sockets have
        this protocol, so the test does not check it.
        """

        def without_protocol(predicate: tree.Predicate) -> tree.Predicate:
            if protocol is not None and isinstance(predicate, ProtocolIs):
                return Constant(predicate.path, predicate.value, protocol in predicate.protocols)
            return predicate

        bound = tree.bind(tree.replace_predicates(self.root, without_protocol), snapshot)
        if bound is None or bound is True or bound is False:
            constant = bound
            return lambda _sock: constant
        return bound
