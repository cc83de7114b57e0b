# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capabilities of a kernel and a caller, from the kernel's answers alone."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from linuxnet_sockets.bpf import socket_destroy
from linuxnet_sockets.bpf.socket_destroy import Support
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.namespaces import Namespace
from linuxnet_sockets.messages.engines import bpf_text
from linuxnet_sockets.netlink import constants
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.support.fake_kernel import Abilities, FakeKernel, FakeSocket
from tests.support.fake_kernel.bytecode import CGROUP_COND

_EVERY = frozenset({6, 17, 136, 255, 262})


def _session(abilities: Abilities, proc: str = "/proc") -> NamespaceSession:
    kernel = FakeKernel(abilities)
    kernel.current.add(
        FakeSocket(local="0.0.0.0", local_port=22, state=10),
        FakeSocket(protocol=17, local="0.0.0.0", local_port=53, state=7),
        FakeSocket(protocol=136, local="0.0.0.0", local_port=53, state=7),
        FakeSocket(protocol=255, raw_protocol=1, local="0.0.0.0", state=7),
        FakeSocket(protocol=262, local="0.0.0.0", local_port=22, state=10),
    )
    host = Host(open_netlink=kernel.open, release="6.12.0", proc=proc)
    return NamespaceSession(host, Namespace("current", None, kernel.current.identity))


def _verdicts(abilities: Abilities) -> dict[str, str]:
    with _session(abilities) as session:
        before = list(_kernel(session).current.sockets)
        found = {name: answer.verdict for name, answer in capabilities.support(session).items()}
        assert _kernel(session).current.sockets == before
    return found


def _kernel(session: NamespaceSession) -> FakeKernel:
    owner = session.host.open_netlink.__self__  # type: ignore[attr-defined]
    assert isinstance(owner, FakeKernel)
    return owner


def test_kernel_with_all_handlers() -> None:
    assert _verdicts(Abilities(handlers=_EVERY)) == {
        "tcp": capabilities.SUPPORTED,
        "udp": capabilities.SUPPORTED,
        # The probe returns ENOENT, as for protocols that can be destroyed.
        "udplite": capabilities.NO_DESTROY_HANDLER,
        # It may destroy another socket than the selected one.
        "raw": capabilities.NO_COOKIE_CHECK,
        "mptcp": capabilities.NO_DESTROY_HANDLER,
    }


def test_kernel_built_without_destroy() -> None:
    assert set(_verdicts(Abilities(handlers=_EVERY, destroys=False)).values()) == {
        capabilities.BUILT_WITHOUT
    }


@pytest.mark.parametrize(("number", "name"), [(6, "tcp"), (255, "raw"), (262, "mptcp")])
def test_missing_handler_is_distinct_from_a_missing_socket(number: int, name: str) -> None:
    with _session(Abilities(handlers=_EVERY - {number})) as session:
        found = capabilities.support(session)
    missing = [
        protocol
        for protocol, answer in found.items()
        if answer.verdict == capabilities.HANDLER_MISSING
    ]
    assert missing == [name]
    assert found[name].module == constants.DIAG_MODULES[name]


def test_missing_protocol_is_distinct_from_a_module_to_load() -> None:
    with _session(Abilities(handlers=_EVERY - {136})) as session:
        alone = capabilities.support(session)["udplite"]
    assert (alone.verdict, alone.module) == (capabilities.PROTOCOL_MISSING, None)
    with _session(Abilities(handlers=_EVERY - {136, 17})) as session:
        both = capabilities.support(session)
    assert {both[name].verdict for name in ("udp", "udplite")} == {capabilities.HANDLER_MISSING}
    assert both["udplite"].module == "udp_diag"


def test_old_kernel_without_mptcp() -> None:
    found = _verdicts(Abilities(protocol_attribute=False, unknown_ops=frozenset({CGROUP_COND})))
    assert found["mptcp"] == capabilities.HANDLER_MISSING
    assert found["tcp"] == capabilities.SUPPORTED


@pytest.mark.parametrize("privileged", [True, False])
def test_privilege_of_the_caller(privileged: bool) -> None:
    with _session(Abilities(privileged=privileged)) as session:
        assert capabilities.may_destroy(session) is privileged
        verdicts = {
            name: answer.verdict
            for name, answer in capabilities.support_for_caller(session).items()
        }
    assert (verdicts["tcp"] == capabilities.NOT_PERMITTED) is not privileged
    assert verdicts["mptcp"] == capabilities.NO_DESTROY_HANDLER


_EVERYTHING, _NOTHING = "000001ffffffffff", "0000000000000000"


def _for_caller(
    proc: Path, effective: str | None, *, privileged: bool, destroys: bool = True
) -> dict[str, tuple[str, str | None]]:
    """Verdict and reason by protocol, for a caller with these effective capabilities."""
    (proc / "self").mkdir(parents=True)
    if effective is not None:
        (proc / "self" / "status").write_text(f"Name:\tpython3\nCapEff:\t{effective}\n")
    abilities = Abilities(handlers=_EVERY, privileged=privileged, destroys=destroys)
    with _session(abilities, proc=str(proc)) as session:
        return {
            name: (answer.verdict, answer.reason)
            for name, answer in capabilities.support_for_caller(session).items()
        }


def test_three_causes_have_three_verdicts(tmp_path: Path) -> None:
    unprivileged = _for_caller(tmp_path / "a", _NOTHING, privileged=False)
    foreign = _for_caller(tmp_path / "b", _EVERYTHING, privileged=False)
    built_without = _for_caller(tmp_path / "c", _EVERYTHING, privileged=True, destroys=False)

    assert unprivileged["tcp"] == (capabilities.NOT_PERMITTED, capabilities.NO_CAPABILITY)
    assert foreign["tcp"] == (capabilities.NOT_PERMITTED, capabilities.FOREIGN_USER_NAMESPACE)
    assert built_without["tcp"] == (capabilities.BUILT_WITHOUT, None)
    answers = (unprivileged, foreign, built_without)
    assert len({answer["udp"] for answer in answers}) == 3
    assert capabilities.SUPPORTED not in {
        verdict for answer in answers for verdict, _reason in answer.values()
    }


def test_kernel_without_destroy_is_not_a_lack_of_privilege(tmp_path: Path) -> None:
    found = _for_caller(tmp_path, _NOTHING, privileged=False, destroys=False)
    assert set(found.values()) == {(capabilities.BUILT_WITHOUT, None)}


@pytest.mark.parametrize("effective", [None, "", "what"])
def test_unknown_capabilities_give_no_reason(tmp_path: Path, effective: str | None) -> None:
    found = _for_caller(tmp_path, effective, privileged=False)
    assert found["tcp"] == (capabilities.NOT_PERMITTED, None)


def test_privilege_is_known_without_any_handler() -> None:
    with _session(Abilities(handlers=frozenset())) as session:
        assert capabilities.may_destroy(session)
        found = {answer.verdict for answer in capabilities.support_for_caller(session).values()}
    assert found == {capabilities.HANDLER_MISSING}


# Engine bpf.


def bpf_host(tmp_path: Path, capabilities_held: int, uid_map: str, lockdown: str | None) -> Host:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"CapEff:\t{capabilities_held:016x}\n")
    (tmp_path / "self/uid_map").write_text(uid_map)
    if lockdown is not None:
        file = tmp_path / "sys/kernel/security/lockdown"
        file.parent.mkdir(parents=True)
        file.write_text(lockdown)
    return Host(
        proc=str(tmp_path),
        root=str(tmp_path),
        probe_bpf=lambda _protocol: Support(socket_destroy.NOT_PERMITTED, errno.EPERM),
    )


ALL_IDS = "         0          0 4294967295\n"
BPF, PERFMON, ADMIN = 1 << 39, 1 << 38, 1 << 21


@pytest.mark.parametrize(
    ("held", "uid_map", "lockdown", "reason"),
    [
        (0, ALL_IDS, None, "no_capability"),
        (BPF, ALL_IDS, None, "no_capability"),
        (PERFMON, ALL_IDS, None, "no_capability"),
        (BPF | PERFMON, "0 1000 1\n", None, "foreign_user_namespace"),
        (ADMIN, ALL_IDS, "none integrity [confidentiality]\n", "lockdown"),
        (ADMIN, ALL_IDS, "none [integrity] confidentiality\n", "security_policy"),
        (BPF | PERFMON, ALL_IDS, None, "security_policy"),
    ],
)
def test_reason_why_bpf_is_not_permitted(
    tmp_path: Path, held: int, uid_map: str, lockdown: str | None, reason: str
) -> None:
    host = bpf_host(tmp_path, held, uid_map, lockdown)
    found = capabilities.bpf_support(host, "tcp")
    assert found == ("not_permitted", reason, errno.EPERM)
    assert bpf_text(*found).startswith("the kernel does not permit BPF programs: ")


@pytest.mark.parametrize(
    "verdict",
    [
        socket_destroy.SUPPORTED,
        socket_destroy.NO_BTF,
        socket_destroy.BTF_UNREADABLE,
        socket_destroy.KERNEL_TOO_OLD,
        socket_destroy.NO_SYSTEM_CALL,
        socket_destroy.REJECTED,
        socket_destroy.NO_ITERATOR,
    ],
)
def test_bpf_verdict_has_a_text(verdict: str) -> None:
    host = Host(probe_bpf=lambda _protocol: Support(verdict, errno.EINVAL))
    found = capabilities.bpf_support(host, "tcp")
    assert found == (verdict, None, errno.EINVAL)
    assert bpf_text(*found).endswith("Invalid argument")
