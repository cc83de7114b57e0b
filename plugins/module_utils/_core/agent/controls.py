# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The pause file and the trial file in the state directory.

Files keep the state over restarts and reboots, and administrators can create and remove them by
hand. An unreadable file counts as the alternative that destroys less.
"""

from __future__ import annotations

import json
import os
from typing import NamedTuple

from ..host.files import read_regular_file, remove_durably, write_atomic
from .clocks import Clocks, Deadline
from .paths import PAUSED, UNCONFIRMED

_MAX_BYTES = 65_536
_MAX_REASON = 200
# The members of the agent's group can write anything to these files.
_INVALID = (ValueError, KeyError, TypeError, OverflowError, RecursionError)


class Pause(NamedTuple):
    """reason: given by the user, or ''. until: None: until `socket-agent resume`."""

    reason: str
    until: Deadline | None


def read_pause(directory: str, now: Clocks) -> Pause | None:
    """Read the pause; None if there is none or it has expired.

    A file of this name pauses the agent, whatever its content.
    """
    path = os.path.join(directory, PAUSED)
    try:
        text = read_regular_file(path, _MAX_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        return Pause(f"{path} cannot be read: {error.strerror}", None)
    try:
        value = json.loads(text)
        reason = str(value["reason"])
        until = None if value["until"] is None else Deadline.from_dict(value["until"])
    except _INVALID:
        return Pause(" ".join(text.split())[:_MAX_REASON], None)
    if until is not None and until.certainly_expired(now):
        return None
    return Pause(reason, until)


def write_pause(directory: str, reason: str, until: Deadline | None) -> None:
    """Pause the agent. Raises OSError."""
    content = {"reason": reason, "until": None if until is None else until.to_dict()}
    write_atomic(os.path.join(directory, PAUSED), json.dumps(content) + "\n", durable=True)


def remove_pause(directory: str) -> bool:
    """End the pause; False if there was none. Raises OSError."""
    return remove_durably(os.path.join(directory, PAUSED))


class Trial(NamedTuple):
    """A policy that waits for its confirmation.

    digest: of that policy; '' if the file is invalid, which puts every policy on trial. until: the
    end of the trial; None: it has expired. An unconfirmed policy destroys nothing after it.
    """

    digest: str
    until: Deadline | None

    def covers(self, digest: str) -> bool:
        return self.digest in ("", digest)

    def expired(self, now: Clocks) -> bool:
        return self.until is None or self.until.possibly_expired(now)


def read_trial(directory: str) -> Trial | None:
    """Read the trial; None if no policy is on trial."""
    try:
        value = json.loads(read_regular_file(os.path.join(directory, UNCONFIRMED), _MAX_BYTES))
        return Trial(str(value["digest"]), Deadline.from_dict(value["until"]))
    except FileNotFoundError:
        return None
    except (OSError, *_INVALID):
        return Trial("", None)


def start_trial(directory: str, digest: str, until: Deadline) -> None:
    """Put the policy with this digest on trial. Raises OSError."""
    content = {"digest": digest, "until": until.to_dict()}
    write_atomic(os.path.join(directory, UNCONFIRMED), json.dumps(content) + "\n", durable=True)


def confirm(directory: str) -> bool:
    """End the trial; False if there was none. Raises OSError."""
    return remove_durably(os.path.join(directory, UNCONFIRMED))
