# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The pause file and the trial file in the state directory.

Files keep the state over restarts and reboots, and root can create and remove them by hand. A file
that is invalid, or that is not trusted, counts as the alternative that destroys less. Its content
is never shown: it could be that of another file.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from ..errors import InputError, OtherPolicyOnTrial, UntrustedPath
from ..host.files import parse_json, remove_durably, write_atomic
from ..host.trusted_files import ROOT, read_private
from ..messages import untrusted_text
from ..text import printable
from .clocks import Clocks, Deadline
from .paths import PAUSED, UNCONFIRMED
from .protocol import parse_digest, parse_reason

_MAX_BYTES = 4096
_INVALID = (ValueError, KeyError, TypeError, OverflowError, InputError)


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
        value = _read(directory, PAUSED)
        reason = printable(parse_reason(value["reason"]))
        until = None if value["until"] is None else Deadline.from_dict(value["until"])
    except FileNotFoundError:
        return None
    except UntrustedPath as error:
        return Pause(f"not trusted: {untrusted_text(error)}", None)
    except OSError as error:
        return Pause(f"{path} cannot be read: {error.strerror}", None)
    except _INVALID:
        return Pause(f"{path} exists and was not written by socket-agent", None)
    if until is not None and until.certainly_expired(now):
        return None
    return Pause(reason, until)


def _read(directory: str, name: str) -> dict[str, Any]:
    """Read a JSON object that root or the owner of the directory, the agent, wrote.

    Raises OSError, UntrustedPath and ValueError.
    """
    owners = ROOT | {os.stat(directory).st_uid}
    value = parse_json(read_private(os.path.join(directory, name), owners, _MAX_BYTES))
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def write_pause(directory: str, reason: str, until: Deadline | None) -> None:
    """Pause the agent. Raises OSError, and InputError for a reason that is too long."""
    content = {
        "reason": parse_reason(reason),
        "until": None if until is None else until.to_dict(),
    }
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
        value = _read(directory, UNCONFIRMED)
        return Trial(parse_digest(value["digest"]), Deadline.from_dict(value["until"]))
    except FileNotFoundError:
        return None
    except (OSError, UntrustedPath, *_INVALID):
        return Trial("", None)


def start_trial(directory: str, digest: str, until: Deadline) -> None:
    """Put the policy with this digest on trial. Raises OSError."""
    content = {"digest": digest, "until": until.to_dict()}
    write_atomic(os.path.join(directory, UNCONFIRMED), json.dumps(content) + "\n", durable=True)


def confirm(directory: str, digest: str | None = None) -> bool:
    """End the trial; False if there was none. Raises OSError.

    digest: of the policy to confirm. Raises OtherPolicyOnTrial if another one is on trial.
    """
    on_trial = read_trial(directory)
    if on_trial is not None and digest is not None and not on_trial.covers(digest):
        raise OtherPolicyOnTrial(on_trial.digest, digest)
    return remove_durably(os.path.join(directory, UNCONFIRMED))
