# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: one look at a namespace through a policy: what violates it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..destroy.model import DestroyOptions
from ..destroy.planner import evaluate_guard
from ..errors import HandlerMissing, NamespaceDenied, NamespaceNotFound, SocketsError
from ..guard.owners import name_holders
from ..guard.reason import Reason
from ..host.host import Host
from ..host.namespaces import Identity, Namespace, resolve
from ..netlink import routes
from ..query import record
from ..query.find import find, load
from ..selector.prefixes import Prefix
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from .backoff import Target
from .conditions import Facts, KnownRoute
from .evidence import evidences
from .holds import Key
from .model import DESTROY, Policy, Rule

Guarded = Callable[["Violation"], bool]


class Violation(NamedTuple):
    """A socket that a rule says must not exist.

    evidence: what is wrong with it, where the rule asks for verdicts ("stranded: address_gone"),
    else what holds of the network, where the rule asks for that ("while: interface wg0 is up").
    guarded: whether the guard was asked about it; protected: why the guard protects it, or None.
    """

    rule: Rule
    socket: Socket
    evidence: tuple[str, ...] = ()
    guarded: bool = False
    protected: Reason | None = None

    @property
    def namespace(self) -> Identity:
        return self.socket.snapshot.namespace.identity

    @property
    def key(self) -> Key:
        """What tells this socket from every other of its namespace."""
        message = self.socket.message
        return message.protocol, message.cookie, message.sport, message.dport, message.dst

    @property
    def identity(self) -> tuple[Identity, Key]:
        """What tells it from every other socket of the host."""
        return self.namespace, self.key

    @property
    def target(self) -> Target:
        sock = self.socket
        return Target(
            self.namespace,
            sock.protocol,
            sock.local_address,
            sock.remote_address,
            sock.remote_port,
        )


class Judgement(NamedTuple):
    """What one look in one namespace showed, for every rule.

    began_ms, ended_ms: CLOCK_MONOTONIC. violations: in the order of the rules. conditions: what
    each rule's `while` was; true without one. failed: rules for which the sockets could not be
    looked at; the look says nothing about them. missing: the interfaces that a rule names and that
    are not there. unlisted: protocols that could have been meant, but that the kernel cannot list.
    """

    namespace: Namespace
    began_ms: int
    ended_ms: int
    violations: tuple[Violation, ...] = ()
    conditions: dict[str, bool | None] = {}  # noqa: RUF012 - never written to
    failed: dict[str, SocketsError] = {}  # noqa: RUF012
    missing: dict[str, tuple[str, ...]] = {}  # noqa: RUF012
    unlisted: frozenset[str] = frozenset()


class Unseen(NamedTuple):
    """A namespace that could not be looked at. identity: None where its name leads nowhere."""

    label: str
    identity: Identity | None
    error: SocketsError


def milliseconds(host: Host) -> int:
    """Of CLOCK_MONOTONIC."""
    return int(host.monotonic() * 1000)


def all_guarded(_violation: Violation) -> bool:
    return True


def judge(
    session: NamespaceSession,
    policy: Policy,
    *,
    guarded: Guarded = all_guarded,
    engine: str = "netlink",
    one_holder: bool = False,
) -> Judgement:
    """Look at one namespace.

    guarded(violation): whether to ask the guard about it, which costs a walk over the processes.
    It is not asked about violations of rules that only report. engine: what would destroy them,
    since some destroy more than one socket at once. one_holder: it is enough to name one process
    that holds a violating socket, which takes less time than to find all.
    The sockets are judged by one state of the network. Where that changed before the guard had
    answered, it is looked at once more, and only what violates in both looks does.
    Raises what the first requests to the kernel raise; what is raised for one rule goes to failed.
    """

    def ask_guard(known: Snapshot, found: Sequence[Violation]) -> tuple[Violation, ...]:
        asked = [each for each in found if each.rule.action == DESTROY and guarded(each)]
        if not asked:
            return tuple(found)
        options = DestroyOptions(policy.guard, engine=engine)
        return _with_guard(session, known, found, asked, options, one_holder)

    began_ms = milliseconds(session.host)
    snapshot = session.snapshot()
    judgement = _judgement(session, policy, snapshot, _facts(snapshot, policy), began_ms)
    found = ask_guard(snapshot, judgement.violations)
    if found and policy.needs:
        now = session.snapshot()
        facts = _facts(now, policy)
        if _changed(now, snapshot) or _conditions(policy, facts) != judgement.conditions:
            again = _judgement(session, policy, now, facts, began_ms)
            seen = {(each.rule.name, each.key) for each in found}
            both = [each for each in again.violations if (each.rule.name, each.key) in seen]
            found = ask_guard(now, both)
            judgement = again._replace(failed=judgement.failed | again.failed)
    return judgement._replace(violations=found, ended_ms=milliseconds(session.host))


def _facts(snapshot: Snapshot, policy: Policy) -> Facts:
    known: list[KnownRoute] | None = None
    conditions = [rule.condition for rule in policy.rules if rule.condition is not None]
    wanted = {prefix for each in conditions for fact in each.facts() for prefix in fact.prefixes}
    if wanted:
        lengths = {prefix.length for prefix in wanted}
        known = [
            route
            for route in map(_known, routes.routes(snapshot.rtnetlink, (routes.UNICAST,), lengths))
            if route is not None and route.destination in wanted
        ]
    asked = "addresses" in policy.needs
    named = policy.needs or any(rule.interfaces for rule in policy.rules)
    return Facts(snapshot.links if named else (), snapshot.addresses if asked else (), known)


def _known(route: routes.Route) -> KnownRoute | None:
    """None: it is for some sources only."""
    if route.source_length:
        return None
    return KnownRoute(
        Prefix(route.destination, route.prefix_length),
        frozenset(hop.oif for hop in route.hops) or None,
        route.priority,
        route.table,
    )


def _conditions(policy: Policy, facts: Facts) -> dict[str, bool | None]:
    return {
        rule.name: True if rule.condition is None else rule.condition.holds(facts)
        for rule in policy.rules
    }


def _judgement(
    session: NamespaceSession, policy: Policy, snapshot: Snapshot, facts: Facts, began_ms: int
) -> Judgement:
    violations: list[Violation] = []
    conditions = _conditions(policy, facts)
    failed: dict[str, SocketsError] = {}
    extensions = policy.guard.extensions | record.extensions(("verdicts",))
    for rule in policy.rules:
        if not conditions[rule.name]:
            continue
        try:
            found = find(session, rule.match, extensions=extensions, snapshot=snapshot)
        except (NamespaceNotFound, NamespaceDenied):
            raise
        except SocketsError as error:
            failed[rule.name] = error
            continue
        why = evidences(found, rule.match, rule.condition)
        violations += [Violation(rule, *each) for each in zip(found, why)]
    missing = {
        rule.name: tuple(name for name in rule.interfaces if name not in facts.links)
        for rule in policy.rules
    }
    return Judgement(
        session.namespace,
        began_ms,
        began_ms,
        tuple(violations),
        conditions,
        failed,
        {name: names for name, names in missing.items() if names},
        frozenset(session.unlisted)
        | {error.protocol for error in failed.values() if isinstance(error, HandlerMissing)},
    )


def _changed(now: Snapshot, before: Snapshot) -> bool:
    """Whether interfaces or addresses are others than before, as far as a policy can tell."""

    def shape(snapshot: Snapshot) -> tuple[object, object]:
        return (
            {(link.ifindex, link.name, link.up) for link in snapshot.links},
            {(each.address, each.ifindex) for each in snapshot.addresses},
        )

    return shape(now) != shape(before)


def _with_guard(
    session: NamespaceSession,
    snapshot: Snapshot,
    violations: Sequence[Violation],
    asked: Sequence[Violation],
    options: DestroyOptions,
    one_holder: bool,
) -> tuple[Violation, ...]:
    """The violations, those that the guard is asked about with what it says."""
    keys = [each.key for each in asked]
    by_key = {key: each.socket for key, each in zip(keys, asked)}
    sockets = list(by_key.values())
    # So that what is logged of them names who holds them.
    if one_holder and snapshot.owners is None:
        name_holders(snapshot, {each.message.inode for each in sockets} - {0})
    else:
        load(session, snapshot, ("owners",), sockets)
    targets = dict(zip(by_key, evaluate_guard(session, options, snapshot, sockets)))
    told = [
        Violation(each.rule, each.socket, each.evidence, True, targets[key].protected_by)
        for key, each in zip(keys, asked)
    ]
    if len(told) == len(violations):
        return tuple(told)
    guarded_ones = dict(zip(map(id, asked), told))
    return tuple(guarded_ones.get(id(each), each) for each in violations)


def look_at_all(
    host: Host,
    policy: Policy,
    *,
    guarded: Guarded = all_guarded,
    engine: str = "netlink",
    one_holder: bool = False,
) -> list[Judgement | Unseen]:
    """Look at every namespace that the policy names, each once; nothing stays open in any.

    One that cannot be looked at, or is not there, is Unseen; one that `all` found, and that is gone
    by now, is left out.
    """
    looks: list[Judgement | Unseen] = []
    namespaces: dict[Identity, Namespace] = {}
    for index, name in enumerate(policy.namespaces):
        try:
            found = resolve(
                [name],
                proc=host.proc,
                directories=host.netns_directories,
                path=("namespaces", index),
            )
        except SocketsError as error:
            looks.append(Unseen(name, None, error))
            continue
        for namespace in found:
            namespaces.setdefault(namespace.identity, namespace)
    for namespace in namespaces.values():
        try:
            with NamespaceSession(host, namespace) as session:
                looks.append(
                    judge(session, policy, guarded=guarded, engine=engine, one_holder=one_holder)
                )
        except NamespaceNotFound as error:
            if namespace.explicit:
                looks.append(Unseen(namespace.name, namespace.identity, error))
        except SocketsError as error:
            looks.append(Unseen(namespace.name, namespace.identity, error))
    return looks


def missing_interfaces(looks: Sequence[Judgement]) -> dict[str, list[str]]:
    """By rule: the interfaces that it names and that are in none of these namespaces: perhaps
    misspelt."""
    found: dict[str, list[str]] = {}
    for rule in sorted({name for look in looks for name in look.missing}):
        nowhere = set.intersection(*(set(look.missing.get(rule, ())) for look in looks))
        if nowhere:
            found[rule] = sorted(nowhere)
    return found
