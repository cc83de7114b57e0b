# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bpf_sock_destroy on the fake kernel."""

from __future__ import annotations

import os
from collections.abc import Sequence

from linuxnet_sockets.bpf.socket_destroy import (
    ITERATORS,
    KERNEL_TOO_OLD,
    NO_ITERATOR,
    NOT_FULL,
    SUPPORTED,
    UNSEEN,
    Support,
)
from linuxnet_sockets.host.namespaces import Namespace
from tests.support.fake_kernel import FakeKernel, model
from tests.support.fake_kernel.sock_diag import abort, is_time_wait

_PROTOCOLS = {"tcp": model.TCP, "udp": model.UDP}


class FakeBpf:
    """The functions of Host for engine bpf.

    support: of the protocols that have an iterator; by default the kernel is too old. refuses: the
    errno of destroy(); 0: none.
    """

    def __init__(self, kernel: FakeKernel) -> None:
        self.support = Support(KERNEL_TOO_OLD)
        self.refuses = 0
        self._kernel = kernel

    def probe(self, protocol: str) -> Support:
        return self.support if protocol in ITERATORS else Support(NO_ITERATOR)

    def destroy(
        self, namespace: Namespace, protocol: str, cookies: Sequence[int]
    ) -> dict[int, int]:
        """Abort the sockets with these cookies, as the program does (net/core/filter.c)."""
        assert self.support.verdict == SUPPORTED
        if self.refuses:
            raise OSError(self.refuses, os.strerror(self.refuses))
        space = self._kernel.namespaces[namespace.name]
        results = dict.fromkeys(cookies, UNSEEN)
        for sock in list(space.sockets):
            visited = sock.protocol == _PROTOCOLS[protocol] and sock.state != model.BOUND_INACTIVE
            if not visited or sock.cookie not in results:
                continue
            half_open = sock.state in (model.SYN_RECV, model.NEW_SYN_RECV) and not sock.inode
            if half_open or is_time_wait(sock):
                results[sock.cookie] = NOT_FULL
            elif sock.errno:
                results[sock.cookie] = -sock.errno
            else:
                results[sock.cookie] = 0
                if not sock.immortal:
                    abort(space, sock)
        return results
