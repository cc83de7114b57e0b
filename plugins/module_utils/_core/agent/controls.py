# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: what bids the agent not to destroy: the pause, the confirmation.

Both are files in its state directory, so that they hold over a restart and a reboot, and can be
made and removed by hand. What cannot be read is taken for what destroys less.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from ..host.files import read_regular_file, remove_durably, write_atomic
from .clocks import Clocks, Deadline

PAUSED = "paused"
UNCONFIRMED = "unconfirmed.json"

_MOST_BYTES = 65_536
# What is raised for a file that somebody else wrote: whoever may pause the agent can write any.
_NOT_OURS = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Pause(NamedTuple):
    """reason: what whoever paused it wrote, or ''. until: None: till it is resumed."""

    reason: str
    until: Deadline | None


def read_pause(directory: str, now: Clocks) -> Pause | None:
    """None: not paused, or not any more. Any file of the name pauses, whatever is in it."""
    path = os.path.join(directory, PAUSED)
    try:
        text = read_regular_file(path, _MOST_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        return Pause(f"{path} cannot be read: {error.strerror}", None)
    try:
        value = json.loads(text)
        reason = str(value["reason"])
        until = None if value["until"] is None else Deadline.read(value["until"])
    except _NOT_OURS:
        return Pause(" ".join(text.split())[:200], None)
    if until is not None and until.surely_passed(now):
        return None
    return Pause(reason, until)


def write_pause(directory: str, reason: str, until: Deadline | None) -> None:
    """Raises OSError."""
    content = {"reason": reason, "until": None if until is None else until.written()}
    write_atomic(os.path.join(directory, PAUSED), json.dumps(content) + "\n", durable=True)


def end_pause(directory: str) -> bool:
    """Whether there was one. Raises OSError."""
    return remove_durably(os.path.join(directory, PAUSED))


class Confirmation(NamedTuple):
    """A policy that is in force on trial.

    digest: of that policy; '' where the file cannot be understood, and every policy is meant.
    until: when the trial ends; None: it has ended. Without a confirmation nothing is destroyed
    after it.
    """

    digest: str
    until: Deadline | None

    def awaited_for(self, digest: str) -> bool:
        return self.digest in ("", digest)

    def over(self, now: Clocks) -> bool:
        return self.until is None or self.until.may_have_passed(now)


def read_confirmation(directory: str) -> Confirmation | None:
    """None: nothing waits to be confirmed."""
    try:
        value = json.loads(read_regular_file(os.path.join(directory, UNCONFIRMED), _MOST_BYTES))
        return Confirmation(str(value["digest"]), Deadline.read(value["until"]))
    except FileNotFoundError:
        return None
    except (OSError, *_NOT_OURS):
        return Confirmation("", None)


def await_confirmation(directory: str, digest: str, until: Deadline) -> None:
    """From now on the policy of that digest is on trial. Raises OSError."""
    content = {"digest": digest, "until": until.written()}
    write_atomic(os.path.join(directory, UNCONFIRMED), json.dumps(content) + "\n", durable=True)


def confirm(directory: str) -> bool:
    """Whether there was something to confirm. Raises OSError."""
    return remove_durably(os.path.join(directory, UNCONFIRMED))
