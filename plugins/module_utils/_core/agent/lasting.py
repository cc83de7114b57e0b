# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what is told of the policy file, of a pause and of a trial."""

from __future__ import annotations

from .journal import NOTICE, WARNING
from .reporter import Teller
from .state import Account


def tell_policy(account: Account, teller: Teller) -> None:
    """Whether the policy file is obeyed."""
    refused = account.refused
    kept = (
        "there is no policy in force, and nothing is destroyed"
        if account.policy is None
        else f"the policy {account.policy.digest[:12]} stays in force"
    )
    teller.lasts(
        "policy file",
        None if refused is None else f"policy refused, {kept}: {' '.join(refused.reasons)}",
        ended="the policy file is obeyed again",
    )


def tell_controls(account: Account, teller: Teller) -> None:
    """Whether it is paused, or on trial."""
    pause, trial = account.pause, account.on_trial()
    teller.lasts(
        "pause",
        None if pause is None else f"paused, nothing is destroyed: {pause.reason or 'no reason'}",
        ended="no longer paused",
    )
    teller.lasts(
        "trial",
        None
        if trial is None
        else "the policy was not confirmed in time: nothing is destroyed till it is"
        if account.unconfirmed()
        else f"the policy {trial.digest[:12]} is on trial: unless it is confirmed in time, "
        "it destroys nothing any more",
        ended="no policy in force waits to be confirmed",
        priority=WARNING if account.unconfirmed() else NOTICE,
    )


def summary(account: Account) -> str:
    """How it is, for who asks the service's manager."""
    policy = account.policy
    if policy is None:
        return "no policy: nothing is destroyed"
    held_back = account.held_back()
    how = "in force" if held_back is None else f"held back ({held_back})"
    return f"policy {policy.digest[:12]} {how}, {len(policy.rules)} rules"
