# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Capabilities of the kernel for this caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure, ResultWarning
from ..host.host import Host
from ..host.kernel_config import read_config
from ..messages.engines import bpf_text
from ..netlink.constants import PROTOCOLS
from ..query.capabilities import (
    BpfSupport,
    ProtocolSupport,
    bpf_support,
    may_destroy,
    support_for_caller,
)
from ..sockets.session import NamespaceSession
from .namespaces import namespaces_named
from .options import checks_options
from .task import printable_dict


@dataclass(frozen=True)
class KernelSupport:
    """The result of support.

    Attributes:
        kernel: the kernel release, as ``uname -r`` prints it.
        protocols: support for SOCK_DESTROY by protocol: ``verdict`` (``supported`` or why
            not), ``how`` (the answers that prove it), ``module``, ``module_available``, ``reason``.
        bpf: support for engine bpf by protocol: ``verdict`` (``supported`` or why not),
            ``reason`` (why it is not permitted), ``errno`` (of the system call that failed).
        kernel_config: the options of the kernel's build configuration that matter here, and where
            they were read.
        may_destroy: whether the caller has CAP_NET_ADMIN over the namespace.
        warnings: always empty.
        failures: always empty.
    """

    kernel: str
    protocols: Mapping[str, ProtocolSupport]
    bpf: Mapping[str, BpfSupport]
    kernel_config: Mapping[str, Any]
    may_destroy: bool
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    @printable_dict
    def to_dict(self) -> dict[str, Any]:
        """Return the keys of the fact ``socket_diag`` that describe the kernel."""
        return {
            "kernel": self.kernel,
            "support": {name: found._asdict() for name, found in self.protocols.items()},
            "bpf": {
                name: {
                    "verdict": found.verdict,
                    "reason": found.reason,
                    "how": bpf_text(*found),
                }
                for name, found in self.bpf.items()
            },
            "kernel_config": dict(self.kernel_config),
            "may_destroy": self.may_destroy,
        }


def bpf_support_by_protocol(host: Host) -> dict[str, BpfSupport]:
    """Support for engine bpf, which is the same in all network namespaces."""
    return {protocol: bpf_support(host, protocol) for protocol in PROTOCOLS}


@checks_options
def support(*, namespace: str = "current", host: Host | None = None) -> KernelSupport:
    """Report which sockets the kernel can list and destroy for this caller. It changes nothing.

    Example::

        if api.support().protocols["tcp"].verdict != "supported":
            print("use engine: auto")

    Args:
        namespace: the network namespace to ask in; ``all`` asks in the first one.
        host: the machine to ask; the default is this one.

    Returns:
        KernelSupport: support by protocol.

    Raises:
        InputError: ``namespace`` is not a name.
        NamespaceNotFound, NamespaceDenied: the namespace does not exist or cannot be entered.
        NetlinkError, NetlinkTimeout: the kernel did not answer as it should.
    """
    host = host or Host()
    with NamespaceSession(host, namespaces_named(host, [namespace])[0]) as session:
        return KernelSupport(
            kernel=host.release,
            protocols=support_for_caller(session),
            bpf=bpf_support_by_protocol(host),
            kernel_config=read_config(host.proc, host.root, host.release)._asdict(),
            may_destroy=may_destroy(session),
        )
