# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Network namespaces: find them by name, and open netlink sockets inside them.

    (namespace,) = resolve(["pid:4711"])
    with open_netlink(namespace, NETLINK_SOCK_DIAG) as sock: ...

A namespace is a file of nsfs: /proc/PID/ns/net, or a bind mount of it. The device and inode of that
file are its identity (namespaces(7)). setns(2) moves one thread only. A short-lived thread enters
the namespace, so the caller never leaves its own.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from .. import text
from ..errors import InputError, NamespaceDenied, NamespaceNotFound, NetlinkError, PathStep
from ..netlink import connection
from . import mountinfo
from .namespace_holders import HolderWalk, ProcessEntry, read_entry

# Where iproute2 mounts named namespaces (NETNS_RUN_DIR).
DIRECTORIES = ("/run/netns", "/var/run/netns")

CURRENT = "current"
ALL = "all"
_PID = "pid:"
_OWN = "thread-self/ns/net"
# More than any pid has (PID_MAX_LIMIT, include/linux/threads.h: 2^22).
_MAX_PID_DIGITS = 10
_ALLOWED = "current, all, pid:N, or the name of a network namespace"

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_NS_GET_NSTYPE = 0xB703  # include/uapi/linux/nsfs.h, since Linux 4.11
_GONE = (errno.ENOENT, errno.ESRCH, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
_DENIED = (errno.EACCES, errno.EPERM)

Identity = tuple[int, int]
T = TypeVar("T")

# Of this process, which may resolve `all` again and again.
_walk = HolderWalk()


class Namespace(NamedTuple):
    """A network namespace.

    name: as the user calls it: current, NAME, pid:N or a path. path: the nsfs file that leads to
    it; None for the caller's own. identity: st_dev and st_ino of that file (namespaces(7)).
    explicit: True if the user named it. If `all` found it, it may end before it is entered.
    """

    name: str
    path: str | None
    identity: Identity
    explicit: bool = True


def resolve(
    names: Sequence[str],
    *,
    proc: str = "/proc",
    directories: Sequence[str] = DIRECTORIES,
    path: Sequence[PathStep] = ("namespaces",),
) -> list[Namespace]:
    """Resolve names into namespaces, each once, under the first name that matches.

    - "current": the caller's namespace
    - NAME: a mount in one of the directories, or an absolute path
    - "pid:N": the namespace of a process
    - "all": every namespace of the host that a process or thread is in, or that a mount or a
      descriptor keeps: the current one, then named ones by name, then pid:N with the lowest pid in
      it, then mounts by path, then pid:N of threads, then descriptors by path

    path: the path of the names in the input, for errors.
    Raises InputError, NamespaceNotFound and NamespaceDenied.
    """
    if not names:
        raise InputError(path, list(names), "no namespace is named", _ALLOWED)
    found: dict[Identity, Namespace] = {}
    for index, name in enumerate(names):
        for namespace in _resolve_one(name, proc, directories, (*path, index)):
            found.setdefault(namespace.identity, namespace)
    return list(found.values())


def checked_name(name: object, path: Sequence[PathStep]) -> str:
    """Validate the form of a namespace's name; it need not exist. Raises InputError."""
    if not isinstance(name, str) or not name.strip():
        raise InputError(path, name, "not the name of a namespace", _ALLOWED)
    if "\0" in name:
        raise InputError(path, name, "contains a NUL character", _ALLOWED)
    if name.startswith(_PID):
        number = name[len(_PID) :]
        if not (
            number.isascii() and number.isdigit() and 0 < len(number.lstrip("0")) <= _MAX_PID_DIGITS
        ):
            raise InputError(path, name, "not a process number", "pid:N with N from 1")
    return name


def _resolve_one(
    name: object, proc: str, directories: Sequence[str], path: Sequence[PathStep]
) -> list[Namespace]:
    name = checked_name(name, path)
    if name == CURRENT:
        return [_current(proc)]
    if name == ALL:
        return _all(proc, directories)
    if name.startswith(_PID):
        file = f"{proc}/{name[len(_PID) :].lstrip('0')}/ns/net"
        return [Namespace(name, file, _identity(name, file))]
    return [_named(name, proc, directories)]


def _current(proc: str) -> Namespace:
    return Namespace(CURRENT, None, _identity(CURRENT, f"{proc}/{_OWN}"))


def _identity(name: str, file: str) -> Identity:
    try:
        status = os.stat(text.encode(file))
    except OSError as error:
        raise _refusal(name, error) from error
    return status.st_dev, status.st_ino


def _refusal(name: str, error: OSError) -> NamespaceNotFound | NamespaceDenied:
    number = error.errno or errno.EIO
    if number in _GONE or number == errno.EINVAL:
        return NamespaceNotFound(name)
    return NamespaceDenied(name, number)


def _named(name: str, proc: str, directories: Sequence[str]) -> Namespace:
    device = _current(proc).identity[0]
    if name.startswith("/"):
        candidates = [name]
    elif "/" in name or name in (".", ".."):
        raise NamespaceNotFound(name)
    else:
        candidates = [f"{directory}/{name}" for directory in directories]
    # A name or path as results show it has escapes for bytes that are not UTF-8.
    candidates = [spelling for each in candidates for spelling in text.spellings(each)]
    for file in candidates:
        try:
            identity = _network_namespace(file, device)
        except OSError as error:
            if error.errno in _DENIED:
                raise NamespaceDenied(name, error.errno or errno.EACCES) from error
            continue
        if identity is not None:
            return Namespace(name, file, identity)
    raise NamespaceNotFound(name)


def _network_namespace(file: str, device: int) -> Identity | None:
    """The identity of a mounted network namespace; None: another file. Raises OSError."""
    status = os.stat(text.encode(file))
    if status.st_dev != device:
        return None
    # Only nsfs has this device, so opening cannot block, and every file there has a type.
    descriptor = open_namespace_file(file, (status.st_dev, status.st_ino))
    try:
        if fcntl.ioctl(descriptor, _NS_GET_NSTYPE) != _CLONE_NEWNET:
            return None
    finally:
        os.close(descriptor)
    return status.st_dev, status.st_ino


def _all(proc: str, directories: Sequence[str]) -> list[Namespace]:
    current = _current(proc)
    device = current.identity[0]
    processes, mount_tables, entries = _of_processes(proc)
    threads = _walk.of_threads(proc, entries)
    descriptors = _walk.of_descriptors(proc, entries, device)
    found = {current.identity: current}
    for namespace in (
        *sorted(_in_directories(directories, device)),
        *(
            Namespace(f"{_PID}{pid}", f"{proc}/{pid}/ns/net", identity, explicit=False)
            for identity, pid in sorted(processes.items(), key=lambda item: item[1])
        ),
        *sorted(_mounted(proc, mount_tables, device)),
        *(
            # /proc/TID exists for threads, too.
            Namespace(f"{_PID}{tid}", f"{proc}/{pid}/task/{tid}/ns/net", identity, explicit=False)
            for identity, (pid, tid) in sorted(threads.items(), key=lambda item: item[1])
        ),
        *(
            Namespace(file, file, identity, explicit=False)
            for identity, file in sorted(descriptors.items(), key=lambda item: item[1])
        ),
    ):
        found.setdefault(namespace.identity, namespace)
    return list(found.values())


def _of_processes(proc: str) -> tuple[dict[Identity, int], list[int], list[ProcessEntry]]:
    """Find the network namespaces of processes, each with the lowest pid in it.

    Also returns one pid per mount namespace, and all processes. Some processes hide their
    namespaces even from root.
    If the network namespace of such a process is not among the found ones, the result would be
    incomplete: raises NamespaceDenied.
    """
    processes: dict[Identity, int] = {}
    mount_tables: dict[Identity, int] = {}
    hidden: dict[int, int] = {}
    entries: list[ProcessEntry] = []
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        base = f"{proc}/{pid}/ns"
        entry = read_entry(proc, pid)
        if entry is not None:
            # Also if the main thread has ended: others may not have.
            entries.append(entry)
        try:
            net = os.stat(f"{base}/net")
            mounts = os.stat(f"{base}/mnt")
        except OSError as error:
            # With one of _GONE the process has ended, or is a zombie without namespaces.
            if error.errno not in _GONE:
                hidden[pid] = error.errno or errno.EIO
            continue
        processes.setdefault((net.st_dev, net.st_ino), pid)
        mount_tables.setdefault((mounts.st_dev, mounts.st_ino), pid)
    if hidden:
        known = {_fingerprint(proc, str(pid)) for pid in ("thread-self", *processes.values())}
        for pid, number in hidden.items():
            fingerprint = _fingerprint(proc, str(pid))
            if fingerprint is not None and fingerprint not in known - {b""}:
                raise NamespaceDenied(f"{_PID}{pid}", number)
    return processes, list(mount_tables.values()), entries


def _fingerprint(proc: str, process: str) -> bytes | None:
    """An identifier of a process's network namespace that needs no privilege.

    It is the inode of the kernel's own rtnetlink socket: the last column of /proc/PID/net/netlink
    for protocol 0 and port 0 (netlink_native_seq_show). None: the process has ended. Empty:
    unknown.
    """
    try:
        with open(f"{proc}/{process}/net/netlink", "rb") as table:
            for line in table:
                fields = line.split()
                if fields[1:3] == [b"0", b"0"]:
                    return fields[-1]
    except OSError as error:
        # A zombie's is EINVAL (get_proc_task_net).
        if error.errno in (*_GONE, errno.EINVAL):
            return None
    return b""


def _in_directories(directories: Sequence[str], device: int) -> Iterator[Namespace]:
    for directory in directories:
        try:
            names = list(map(text.decode, os.listdir(text.encode(directory))))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _refusal(directory, error) from error
        for name in names:
            file = f"{directory}/{name}"
            try:
                identity = _network_namespace(file, device)
            except OSError as error:
                if error.errno in _GONE:
                    continue
                raise NamespaceDenied(name, error.errno or errno.EIO) from error
            if identity is not None:
                yield Namespace(name, file, identity, explicit=False)


def _mounted(proc: str, pids: Sequence[int], device: int) -> Iterator[Namespace]:
    """Yield the network namespaces in the mount tables of these processes (proc_pid_mountinfo(5)).

    A mount of another mount namespace is accessible through /proc/PID/root.
    """
    own = _mount_namespace(proc, "self")
    for pid in pids:
        root = "" if _mount_namespace(proc, str(pid)) == own else f"{proc}/{pid}/root"
        try:
            with open(f"{proc}/{pid}/mountinfo", "rb") as table:
                mounts = [mount for mount in mountinfo.parse(table) if mount.filesystem == b"nsfs"]
        except OSError as error:
            if error.errno in _GONE or error.errno == errno.EINVAL:
                continue
            raise NamespaceDenied(f"{_PID}{pid}", error.errno or errno.EIO) from error
        for mount in mounts:
            if not mount.root.startswith(b"net:["):
                continue
            path = root + text.decode(mount.mount_point)
            try:
                status = os.stat(text.encode(path))
            except OSError:
                # Hidden below another mount, or unmounted: not accessible.
                continue
            # Another file system may be mounted on top.
            if status.st_dev == device and b"net:[%d]" % status.st_ino == mount.root:
                identity = status.st_dev, status.st_ino
                yield Namespace(path, path, identity, explicit=False)


def _mount_namespace(proc: str, process: str) -> Identity | None:
    try:
        status = os.stat(f"{proc}/{process}/ns/mnt")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def open_netlink(namespace: Namespace, protocol: int) -> socket.socket:
    """Open a netlink socket of this protocol inside a namespace.

    While it is open, it keeps the namespace alive. If the namespace's file has another identity
    than when it was resolved (a reused pid), the namespace is not found. One that `all` found is
    first searched once more, since other processes may still be in it.
    Raises NamespaceNotFound, NamespaceDenied and NetlinkError.
    """
    return inside(namespace, lambda: _open_here(protocol))


def inside(namespace: Namespace, work: Callable[[], T]) -> T:
    """Call work() in a thread inside the namespace, and return its result.

    Raises NamespaceNotFound, NamespaceDenied, and anything that work() raises.
    """
    path = namespace.path
    if path is None or namespace.identity == _current("/proc").identity:
        return work()
    try:
        return _enter_and_work(namespace, path, work)
    except NamespaceNotFound:
        other = None if namespace.explicit else _of_another_process("/proc", namespace.identity)
        if other is None:
            raise
        return _enter_and_work(namespace, other, work)


def _of_another_process(proc: str, identity: Identity) -> str | None:
    for pid in os.listdir(proc):
        if pid.isdigit():
            file = f"{proc}/{pid}/ns/net"
            with suppress(OSError):
                status = os.stat(file)
                if (status.st_dev, status.st_ino) == identity:
                    return file
    return None


def _enter_and_work(namespace: Namespace, path: str, work: Callable[[], T]) -> T:
    done: list[T] = []
    failed: list[BaseException] = []

    def in_thread() -> None:
        try:
            _enter(namespace.name, path, namespace.identity)
            done.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the calling thread
            failed.append(error)

    thread = threading.Thread(target=in_thread, name="enter-namespace", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _open_here(protocol: int) -> socket.socket:
    try:
        return connection.open_netlink(protocol)
    except OSError as error:
        raise NetlinkError("open a netlink socket", error.errno or errno.EIO) from error


def _enter(name: str, path: str, identity: Identity) -> None:
    """Move the calling thread into the namespace."""
    try:
        descriptor = open_namespace_file(path, identity)
        try:
            _setns(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refusal(name, error) from error


def open_namespace_file(path: str, identity: Identity) -> int:
    """Open the nsfs file of a namespace; the caller closes it.

    A process can replace its descriptors and mounts by any file, and opening a device has effects.
    Nothing is opened but the file with this identity. Raises OSError, with ENOENT for another file.
    """
    found = os.open(text.encode(path), os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(found)
        if (status.st_dev, status.st_ino) != identity:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def _setns(descriptor: int) -> None:
    """setns(2) into a network namespace. Raises OSError."""
    # In the standard library since Python 3.12.
    native: Callable[[int, int], None] | None = getattr(os, "setns", None)
    if native is not None:
        native(descriptor, _CLONE_NEWNET)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
