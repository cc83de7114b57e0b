# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: a parsed selector, and what others may ask of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Optional

from ..netlink import constants, inet_diag
from ..sockets.needs import Need
from . import kernel_filter, tree
from .kernel_filter import Filter
from .predicates.socket import Autobound, Constant, ProtocolIs
from .tree import Node, Target

if TYPE_CHECKING:
    from ..sockets.snapshot import Snapshot
    from ..sockets.socket import Socket

    Matches = Callable[[Socket], Optional[bool]]


class Selector:
    """Which sockets are meant: true, false or unknown (None) for each.

    protocols, families: those of which a socket can match at all. named_protocols: those that the
    user wrote, as against what `not` leaves. needs: facts beyond the
    dump. extensions: bits of idiag_ext that a dump must ask for.
    kernel_decides: a match must have passed the kernel's filter, since Python cannot test all
    of it.
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

    def states(self, protocol: str) -> int:
        """The idiag_states bits of the states in which a socket of the protocol can match."""
        return self._states.get(protocol, 0)

    def programs(
        self, snapshot: Snapshot, protocol: str, family: str, *, exact_ops: bool = True
    ) -> list[bytes]:
        """Kernel filters of which each matching socket is accepted by one at least.

        []: nothing can match. [b""]: nothing to filter by. Several: too long for one, or split; the
        same socket may be accepted by more than one. exact_ops False: without the ops that
        Linux 5.4 does not know. Raises BytecodeTooLong with autobound, which Python cannot test.
        """
        accepted = self._accepted(Target(snapshot, protocol, family, exact_ops))
        return kernel_filter.programs(accepted, whole=self.kernel_decides)

    def program_of_both(self, snapshot: Snapshot, protocol: str) -> bytes | None:
        """One kernel filter for both families; None where a family has its own, or needs none."""
        if self.kernel_decides or len(self.families) != len(constants.FAMILIES):
            return None
        each = [self._accepted(Target(snapshot, protocol, name, True)) for name in self.families]
        if kernel_filter.REJECT in each:
            return None
        return kernel_filter.program_of_both(*each)

    def _accepted(self, target: Target) -> Filter:
        accepted, _rejected = tree.node_filters(self.root, target)
        return accepted

    def bind(self, snapshot: Snapshot, *, protocol: str | None = None) -> Matches:
        """The test of one look: names of interfaces and cgroups mean what they mean now.

        protocol: the test is for its sockets alone, and need not ask each for it.
        """

        def settled(predicate: tree.Predicate) -> tree.Predicate:
            if protocol is not None and isinstance(predicate, ProtocolIs):
                return Constant(predicate.path, predicate.value, protocol in predicate.protocols)
            return predicate

        bound = tree.bind(tree.replaced(self.root, settled), snapshot)
        if bound is None or bound is True or bound is False:
            constant = bound
            return lambda _subject: constant
        return bound
