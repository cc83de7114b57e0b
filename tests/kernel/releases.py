# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is expected to differ on older kernels. Where it does not, the test fails, and tells so."""

from __future__ import annotations

import os
import re

import pytest


def release() -> tuple[int, int]:
    """The running kernel's first two numbers."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found is not None
    return int(found.group(1)), int(found.group(2))


# inet_csk_diag_destroy gave way to tcp_abort, which knows TIME_WAIT, in Linux 6.0.
time_wait_stays = pytest.mark.xfail(
    release() < (6, 0),
    reason="before Linux 6.0 a connection in TIME_WAIT, also one that says FIN_WAIT_2 and has no "
    "application any more, cannot be destroyed (EOPNOTSUPP)",
)

# "tcp: fix forever orphan socket caused by tcp_abort", in Linux 6.11 and in some stable releases
# of older ones, which their numbers do not tell.
stuck_orphan_may_stay = pytest.mark.xfail(
    release() < (6, 11),
    reason="some kernels before Linux 6.11 make an orphan with unsent data immortal",
    strict=False,
)
