# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""What SOCK_DESTROY and bpf_sock_destroy can do on this kernel for this caller, by probing."""

from __future__ import annotations

import errno
import socket
from typing import NamedTuple

from ..bpf import socket_destroy
from ..errors import HandlerMissing, NetlinkError
from ..host.host import Host
from ..host.kernel_config import module_available
from ..netlink import bytecode, constants, inet_diag
from ..sockets.session import NamespaceSession

SUPPORTED = "supported"
BUILT_WITHOUT = "built_without"
NO_DESTROY_HANDLER = "no_destroy_handler"
HANDLER_MISSING = "handler_missing"
PROTOCOL_MISSING = "protocol_missing"
NO_COOKIE_CHECK = "no_cookie_check"
NOT_PERMITTED = "not_permitted"

# Reasons for NOT_PERMITTED.
NO_CAPABILITY = "no_capability"
FOREIGN_USER_NAMESPACE = "foreign_user_namespace"
LOCKDOWN = "lockdown"
SECURITY_POLICY = "security_policy"

# include/uapi/linux/capability.h
CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21
CAP_PERFMON = 38
CAP_BPF = 39

_LOCKDOWN_FILE = "/sys/kernel/security/lockdown"

# Their handler looks the socket up, but its proto has no diag_destroy (sock_diag_destroy,
# net/ipv4/udplite.c). The probe finds no socket, so it never gets that EOPNOTSUPP.
_WITHOUT_ABORT = frozenset({"udplite"})

# Their handler takes the first socket with the addresses and does not compare the cookie
# (raw_diag_destroy), so it may destroy another socket than the selected one.
_WITHOUT_COOKIE = frozenset({"raw"})


class ProtocolSupport(NamedTuple):
    """What SOCK_DESTROY can do to the sockets of a protocol.

    verdict:
        supported;
        built_without: no CONFIG_INET_DIAG_DESTROY;
        no_destroy_handler: the protocol has none in any configuration;
        no_cookie_check: the kernel may destroy another socket, so engine netlink declines;
        handler_missing: the sockets cannot be listed; `module` has the handler;
        protocol_missing: the handler's module is loaded, and this kernel has no such protocol;
        not_permitted: the kernel can, this caller may not.
    how: the answers of the kernel that prove it. module_available: whether the modules of this
    kernel include `module`; None: unknown. reason: of not_permitted: no_capability or
    foreign_user_namespace; None: unknown.
    """

    verdict: str
    how: str
    module: str | None = None
    module_available: bool | None = None
    reason: str | None = None


def support(session: NamespaceSession) -> dict[str, ProtocolSupport]:
    """Probe the kernel for each protocol. Changes nothing; needs no privileges."""
    found: dict[str, ProtocolSupport] = {}
    destroyers: set[str] = set()
    for protocol in constants.PROTOCOLS:
        found[protocol] = verdict = _protocol(session, protocol)
        if verdict.verdict not in (BUILT_WITHOUT, HANDLER_MISSING):
            destroyers.add(protocol)
    _mark_missing_protocols(found)
    # One option builds the handlers of all protocols. If one can destroy, the configuration is not
    # the reason why another cannot.
    if destroyers:
        for protocol, verdict in found.items():
            if verdict.verdict == BUILT_WITHOUT:
                found[protocol] = verdict._replace(verdict=NO_DESTROY_HANDLER)
    return found


def _mark_missing_protocols(found: dict[str, ProtocolSupport]) -> None:
    """A loaded diag module has the handlers of all its protocols that the kernel has."""
    loaded = {
        constants.DIAG_MODULES[protocol]: protocol
        for protocol, verdict in found.items()
        if verdict.verdict != HANDLER_MISSING
    }
    for protocol, verdict in found.items():
        sibling = loaded.get(verdict.module or "")
        if verdict.verdict == HANDLER_MISSING and sibling is not None:
            found[protocol] = ProtocolSupport(
                PROTOCOL_MISSING,
                f"a dump ends with ENOENT, though {verdict.module} answers for {sibling}: "
                f"this kernel has no {protocol}",
            )


def _protocol(session: NamespaceSession, protocol: str) -> ProtocolSupport:
    listed = _can_list(session, protocol)
    if not listed:
        host = session.host
        module = constants.DIAG_MODULES[protocol]
        return ProtocolSupport(
            HANDLER_MISSING,
            "a dump ends with ENOENT",
            module,
            module_available(host.root, host.release, module),
        )
    answer = inet_diag.probe_destroy(session.diag, protocol, socket.AF_INET)
    if answer in (0, errno.ENOENT):
        if protocol in _WITHOUT_ABORT:
            return ProtocolSupport(
                NO_DESTROY_HANDLER, "there is a handler, but a socket found is not aborted"
            )
        if protocol in _WITHOUT_COOKIE:
            return ProtocolSupport(
                NO_COOKIE_CHECK,
                "destroying no socket is answered with ENOENT, but the handler takes the first "
                "socket that the addresses fit, whatever its cookie",
            )
        return ProtocolSupport(SUPPORTED, "destroying no socket is answered with ENOENT")
    if answer == errno.EOPNOTSUPP:
        return ProtocolSupport(BUILT_WITHOUT, "destroying no socket is answered with EOPNOTSUPP")
    raise NetlinkError(f"ask whether {protocol} sockets can be destroyed", answer)


def support_for_caller(session: NamespaceSession) -> dict[str, ProtocolSupport]:
    """As support, but with verdict not_permitted if the kernel can and this caller may not."""
    found = support(session)
    if may_destroy(session):
        return found
    how = "a filter by mark is answered with EPERM"
    capable = has_capability(session.host, CAP_NET_ADMIN)
    reason = None
    if capable:
        reason = FOREIGN_USER_NAMESPACE
        how += ", and the caller's user namespace does not own the network namespace"
    elif capable is not None:
        reason = NO_CAPABILITY
        how += ", and the caller has no CAP_NET_ADMIN"
    return {
        protocol: verdict._replace(verdict=NOT_PERMITTED, reason=reason, how=how)
        if verdict.verdict == SUPPORTED
        else verdict
        for protocol, verdict in found.items()
    }


class BpfSupport(NamedTuple):
    """What bpf_sock_destroy can do to the sockets of a protocol.

    verdict: of bpf.socket_destroy.Support. reason: of not_permitted: no_capability,
    foreign_user_namespace, lockdown or security_policy; None for other verdicts. errno: of the
    system call that failed; 0: none.
    """

    verdict: str
    reason: str | None = None
    errno: int = 0


def bpf_support(host: Host, protocol: str) -> BpfSupport:
    """Load the program of engine bpf for a protocol and unload it. Changes nothing."""
    found = host.probe_bpf(protocol)
    if found.verdict != socket_destroy.NOT_PERMITTED:
        return BpfSupport(found.verdict, None, found.errno)
    held = {
        number: has_capability(host, number) for number in (CAP_SYS_ADMIN, CAP_BPF, CAP_PERFMON)
    }
    if not held[CAP_SYS_ADMIN] and not (held[CAP_BPF] and held[CAP_PERFMON]):
        reason = NO_CAPABILITY
    elif not _in_first_user_namespace(host):
        reason = FOREIGN_USER_NAMESPACE
    elif _is_locked_down(host):
        reason = LOCKDOWN
    else:
        reason = SECURITY_POLICY
    return BpfSupport(found.verdict, reason, found.errno)


def _in_first_user_namespace(host: Host) -> bool:
    """Whether the user namespace maps all user ids to themselves, as only the first one does."""
    try:
        with open(f"{host.proc}/self/uid_map", encoding="ascii") as file:
            return file.read().split() == ["0", "0", "4294967295"]
    except (OSError, ValueError):
        return True


def _is_locked_down(host: Host) -> bool:
    """Whether kernel_lockdown(7) is in its mode confidentiality."""
    try:
        with open(f"{host.root}{_LOCKDOWN_FILE}", encoding="ascii") as file:
            return "[confidentiality]" in file.read()
    except (OSError, ValueError):
        return False


def has_capability(host: Host, capability: int) -> bool | None:
    """Whether this process has a capability in its effective set, in its own user namespace.

    None: /proc/self/status is unreadable.
    """
    try:
        with open(f"{host.proc}/self/status", encoding="ascii", errors="replace") as lines:
            for line in lines:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> capability & 1)
    except (OSError, ValueError, IndexError):
        return None
    return None


def _can_list(session: NamespaceSession, protocol: str) -> bool:
    try:
        # With a state mask of zero, the handler answers without any socket.
        inet_diag.dump(session.diag, protocol, socket.AF_INET, states=0)
    except HandlerMissing:
        return False
    return True


def may_destroy(session: NamespaceSession) -> bool:
    """Whether the caller has CAP_NET_ADMIN in the user namespace that owns the network namespace.

    The kernel requires the same of a filter by mark as of SOCK_DESTROY
    (netlink_net_capable(CAP_NET_ADMIN); inet_diag_bc_audit). Raises NetlinkError.
    """
    try:
        inet_diag.dump(session.diag, "tcp", socket.AF_INET, states=0, bytecode=bytecode.mark(0, 0))
    except NetlinkError as error:
        if error.errno == errno.EPERM:
            return False
        raise
    except HandlerMissing:
        # The kernel checks the filter before it looks for the handler.
        return True
    return True
