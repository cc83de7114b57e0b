# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether /proc shows all processes, on a fake /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from linuxnet_sockets.host.proc_visibility import hidden_processes_reason

KTHREADD = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0\n"
# CAP_NET_ADMIN alone, and all capabilities.
NET_ADMIN, ALL = "0000000000001000", "000001ffffffffff"
ALL_IDS, MAPPED_ROOT = "0 0 4294967295", "0 1000 1"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "self").mkdir()
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "stat").write_text(KTHREADD)
    return tmp_path


def _reason(
    proc: Path, options: str, capabilities: str = NET_ADMIN, ids: str = ALL_IDS
) -> str | None:
    (proc / "self" / "mountinfo").write_bytes(
        b"20 1 0:20 / / rw - ext4 /dev/\xff rw\n"
        + f"22 27 0:21 / {proc} rw,relatime shared:7 - proc proc {options}\n".encode()
        + f"23 22 0:22 / {proc}/sys ro - proc proc rw,hidepid=2\n".encode()
    )
    (proc / "self" / "status").write_text(f"Name:\tapp\nCapEff:\t{capabilities}\n")
    (proc / "self" / "uid_map").write_text(f"         {ids}\n")
    return hidden_processes_reason(str(proc))


@pytest.mark.parametrize("options", ["rw", "rw,hidepid=0", "rw,hidepid=off"])
def test_all_processes_shown(proc: Path, options: str) -> None:
    assert _reason(proc, options) is None


@pytest.mark.parametrize("value", ["1", "2", "4", "noaccess", "invisible", "ptraceable"])
def test_hidepid_hides_processes(proc: Path, value: str) -> None:
    options = f"rw,gid=10,hidepid={value}"
    assert f"hidepid={value}" in str(_reason(proc, options))
    # Root of a user namespace may not trace processes outside it.
    assert _reason(proc, options, ALL, MAPPED_ROOT)
    assert _reason(proc, options, ALL) is None


def test_subset_hides_processes(proc: Path) -> None:
    assert "subset=pid" in str(_reason(proc, "rw,subset=pid", ALL))


@pytest.mark.parametrize("stat", [None, "2 (kthreadd) S 1 0 0 0 -1 4194560 0 0\n"])
def test_pid_namespace_hides_processes(proc: Path, stat: str | None) -> None:
    """Only the initial PID namespace has kernel threads, whatever a process calls itself."""
    (proc / "2" / "stat").unlink()
    if stat is not None:
        (proc / "2" / "stat").write_text(stat)
    assert "PID namespace" in str(_reason(proc, "rw", ALL))


def test_proc_of_other_pid_namespace(tmp_path: Path) -> None:
    """The link `self` of such a procfs leads nowhere."""
    assert hidden_processes_reason(str(tmp_path)) is None
    (tmp_path / "self").symlink_to("gone")
    assert hidden_processes_reason(str(tmp_path)) is not None
