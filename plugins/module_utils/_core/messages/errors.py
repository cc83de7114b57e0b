# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Sentences for errors and for the warnings of a policy."""

from __future__ import annotations

import errno as errno_names
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Any

from .. import errors
from ..netlink import constants
from ..text import decode, encodable, printable

# How many errors of one document are listed, and how deep a value is shown.
_MAX_ERRORS = 20
_MAX_DEPTH = 8
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
    """``/etc/passwd: Permission denied``, without the errno."""
    text = error.strerror or str(error)
    name = error.filename
    if isinstance(name, bytes):
        name = decode(name)
    return printable(f"{name}: {text}" if name else text)


def shown(value: object, limit: int = 120) -> str:
    """A value as the user wrote it, cut to limit characters."""
    text = _written(value, 0)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _written(value: object, depth: int) -> str:
    """A value in YAML's flow style, since users write YAML and JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, dict):
        pairs = (f"{_key(key)}: {_written(under, depth + 1)}" for key, under in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_written(item, depth + 1) for item in value)}]"
    return repr(encodable(value) if isinstance(value, str) else value)


def _key(key: object) -> str:
    return key if isinstance(key, str) and _PLAIN_KEY.fullmatch(key) else _written(key, 0)


def _input(error: errors.InputError) -> str:
    where = path_text(error.path)
    start = f"{where}: " if where else ""
    # The problem already names the absent value.
    absent = error.value is None and error.problem.startswith(("missing", "null"))
    value = "" if absent else f"{shown(error.value)}: "
    return f"{start}{value}{error.problem}.{_allowed(error.allowed)}"


def _allowed(phrase: str) -> str:
    return f" Allowed: {phrase}." if phrase else ""


def _policy(error: errors.PolicyErrors) -> str:
    count = len(error.errors)
    found = " ".join(map(_input, error.errors[:_MAX_ERRORS]))
    more = f" And {count - _MAX_ERRORS} more." if count > _MAX_ERRORS else ""
    return f"The policy has {_counted(count)}. {found}{more}"


def _counted(count: int) -> str:
    return "1 error" if count == 1 else f"{count} errors"


def listed_text(sentences: Sequence[str]) -> str:
    """The number of errors, then each in its own line."""
    more = len(sentences) - _MAX_ERRORS
    lines = [*sentences[:_MAX_ERRORS], *([f"and {more} more"] if more > 0 else [])]
    return "\n- ".join([f"{_counted(len(sentences))}.", *lines])


def rejected_text(sentences: Sequence[str], *, effect: str, policy: str = "The policy") -> str:
    """Describe an invalid policy. effect: the consequence. policy: the subject of the sentence."""
    return f"{policy} is invalid, and {effect}: {listed_text(sentences)}"


def warning_text(warning: errors.PolicyWarning) -> str:
    """Describe a warning of a policy: its path, the problem and the remedy."""
    return printable(f"{path_text(warning.path)} {warning.problem}. Remedy: {warning.remedy}.")


def _netlink(error: errors.NetlinkError) -> str:
    text = f"The kernel refused to {error.operation}: {errno_text(error.errno)}."
    if error.errno in (errno_names.EPERM, errno_names.EACCES):
        return (
            f"{text} You need CAP_NET_ADMIN in the user namespace that owns the network "
            "namespace: run with become, or as root."
        )
    return text


def _timeout(error: errors.NetlinkTimeout) -> str:
    return (
        f"The kernel did not finish within {error.seconds:g} s when asked to {error.operation}. "
        "The state of the sockets is unknown. Run it again."
    )


def _malformed(error: errors.MalformedMessage) -> str:
    return (
        f"The kernel sent an invalid message: {error.message}: {error.detail}. It was ignored. "
        "Please report this with the kernel's version."
    )


def _malformed_btf(error: errors.MalformedBtf) -> str:
    return (
        f"Cannot read the kernel's types in /sys/kernel/btf/vmlinux: {error.detail}. "
        "Use engine netlink or pidfd."
    )


def _interrupted(error: errors.DumpInterrupted) -> str:
    return (
        f"The kernel could not {error.operation} consistently in {error.attempts} attempts: its "
        "tables changed during each. Run it again."
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
        f"The selector needs {error.length} bytes of kernel bytecode. The limit is {error.limit}. "
        "Select by fewer or wider prefixes."
    )


def _no_namespace(error: errors.NamespaceNotFound) -> str:
    return (
        f"Unknown network namespace {shown(error.name)}. Allowed: current, all, pid:N of a "
        "running process, or a name that `ip netns list` shows."
    )


def _denied_namespace(error: errors.NamespaceDenied) -> str:
    return (
        f"Cannot enter the network namespace {shown(error.name)}: {errno_text(error.errno)}. "
        "You need CAP_SYS_ADMIN: run with become, or as root."
    )


def _protect_file(error: errors.ProtectFileError) -> str:
    return (
        f"Invalid protection file {error.file}: {error.problem}. Nothing is destroyed until it is "
        f"valid.{_allowed(error.allowed)}"
    )


def untrusted_text(error: errors.UntrustedPath) -> str:
    """Why a path is not trusted, as a phrase with the mode and the owner."""
    mode = f"mode {stat.S_IMODE(error.mode):04o}, owner uid {error.uid}"
    if error.problem == "type":
        return f"{error.place} is not a regular file"
    if error.problem == "links":
        return f"{error.place} has more than one hard link"
    if error.problem == "owner":
        return f"{error.place} does not belong to root ({mode})"
    writers = [
        name
        for name, bit in (("its group", stat.S_IWGRP), ("every user", stat.S_IWOTH))
        if error.mode & bit
    ]
    return f"{' and '.join(writers)} may write {error.place} ({mode})"


def _untrusted(error: errors.UntrustedPath) -> str:
    return (
        f"{error.file} is not trusted: {untrusted_text(error)}. Only root may own and write it and "
        "the directories above it: use chown root and chmod go-w."
    )


def _engine(error: errors.EngineUnavailable) -> str:
    return f"The engine {shown(error.engine)} is not available: {error.reason}."


def _package(error: errors.PackageMissing) -> str:
    return (
        f"Cannot import the Python package {error.package}, which {error.purpose}: "
        f"{error.reason}. {error.consequence}. Install the distribution's package "
        f"python3-{error.package}, or run: pip install 'linuxnet-sockets[agent]'."
    )


def _directory(error: errors.DirectoryUnusable) -> str:
    problem = os.strerror(error.errno)
    text = f"Cannot use the directory {error.directory} of {error.purpose}: {problem}."
    other = f"name another directory with {error.option}"
    if error.errno in (errno_names.EPERM, errno_names.EACCES):
        return f"{text} Run it as root, or {other}."
    if error.errno == errno_names.ENOENT:
        return f"{text} Create it, or {other}."
    return f"{text} {_capitalized(other)}."


def _capitalized(phrase: str) -> str:
    return f"{phrase[0].upper()}{phrase[1:]}"


def _not_expressible(error: errors.NotExpressible) -> str:
    return f"{error.place}: a packet filter cannot express {error.key}: {error.reason}."


def _library(error: errors.LibraryFailed) -> str:
    return f"The Python package {error.library} failed to {error.operation}: {error.reason}."


def _agent(error: errors.AgentUnreachable) -> str:
    text = f"Cannot {error.operation}: {error.directory}: {os.strerror(error.errno)}."
    if error.errno in (errno_names.EPERM, errno_names.EACCES):
        members = "" if error.group is None else f", or as a member of the group {error.group}"
        return f"{text} Run it as root{members}."
    if error.errno == errno_names.ENOENT:
        return f"{text} Check that the agent is installed on this host."
    if error.errno == errno_names.ECONNREFUSED:
        return f"{text} Check that the agent is running."
    return text


_REFUSALS = {
    "request_too_long": "the request is too long",
    "request_timeout": "the request did not arrive in time",
    "too_many_clients": "too many clients are connected; try again",
    "too_many_requests": "too many requests of this user; try again in some seconds",
}


def _refused(error: errors.AgentRefused) -> str:
    reason = error.detail or _REFUSALS.get(error.error, error.error)
    return f"Cannot {error.operation}: {reason.rstrip('.')}."


def _other_policy(error: errors.OtherPolicyOnTrial) -> str:
    return f"not confirmed: the policy on trial is {error.on_trial}, not {error.given}"


_SENTENCES: dict[type[errors.SocketsError], Callable[[Any], str]] = {
    errors.InputError: _input,
    errors.PolicyErrors: _policy,
    errors.NetlinkError: _netlink,
    errors.NetlinkTimeout: _timeout,
    errors.MalformedMessage: _malformed,
    errors.MalformedBtf: _malformed_btf,
    errors.DumpInterrupted: _interrupted,
    errors.HandlerMissing: _handler,
    errors.BytecodeTooLong: _too_long,
    errors.NamespaceNotFound: _no_namespace,
    errors.NamespaceDenied: _denied_namespace,
    errors.ProtectFileError: _protect_file,
    errors.UntrustedPath: _untrusted,
    errors.EngineUnavailable: _engine,
    errors.NotExpressible: _not_expressible,
    errors.PackageMissing: _package,
    errors.DirectoryUnusable: _directory,
    errors.LibraryFailed: _library,
    errors.AgentUnreachable: _agent,
    errors.AgentRefused: _refused,
    errors.OtherPolicyOnTrial: _other_policy,
}


def describe(error: errors.SocketsError) -> str:
    """Describe an error: the given value or operation, the problem, and the remedy."""
    for kind in type(error).__mro__:
        if kind in _SENTENCES:
            return printable(_SENTENCES[kind](error))
    return printable(str(error))
