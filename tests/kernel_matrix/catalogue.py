# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels on which the core is tested: their packages, machines and tests."""

from __future__ import annotations

from typing import NamedTuple

# Debian suite of the guests' user space. Python packages are fetched for its Python (image.py).
GUEST_SUITE = "trixie"
GUEST_PYTHON = "3.13"


# Effect of SOCK_DESTROY, on kernels that support it.
_DESTROY = ("tests/kernel/test_states.py", "tests/kernel/test_errno.py")
# Capabilities that the core reports, on any kernel.
_ANY = ("tests/kernel/test_support_comes_true.py",)
# The pidfd engine. A kernel without SOCK_DESTROY runs all of its tests.
_PIDFD = ("tests/kernel/test_pidfd.py",)
_ALL_PIDFD = _PIDFD + tuple(
    f"tests/kernel/test_pidfd_{name}.py" for name in ("races", "holders", "mptcp")
)
_ALL = _DESTROY + _ANY + _PIDFD
# Agent tests that set the clock, suspend the machine or cut its power, on the kernels of the
# supported distributions. Only a guest allows this. Emulation is slow, so the other agent tests do
# not run here.
_AGENT = tuple(
    f"tests/kernel/agent/test_{name}.py"
    for name in ("monitor", "clock_steps", "sleep", "before_reboot")
)
_AFTER_REBOOT = ("tests/kernel/agent/test_after_reboot.py",)


class Kernel(NamedTuple):
    """One kernel and its tests in one guest.

    name: its name on the command line.
    suites: Debian suites in order of preference.
    package: regular expression for the full package name; the newest match is used.
    machine: `qemu` or `uml` (user-mode-linux).
    tests: arguments of pytest. after_reboot: arguments of pytest for a second start, after a power
    cut, with the same disk.
    """

    name: str
    suites: tuple[str, ...]
    package: str
    machine: str
    tests: tuple[str, ...]
    after_reboot: tuple[str, ...] = ()


_CLOUD = r"linux-image-\d[\w.~+-]*-cloud-amd64"
# Newer packages are metapackages that depend on these parts.
PARTS = r"linux-(binary|modules)-"

KERNELS = (
    Kernel("5.10", ("bullseye",), _CLOUD, "qemu", _ALL),
    Kernel("6.1", ("bookworm",), _CLOUD, "qemu", _ALL),
    Kernel("6.1-agent", ("bookworm",), _CLOUD, "qemu", _AGENT, _AFTER_REBOOT),
    Kernel("6.12", ("trixie",), _CLOUD, "qemu", _ALL),
    Kernel("6.12-agent", ("trixie",), _CLOUD, "qemu", _AGENT, _AFTER_REBOOT),
    Kernel("newest", ("sid", "forky", "trixie-backports"), _CLOUD, "qemu", _ALL),
    # Built without CONFIG_INET_DIAG_DESTROY; only the pidfd engine works.
    Kernel("uml", ("sid", "forky"), "user-mode-linux", "uml", _ANY + _ALL_PIDFD),
)
