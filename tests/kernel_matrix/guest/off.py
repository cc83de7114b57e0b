# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power off the guest with reboot(2); its root file system has no systemd."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent.parent))

from tests.kernel_matrix import guest_token

_POWER_OFF = 0x4321FEDC  # LINUX_REBOOT_CMD_POWER_OFF, include/uapi/linux/reboot.h

if guest_token.not_a_guest() is not None:
    sys.exit(guest_token.not_a_guest())
os.sync()
ctypes.CDLL(None).reboot(_POWER_OFF)
