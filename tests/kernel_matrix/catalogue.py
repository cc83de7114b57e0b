# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernels that the core is tried on: where each comes from, how it is started."""

from __future__ import annotations

from typing import NamedTuple

# Whose user space the guests run, whatever their kernel; its Python is what the guest's packages
# are fetched for (image.py).
GUEST_SUITE = "trixie"
GUEST_PYTHON = "3.13"


# What destroying does, on any kernel that can do it ...
_DESTROYING = ("tests/kernel/test_states.py", "tests/kernel/test_errno.py")
# ... and what the core makes of any kernel.
_ANY = ("tests/kernel/test_support_comes_true.py",)
# The way without SOCK_DESTROY, all of it where there is no other.
_ALSO_BORROWING = ("tests/kernel/test_pidfd.py",)
_BORROWING = _ALSO_BORROWING + tuple(
    f"tests/kernel/test_pidfd_{each}.py" for each in ("races", "holders", "mptcp")
)
_ALL = _DESTROYING + _ANY + _ALSO_BORROWING
# The agent, on the kernels of the systems for which its service is promised: what becomes of its
# promises when the clock is set, the machine sleeps or is cut off. No other machine may be treated
# like that; what needs none of it takes many times as long here as anywhere.
_AGENT = tuple(
    f"tests/kernel/agent/test_{each}.py"
    for each in ("monitor", "clock_steps", "sleep", "before_reboot")
)
_AFTER_REBOOT = ("tests/kernel/agent/test_after_reboot.py",)


class Kernel(NamedTuple):
    """One kernel, and what is tried with it in one guest.

    name: how it is chosen on the command line.
    suites: Debian's suites that may have it, the preferred one first.
    package: a pattern (re) of the whole name of the package that holds it; of several that match,
    the newest is taken. machine: what starts it, `qemu` or `uml`.
    tests: what it is tried with, as arguments of pytest. after_reboot: likewise, after the machine
    was cut off and started anew with the same disk.
    """

    name: str
    suites: tuple[str, ...]
    package: str
    machine: str
    tests: tuple[str, ...]
    after_reboot: tuple[str, ...] = ()


_CLOUD = r"linux-image-\d[\w.~+-]*-cloud-amd64"
# What newer packages are split into, beside the one that only needs the others.
PARTS = r"linux-(binary|modules)-"

KERNELS = (
    Kernel("5.10", ("bullseye",), _CLOUD, "qemu", _ALL),
    Kernel("6.1", ("bookworm",), _CLOUD, "qemu", _ALL),
    Kernel("6.1-agent", ("bookworm",), _CLOUD, "qemu", _AGENT, _AFTER_REBOOT),
    Kernel("6.12", ("trixie",), _CLOUD, "qemu", _ALL),
    Kernel("6.12-agent", ("trixie",), _CLOUD, "qemu", _AGENT, _AFTER_REBOOT),
    Kernel("newest", ("sid", "forky", "trixie-backports"), _CLOUD, "qemu", _ALL),
    # Built without CONFIG_INET_DIAG_DESTROY: there is the owner's descriptor.
    Kernel("uml", ("sid", "forky"), "user-mode-linux", "uml", _ANY + _BORROWING),
)
