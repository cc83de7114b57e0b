# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Exit statuses. They are documented in --help and in docs/docsite/rst/socketctl.rst."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from .. import errors

SUCCESS = 0
FAILED = 1
USAGE = 2
LIMIT = 3
IMPOSSIBLE = 4
VIOLATIONS = 5
# A shell's status for a command that SIGINT ended.
INTERRUPTED = 130

MEANINGS = {
    SUCCESS: "Success: nothing is left to do.",
    FAILED: "Failure. Also: you answered no, a policy file is invalid, or a drain with "
    "--no-destroy left connections.",
    USAGE: "The command line is wrong, or --yes is missing without a terminal.",
    LIMIT: "Refused: max_sockets, or the limits of a policy, allow fewer sockets. Nothing was "
    "destroyed, except by a drain that had begun to destroy, and by a policy with on_excess: pace "
    "or for other rules and users.",
    IMPOSSIBLE: "Not permitted, or not supported by the kernel. Also: sockets are protected only "
    "because you may not read which processes hold them.",
    VIOLATIONS: "Only policy plan --detailed-exitcode: sockets violate the policy.",
    INTERRUPTED: "Interrupted with Ctrl-C.",
}

_DENIED = frozenset({errno.EPERM, errno.EACCES})
_FAILING = frozenset({"survived", "busy", "limit"})


def of_error(error: errors.SocketsError) -> int:
    """The exit status for an error that stopped a command."""
    if isinstance(error, errors.InputError):
        return USAGE
    if isinstance(error, errors.NetlinkError):
        return IMPOSSIBLE if error.errno in _DENIED | {errno.EOPNOTSUPP} else FAILED
    if isinstance(error, errors.NamespaceDenied):
        return IMPOSSIBLE if error.errno in _DENIED else FAILED
    if isinstance(error, (errors.HandlerMissing, errors.EngineUnavailable)):
        return IMPOSSIBLE
    return FAILED


def of_failures(failures: Sequence[errors.Failure]) -> int:
    """The exit status for the failures of a result. A failure that may pass later comes first."""
    found = {_of_failure(failure) for failure in failures}
    for status in (FAILED, LIMIT, IMPOSSIBLE):
        if status in found:
            return status
    return SUCCESS


def _of_failure(failure: errors.Failure) -> int:
    if isinstance(failure, (errors.TooManySockets, errors.OverBudget)):
        return LIMIT
    if isinstance(failure, errors.SocketsNotDestroyed):
        return IMPOSSIBLE if _FAILING.isdisjoint(failure.outcomes) else FAILED
    if isinstance(failure, errors.EvaluationIncomplete):
        statuses = {of_error(each.error) for each in failure.not_evaluated}
        return IMPOSSIBLE if statuses == {IMPOSSIBLE} else FAILED
    return FAILED
