# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sentences for errors and for the warnings of a policy."""

from __future__ import annotations

import errno as errno_names
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from .. import errors
from ..netlink import constants

# Of the errors of one document.
_MOST_TOLD = 20
_DEEPEST_SHOWN = 8
_PLAIN_KEY = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)


def path_text(path: Sequence[errors.PathStep]) -> str:
    """``("match", "any", 0, "remote")`` as ``match.any[0].remote``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step}" if text else step
    return text


def errno_text(number: int) -> str:
    """``1`` as ``EPERM (Operation not permitted)``."""
    name = errno_names.errorcode.get(number, f"errno {number}")
    return f"{name} ({os.strerror(number)})"


def os_error_text(error: OSError) -> str:
    """``/etc/passwd: Permission denied``, without what only programmers know."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said


def _shown(value: object, limit: int = 120) -> str:
    text = _written(value, 0)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _written(value: object, depth: int) -> str:
    """As one could have written it in YAML: Python's own words mean nothing to who reads it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if depth > _DEEPEST_SHOWN:
        return "..."
    if isinstance(value, dict):
        pairs = (f"{_key(key)}: {_written(under, depth + 1)}" for key, under in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_written(item, depth + 1) for item in value)}]"
    return repr(value)


def _key(key: object) -> str:
    return key if isinstance(key, str) and _PLAIN_KEY.fullmatch(key) else _written(key, 0)


def _input(error: errors.InputError) -> str:
    where = path_text(error.path)
    start = f"{where}: " if where else ""
    # The problem itself says that there is nothing.
    says_so = error.value is None and error.problem.startswith(("missing", "null"))
    value = "" if says_so else f"{_shown(error.value)}: "
    return f"{start}{value}{error.problem}. Allowed: {error.allowed}."


def _policy(error: errors.PolicyErrors) -> str:
    count = len(error.errors)
    found = " ".join(map(_input, error.errors[:_MOST_TOLD]))
    more = f" And {count - _MOST_TOLD} more." if count > _MOST_TOLD else ""
    return f"The policy is refused, {_things(count)} wrong with it. {found}{more}"


def _things(count: int) -> str:
    return "1 thing is" if count == 1 else f"{count} things are"


def listed_text(sentences: Sequence[str]) -> str:
    """How much is wrong, and what: each on a line."""
    more = len(sentences) - _MOST_TOLD
    told = [*sentences[:_MOST_TOLD], *([f"and {more} more"] if more > 0 else [])]
    return "\n- ".join([f"{_things(len(sentences))} wrong with it.", *told])


def rejected_text(sentences: Sequence[str], *, effect: str, policy: str = "The policy") -> str:
    """That a policy is invalid, what follows, and all its errors. policy: which one."""
    return f"{policy} is invalid, and {effect}: {listed_text(sentences)}"


def warning_text(warning: errors.PolicyWarning) -> str:
    """Where, what is odd, what to do."""
    return f"{path_text(warning.path)} {warning.problem}. Remedy: {warning.remedy}."


def _netlink(error: errors.NetlinkError) -> str:
    text = f"The kernel refused to {error.operation}: {errno_text(error.errno)}."
    if error.errno in (errno_names.EPERM, errno_names.EACCES):
        return (
            f"{text} It takes CAP_NET_ADMIN in the user namespace that owns the network "
            "namespace: run with become, or as root."
        )
    return text


def _timeout(error: errors.NetlinkTimeout) -> str:
    return (
        f"The kernel did not finish answering within {error.seconds:g} s when asked to "
        f"{error.operation}. Nothing is known about the sockets; run it again."
    )


def _malformed(error: errors.MalformedMessage) -> str:
    return (
        f"The kernel's answer could not be read: {error.message}: {error.detail}. "
        "Nothing was done on the strength of it; please report this with the kernel's version."
    )


def _interrupted(error: errors.DumpInterrupted) -> str:
    return (
        f"The kernel could not {error.operation} in one piece in {error.attempts} attempts, "
        "because its tables kept changing. Run it again."
    )


def _handler(error: errors.HandlerMissing) -> str:
    module = constants.DIAG_MODULES[error.protocol]
    return (
        f"This kernel cannot list {error.protocol} sockets: it has no socket diag handler for "
        f"them. Load the module {module} (modprobe {module}), or leave {error.protocol} out of "
        "the selector."
    )


def _too_long(error: errors.BytecodeTooLong) -> str:
    return (
        f"The filter takes {error.length} bytes of kernel bytecode, over the limit of "
        f"{error.limit}. Select by fewer or wider prefixes."
    )


def _no_namespace(error: errors.NamespaceNotFound) -> str:
    return (
        f"There is no network namespace {_shown(error.name)} on this host. Allowed: current, "
        "all, pid:N of a running process, or a name that `ip netns list` shows."
    )


def _denied_namespace(error: errors.NamespaceDenied) -> str:
    return (
        f"The network namespace {_shown(error.name)} may not be entered: "
        f"{errno_text(error.errno)}. It takes CAP_SYS_ADMIN: run with become, or as root."
    )


def _protect_file(error: errors.ProtectFileError) -> str:
    return (
        f"The protection file {error.file} cannot be obeyed: {error.problem}. So what was asked is "
        f"refused, and nothing was destroyed for it. Allowed: {error.allowed}."
    )


def _engine(error: errors.EngineUnavailable) -> str:
    return f"The engine {_shown(error.engine)} cannot work here: {error.reason}."


def _package(error: errors.PackageMissing) -> str:
    return (
        f"The Python package {error.package}, which {error.purpose}, cannot be imported: "
        f"{error.reason}. Install the distribution's python3-{error.package}, or it from pip into "
        "the environment that the agent runs in."
    )


def _agent(error: errors.AgentUnreachable) -> str:
    text = f"Cannot {error.operation}: {error.directory}: {os.strerror(error.errno)}."
    if error.errno in (errno_names.EPERM, errno_names.EACCES):
        members = "" if error.group is None else f", or as a member of the group {error.group}"
        return f"{text} Do it as root{members}."
    if error.errno == errno_names.ENOENT:
        return f"{text} Is the agent installed on this host?"
    return text


_SENTENCES: dict[type[errors.SocketsError], Callable[[Any], str]] = {
    errors.InputError: _input,
    errors.PolicyErrors: _policy,
    errors.NetlinkError: _netlink,
    errors.NetlinkTimeout: _timeout,
    errors.MalformedMessage: _malformed,
    errors.DumpInterrupted: _interrupted,
    errors.HandlerMissing: _handler,
    errors.BytecodeTooLong: _too_long,
    errors.NamespaceNotFound: _no_namespace,
    errors.NamespaceDenied: _denied_namespace,
    errors.ProtectFileError: _protect_file,
    errors.EngineUnavailable: _engine,
    errors.PackageMissing: _package,
    errors.AgentUnreachable: _agent,
}


def describe(error: errors.SocketsError) -> str:
    """One or two sentences: what was asked, what is wrong, what to do."""
    for kind in type(error).__mro__:
        if kind in _SENTENCES:
            return _SENTENCES[kind](error)
    return str(error)
