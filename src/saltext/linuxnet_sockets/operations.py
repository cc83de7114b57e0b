# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls operations with arguments as Salt gives them, and returns results as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import salt.exceptions

try:
    from linuxnet_sockets import api
    from linuxnet_sockets.api.options import OPERATIONS, check_option
    from linuxnet_sockets.errors import PolicyErrors
    from linuxnet_sockets.messages import os_error_text, rejected_text

    AVAILABLE = True
except ImportError:
    AVAILABLE = False

# What __virtual__ returns if the package linuxnet_sockets is missing.
MISSING = (False, "The Python package linuxnet_sockets cannot be imported")

# The default of the argument `match`. YAML and Salt's transport give lists, so no caller passes a
# tuple. None or {} from an empty template variable must not select by the other arguments alone.
NO_MATCH = ()


def plain(value: Any) -> Any:
    """Dicts and lists in place of the mappings and sequences of pillars and SLS files."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def selector(match: Any, keys: Mapping[str, Any]) -> Any:
    """The selector of a function: `match` and the keyword arguments, both of which apply.

    match: NO_MATCH if the caller gives none. keys: may contain Salt's own arguments, such as
    ``__pub_jid``. They are left out. Returns None if there is neither a selector nor a key.
    """
    given = {name: plain(value) for name, value in keys.items() if not name.startswith("__")}
    if match == NO_MATCH:
        return given or None
    match = plain(match)
    if not given:
        return match
    if isinstance(match, dict) and match and given.keys().isdisjoint(match):
        return {**match, **given}
    return {"all": [match, given]}


def test_mode(test: Any, opts: Mapping[str, Any]) -> bool:
    """Whether to change nothing. test: an argument of a function; None: as the minion says."""
    option = OPERATIONS["destroy"]["check"]._replace(name="test")
    checked: bool = check_option(option, opts.get("test") if test is None else test)
    return checked


def call(operation: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The result of an operation, with ``warnings`` and ``failures`` as lists of sentences.

    options: those that are None have their defaults. Raises CommandExecutionError.
    """
    with errors_for_salt():
        result = operation(**{name: plain(value) for name, value in options.items()})
    return {
        **result.to_dict(),
        "failures": [api.describe_failure(failure) for failure in result.failures],
    }


@contextmanager
def errors_for_salt() -> Iterator[None]:
    """Turn errors of the core into CommandExecutionError with the sentence of the other faces.

    Salt's SaltInvocationError does not fit: its message is followed by the whole docstring.
    """
    try:
        yield
    except PolicyErrors as error:
        problems = [api.describe(each) for each in error.errors]
        text = rejected_text(problems, effect="nothing was done on this host")
        raise salt.exceptions.CommandExecutionError(text) from error
    except api.SocketsError as error:
        raise salt.exceptions.CommandExecutionError(api.describe(error)) from error
    except OSError as error:
        raise salt.exceptions.CommandExecutionError(os_error_text(error)) from error
