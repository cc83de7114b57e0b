# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: look at the sockets of a namespace and keep those that are meant."""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterator

from . import vocabulary
from .environment import Environment
from .errors import HandlerMissing, NetlinkError
from .host import Host
from .namespaces import Namespace
from .selector.parse import Selector
from .subject import Subject
from .wire import inet_diag
from .wire.netlink import NETLINK_ROUTE, NETLINK_SOCK_DIAG, Connection


class View:
    """One namespace, opened for looking; a context manager that leaves nothing open in it.

    unlisted: the protocols that could have been meant, but that this kernel cannot list.
    """

    def __init__(self, host: Host, namespace: Namespace) -> None:
        self.host = host
        self.namespace = namespace
        self.unlisted: set[str] = set()
        self._diag: Connection | None = None
        self._route: Connection | None = None

    @property
    def diag(self) -> Connection:
        if self._diag is None:
            self._diag = Connection(self.host.open_netlink(self.namespace, NETLINK_SOCK_DIAG))
        return self._diag

    @property
    def route(self) -> Connection:
        if self._route is None:
            self._route = Connection(self.host.open_netlink(self.namespace, NETLINK_ROUTE))
        return self._route

    def environment(self) -> Environment:
        """A fresh one: what it tells is of one moment."""
        return Environment(self.host, self.namespace, lambda: self.route)

    def close(self) -> None:
        for connection in (self._diag, self._route):
            if connection is not None:
                connection.close()
        self._diag = self._route = None

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


def find(
    view: View,
    selector: Selector,
    *,
    extensions: int = 0,
    owners: bool = False,
    environment: Environment | None = None,
) -> list[Subject]:
    """The sockets of the view's namespace for which the selector is true.

    extensions: more bits of idiag_ext to ask for than the selector needs. owners: find who holds
    those that matched. environment: judge by this one instead of a fresh one.
    A protocol that the selector names and the kernel cannot list raises HandlerMissing; one that it
    merely admits goes to view.unlisted. Raises what Connection.dump raises.
    """
    if environment is None:
        environment = view.environment()
    socks: list[inet_diag.Sock] = []
    for protocol in selector.protocols:
        try:
            for name in selector.families:
                socks += _listed(view, selector, environment, protocol, name, extensions)
        except HandlerMissing:
            if selector.names_protocol:
                raise
            view.unlisted.add(protocol)
    subjects = [Subject(sock, environment) for sock in socks]
    if "owners" in selector.needs:
        subjects = _with_owners(subjects, selector, environment)
    matches = selector.bind(environment)
    found = [subject for subject in subjects if matches(subject)]
    for subject in found:
        if subject.ifindex:
            # Asked while the view is open, so that records can be made when it is closed.
            environment.interface_name(subject.ifindex)
            break
    if owners and environment.owners is None:
        environment.load_owners({subject.inode for subject in found} - {0})
    return found


def _with_owners(
    subjects: list[Subject], selector: Selector, environment: Environment
) -> list[Subject]:
    """Those that may match once their owners are known; only their owners are looked for."""
    matches = selector.bind(environment)
    possible = [subject for subject in subjects if matches(subject) is not False]
    environment.load_owners({subject.inode for subject in possible} - {0})
    return possible


def _listed(
    view: View,
    selector: Selector,
    environment: Environment,
    protocol: str,
    family: str,
    extensions: int,
) -> list[inet_diag.Sock]:
    """What the kernel's filter leaves: at least every socket for which the selector is true."""
    number = vocabulary.FAMILIES[family]
    states = selector.states(protocol)
    wanted = selector.extensions | extensions
    for programs in _programs(selector, environment, protocol, family):
        dumps: list[list[inet_diag.Sock]] = []
        try:
            for program in programs:
                dumps.append(inet_diag.dump(view.diag, protocol, number, states, wanted, program))
        except NetlinkError as error:
            # An op that this kernel does not know, or may not be used by this caller
            # (inet_diag_bc_audit): filter less in the kernel.
            if error.errno not in (errno.EINVAL, errno.EPERM) or not any(programs):
                raise
            continue
        if len(dumps) == 1:
            return dumps[0]
        return list({sock.cookie: sock for dump in dumps for sock in dump}.values())
    raise AssertionError("the last attempt filters nothing in the kernel")


def _programs(
    selector: Selector, environment: Environment, protocol: str, family: str
) -> Iterator[Collection[bytes]]:
    """The filters to try, the best first, none at all last."""
    yield selector.programs(environment, protocol, family)
    yield selector.programs(environment, protocol, family, exact_ops=False)
    yield [b""]
