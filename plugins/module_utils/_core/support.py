# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what this kernel can do for this caller, found by asking it."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from . import vocabulary
from .errors import HandlerMissing, NetlinkError
from .look import View
from .wire import bytecode, inet_diag

SUPPORTED = "supported"
BUILT_WITHOUT = "built_without"
NO_DESTROY_HANDLER = "no_destroy_handler"
HANDLER_MISSING = "handler_missing"

# The module that brings a protocol's diag handler, and the option that it is built by
# (net/ipv4/Kconfig, net/mptcp/Kconfig).
MODULES = {
    "tcp": "tcp_diag",
    "udp": "udp_diag",
    "udplite": "udp_diag",
    "raw": "raw_diag",
    "mptcp": "mptcp_diag",
}


class ProtocolSupport(NamedTuple):
    """What SOCK_DESTROY can do to one protocol's sockets.

    verdict: supported; built_without (no CONFIG_INET_DIAG_DESTROY); no_destroy_handler (the
    protocol has none, whatever the configuration); handler_missing (its sockets cannot even be
    listed: `module` would bring the handler). how: the answers that say so.
    """

    verdict: str
    how: str
    module: str | None


def support(view: View) -> dict[str, ProtocolSupport]:
    """The verdict for every protocol. Harmless, and open to every caller."""
    found: dict[str, ProtocolSupport] = {}
    destroyers: set[str] = set()
    for protocol in vocabulary.PROTOCOLS:
        found[protocol] = verdict = _protocol(view, protocol)
        if verdict.verdict == SUPPORTED:
            destroyers.add(protocol)
    # One option builds every protocol's handler: where one can destroy, another that cannot was
    # not left out by the configuration.
    if destroyers:
        for protocol, verdict in found.items():
            if verdict.verdict == BUILT_WITHOUT:
                found[protocol] = verdict._replace(verdict=NO_DESTROY_HANDLER)
    return found


def _protocol(view: View, protocol: str) -> ProtocolSupport:
    listed = _can_list(view, protocol)
    if not listed:
        return ProtocolSupport(HANDLER_MISSING, "a dump ends with ENOENT", MODULES[protocol])
    answer = inet_diag.probe_destroy(view.diag, protocol, socket.AF_INET)
    if answer in (0, errno.ENOENT):
        return ProtocolSupport(SUPPORTED, "destroying no socket is answered with ENOENT", None)
    if answer == errno.EOPNOTSUPP:
        return ProtocolSupport(
            BUILT_WITHOUT, "destroying no socket is answered with EOPNOTSUPP", None
        )
    raise NetlinkError(f"ask whether {protocol} sockets can be destroyed", answer)


def _can_list(view: View, protocol: str) -> bool:
    try:
        # A state mask of zero: the handler answers, and no socket comes.
        inet_diag.dump(view.diag, protocol, socket.AF_INET, states=0)
    except HandlerMissing:
        return False
    return True


def may_destroy(view: View) -> bool:
    """Whether the caller has CAP_NET_ADMIN in the user namespace that owns the network namespace.

    The kernel lets a filter test marks under just the condition under which it lets a caller
    destroy (netlink_net_capable(CAP_NET_ADMIN); inet_diag_bc_audit).
    """
    try:
        inet_diag.dump(view.diag, "tcp", socket.AF_INET, states=0, bytecode=bytecode.mark(0, 0))
    except NetlinkError as error:
        if error.errno == errno.EPERM:
            return False
        raise
    return True
