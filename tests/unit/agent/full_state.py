# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent state in which no key of the status is null or empty."""

from __future__ import annotations

from collections import Counter

from linuxnet_sockets.agent.clocks import Clocks, Deadline
from linuxnet_sockets.agent.controls import Pause, Trial
from linuxnet_sockets.agent.pass_summary import PassSummary, Unevaluated
from linuxnet_sockets.agent.policy_file import Rejected
from linuxnet_sockets.agent.state import AgentState
from linuxnet_sockets.policy.budget import BudgetExceeded
from linuxnet_sockets.policy.model import Limits
from tests.support.policy_documents import policy, rule

NOW = Clocks(1_700_000_000.0, 1_000.0, "boot")


def full_state() -> AgentState:
    """Return a state in which nothing is null or empty."""
    ours = policy(rule(), rule("another"))
    ends = Deadline.after(NOW, 60)
    last_pass = PassSummary(
        ended_ms=900_000,
        duration_ms=3,
        namespaces=2,
        statuses={"a-rule": Counter(destroy=1)},
        unenforced={"a-rule": Counter(survived=1)},
        budget_exceeded=(BudgetExceeded(5, 1, Limits(2), "a-rule", 1000, "alice"),),
        untracked=1,
        not_evaluated=(Unevaluated("blue", "a-rule", "no", 12.5),),
        missing_interfaces={"a-rule": ["wg0"], "another": ["wg0"]},
        waiting=1,
        oldest_s=31.5,
        backing_off=({"rule": "a", "local": "l", "remote": "r", "remote_port": 1},),
    )
    return AgentState(
        pid=1,
        started=NOW,
        policy_file="/etc/policy.json",
        resync_s=30.0,
        policy=ours,
        loaded=NOW,
        rejected=Rejected("/etc/policy.json", ("no",)),
        pause=Pause("work", ends),
        trial=Trial(ours.digest, ends),
        controls_read_at=NOW,
        last_pass=last_pass,
        last_pass_at=NOW,
        outcomes=Counter({("a-rule", "destroyed"): 2}),
        faults={"write metrics": "disk full"},
    )
