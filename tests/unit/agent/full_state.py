# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent state in which no key of the status is null or empty."""

from __future__ import annotations

from collections import Counter

from linuxnet_sockets.agent.clocks import Clocks, Deadline
from linuxnet_sockets.agent.controls import Confirmation, Pause
from linuxnet_sockets.agent.policy_file import Refusal
from linuxnet_sockets.agent.state import Account, Seen
from linuxnet_sockets.policy.findings import BudgetExceeded
from linuxnet_sockets.policy.model import Limits
from tests.support.policy_documents import policy, rule

NOW = Clocks(1_700_000_000.0, 1_000.0, "boot")


def everything() -> Account:
    """An account in which nothing is null or empty."""
    ours = policy(rule(), rule("another"))
    ends = Deadline.after(NOW, 60)
    seen = Seen(
        ended_ms=900_000,
        took_ms=3,
        namespaces=2,
        statuses={"a-rule": Counter(destroy=1)},
        excess=BudgetExceeded(5, 1, Limits(2)),
        untracked=1,
        blind=(("blue", "a-rule", "no"),),
        missing={"a-rule": ["wg0"], "another": ["wg0"]},
        backing_off=({"rule": "a", "local": "l", "remote": "r", "remote_port": 1},),
    )
    return Account(
        pid=1,
        started=NOW,
        file="/etc/policy.json",
        resync_s=30.0,
        policy=ours,
        loaded=NOW,
        refused=Refusal("/etc/policy.json", ("no",)),
        pause=Pause("work", ends),
        trial=Confirmation(ours.digest, ends),
        at=NOW,
        last=seen,
        last_at=NOW,
        ended=Counter({("a-rule", "destroyed"): 2}),
        errors={"metrics": "disk full"},
    )
