# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Default paths and file names of the agent."""

from __future__ import annotations

POLICY_FILE = "/etc/linuxnet-sockets/policy.json"
STATE_DIRECTORY = "/var/lib/linuxnet-sockets"
RUNTIME_DIRECTORY = "/run/linuxnet-sockets"

# In the runtime directory.
STATUS = "status.json"
SOCKET = "agent.sock"
BUDGET = "budget.json"

# In the state directory.
PAUSED = "paused"
UNCONFIRMED = "unconfirmed.json"
