# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Why an engine cannot be used, in words."""

from __future__ import annotations

import os

from ..text import printable

_BPF = {
    "supported": "the kernel supports bpf_sock_destroy",
    "no_iterator": "the kernel has no iterator for sockets of the protocol",
    "no_btf": "the kernel was built without CONFIG_DEBUG_INFO_BTF",
    "btf_unreadable": "the kernel's types in /sys/kernel/btf/vmlinux cannot be read",
    "kernel_too_old": "the kernel has no bpf_sock_destroy, which is in Linux 6.5 and later",
    "no_system_call": "the kernel or this architecture does not have the system call bpf",
    "not_permitted": "the kernel does not permit BPF programs",
    "rejected": "the kernel rejected the BPF program",
}
_BPF_REASONS = {
    "no_capability": "the caller lacks CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN",
    "foreign_user_namespace": "the caller's capabilities are those of a user namespace",
    "lockdown": "the kernel is locked down for confidentiality",
    "security_policy": "a seccomp filter or a security module forbids it",
}


def bpf_text(verdict: str, reason: str | None = None, errno: int = 0) -> str:
    """Why engine bpf can or cannot destroy sockets, as a phrase.

    verdict, reason: of query.capabilities.BpfSupport. errno: of the call that failed; 0: none.
    """
    text = _BPF[verdict]
    if reason is not None:
        return f"{text}: {_BPF_REASONS[reason]}"
    return printable(f"{text}: {os.strerror(errno)}") if errno else text
