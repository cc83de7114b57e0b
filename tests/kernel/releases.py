# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Expected failures on older kernels (pytest xfail). A strict one that passes is a failure."""

from __future__ import annotations

import os
import re

import pytest


def release() -> tuple[int, int]:
    """Major and minor version of the running kernel."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    assert found is not None
    return int(found.group(1)), int(found.group(2))


# Linux 6.0 replaced inet_csk_diag_destroy by tcp_abort, which supports TIME_WAIT.
xfail_time_wait = pytest.mark.xfail(
    release() < (6, 0),
    reason="before Linux 6.0 the kernel does not destroy a connection in TIME_WAIT, or an orphan "
    "in FIN_WAIT_2 (EOPNOTSUPP)",
)

# Commit "tcp: fix forever orphan socket caused by tcp_abort": Linux 6.11 and backports to some
# stable releases. The release number does not show a backport, so the xfail is not strict.
may_xfail_stuck_orphan = pytest.mark.xfail(
    release() < (6, 11),
    reason="some kernels before Linux 6.11 never close a destroyed orphan with unsent data",
    strict=False,
)
