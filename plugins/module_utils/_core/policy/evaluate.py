# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Evaluation of a policy: take a snapshot of a namespace and find its violations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..destroy.model import DestroyOptions
from ..destroy.planner import evaluate_guard
from ..errors import HandlerMissing, NamespaceDenied, NamespaceNotFound, NotEvaluated, SocketsError
from ..guard.holders import load_one_owner
from ..guard.owner_index import OwnerIndex
from ..host.host import Host
from ..host.namespaces import Identity, Namespace, resolve
from ..query import record
from ..query.find import find, load
from ..selector.parse import Selector
from ..selector.predicates.verdict import StrandedIs, StuckIs, SupersededAfter
from ..selector.tree import All, Node, Predicate, predicates
from ..sockets.needs import Need
from ..sockets.session import NamespaceSession
from ..sockets.snapshot import Snapshot
from ..sockets.socket import Socket
from ..verdicts import stuck
from ..verdicts.route_state import ROUTES
from ..verdicts.stranded import REROUTED
from ..verdicts.superseded import PEERS
from .conditions import Condition, NetworkState
from .findings import Evaluation, Violation
from .loopback import without_loopback
from .model import DESTROY, Policy
from .route_candidates import load_candidates

# Whether to evaluate the guard for a violation.
NeedsGuard = Callable[[Violation], bool]


@dataclass(frozen=True)
class PassOptions:
    """Options of a reconcile pass.

    inhibited_by: why nothing may be destroyed now; None: the policy decides. check: destroy
    nothing, and predict the outcomes. engine: a name from engines.registry; None: that of the
    policy. owner_index: look up one owner of each violating socket only, with the bounds of this
    index; None: all. omit_loopback: if the guard protects `loopback`, rules that destroy do not
    list these sockets as protected; they are no violations.
    """

    inhibited_by: str | None = None
    check: bool = False
    engine: str | None = None
    owner_index: OwnerIndex | None = None
    omit_loopback: bool = False


DEFAULT_OPTIONS = PassOptions()


def monotonic_ms(host: Host) -> int:
    """CLOCK_MONOTONIC in milliseconds."""
    return int(host.monotonic() * 1000)


def always(_violation: Violation) -> bool:
    return True


def evaluate_all(
    host: Host,
    policy: Policy,
    *,
    needs_guard: NeedsGuard = always,
    options: PassOptions = DEFAULT_OPTIONS,
) -> list[Evaluation | NotEvaluated]:
    """Evaluate every namespace of the policy once. Leaves no descriptor open in any of them.

    Errors become NotEvaluated. A namespace that `all` found but that has ceased to exist since is
    left out.
    """
    namespaces, evaluations = resolve_namespaces(host, policy)
    for namespace in namespaces:
        evaluation = evaluate_in(host, policy, namespace, needs_guard=needs_guard, options=options)
        if evaluation is not None:
            evaluations.append(evaluation)
    return evaluations


def resolve_namespaces(
    host: Host, policy: Policy
) -> tuple[list[Namespace], list[Evaluation | NotEvaluated]]:
    """Return the namespaces of the policy, each once, and why there are not more."""
    errors: list[Evaluation | NotEvaluated] = []
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
            errors.append(NotEvaluated(name, None, error))
            continue
        for namespace in found:
            namespaces.setdefault(namespace.identity, namespace)
    return list(namespaces.values()), errors


def evaluate_in(
    host: Host,
    policy: Policy,
    namespace: Namespace,
    *,
    needs_guard: NeedsGuard = always,
    options: PassOptions = DEFAULT_OPTIONS,
) -> Evaluation | NotEvaluated | None:
    """Evaluate a namespace, and leave no descriptor open in it.

    None: `all` found it, but it has ceased to exist since.
    """
    try:
        with NamespaceSession(host, namespace) as session:
            return evaluate(session, policy, needs_guard=needs_guard, options=options)
    except SocketsError as error:
        if not namespace.explicit and isinstance(error, NamespaceNotFound):
            return None
        return NotEvaluated(namespace.name, None, error, namespace.identity)


def evaluate(
    session: NamespaceSession,
    policy: Policy,
    *,
    needs_guard: NeedsGuard = always,
    options: PassOptions = DEFAULT_OPTIONS,
) -> Evaluation:
    """Evaluate all rules in one namespace.

    needs_guard: evaluating the guard requires a walk over all processes, so the caller can limit it
    to violations that may be destroyed. It is never evaluated for rules with action report.
    options.engine: some engines destroy more than one socket at once, which the guard considers.

    All rules use one snapshot. If the network changed before the guard was evaluated, a second
    snapshot follows, and only violations in both count.
    Raises the errors of the snapshot; errors of a single rule go to Evaluation.failed.
    """

    def apply_guard(snapshot: Snapshot, found: Sequence[Violation]) -> tuple[Violation, ...]:
        checked = [each for each in found if each.rule.action == DESTROY and needs_guard(each)]
        if not checked:
            return tuple(found)
        destroy_options = DestroyOptions(policy.guard, options.engine or policy.engine)
        return _with_guard(session, snapshot, found, checked, destroy_options, options.owner_index)

    began_ms = monotonic_ms(session.host)
    snapshot = session.snapshot()
    network = _network(snapshot, policy)
    conditions = _conditions(policy, network)
    omit_loopback = options.omit_loopback and policy.guard.loopback
    evaluation = _evaluate(session, policy, snapshot, network, began_ms, omit_loopback)
    violations = apply_guard(snapshot, evaluation.violations)
    if violations and policy.needs:
        latest = session.snapshot()
        network = _network(latest, policy)
        interfaces_changed = _interfaces(latest) != _interfaces(snapshot)
        if interfaces_changed or conditions != _conditions(policy, network):
            second = _evaluate(session, policy, latest, network, began_ms, omit_loopback)
            first = {(each.rule.name, each.key) for each in violations}
            in_both = [each for each in second.violations if (each.rule.name, each.key) in first]
            violations = apply_guard(latest, in_both)
            evaluation = second._replace(failed=evaluation.failed | second.failed)
    return evaluation._replace(violations=violations, ended_ms=monotonic_ms(session.host))


def _evaluate(
    session: NamespaceSession,
    policy: Policy,
    snapshot: Snapshot,
    network: NetworkState,
    began_ms: int,
    omit_loopback: bool,
) -> Evaluation:
    """The evaluation without the guard."""
    violations: list[Violation] = []
    conditions = _conditions(policy, network)
    failed: dict[str, SocketsError] = {}
    extensions = policy.guard.extensions | record.extensions(("verdicts",))
    for rule in policy.rules:
        by_size = conditions[rule.name]
        if True not in by_size.values():
            continue
        try:
            selector = rule.match
            if omit_loopback and rule.action == DESTROY:
                selector = without_loopback(selector, snapshot)
            sockets = find(session, selector, extensions=extensions, snapshot=snapshot)
        except (NamespaceNotFound, NamespaceDenied):
            raise
        except SocketsError as error:
            failed[rule.name] = error
            continue
        sockets = [sock for sock in sockets if by_size[len(sock.remote_address)]]
        evidence = _evidence(sockets, rule.match, rule.condition)
        violations += [Violation(rule, *each) for each in zip(sockets, evidence)]
    missing = {
        rule.name: (
            *(name for name in rule.interfaces if name not in network.links),
            *(() if rule.condition is None else rule.condition.other_kinds(network)),
        )
        for rule in policy.rules
    }
    return Evaluation(
        session.namespace,
        began_ms,
        began_ms,
        tuple(violations),
        {name: _either(by_size.values()) for name, by_size in conditions.items()},
        failed,
        {rule: names for rule, names in missing.items() if names},
        frozenset(session.unlisted)
        | {error.protocol for error in failed.values() if isinstance(error, HandlerMissing)},
        frozenset(link.name for link in network.links.values()),
        _packet_marks(policy, snapshot),
        tuple(dict.fromkeys(network.links.values())),
        network.addresses,
    )


def _packet_marks(policy: Policy, snapshot: Snapshot) -> bool:
    """Whether `rerouted` of a rule is unknown, because the packet filter may set marks."""
    route_state = snapshot.get(ROUTES)
    return (
        route_state is not None
        and route_state.ignores_packet_marks
        and any(
            stranded.verdict == REROUTED
            for rule in policy.rules
            for predicate in predicates(rule.match.root)
            if isinstance(predicate, StrandedIs)
            for stranded in predicate.verdicts
        )
    )


def _network(snapshot: Snapshot, policy: Policy) -> NetworkState:
    """Load the network data that the policy needs; of the routes those in conditions only."""
    conditions = [rule.condition for rule in policy.rules if rule.condition is not None]
    prefixes = {
        prefix for condition in conditions for fact in condition.facts() for prefix in fact.prefixes
    }
    needs_links = policy.needs or any(rule.interfaces for rule in policy.rules)
    return NetworkState(
        snapshot.links if needs_links else (),
        snapshot.addresses if Need.ADDRESSES in policy.needs else (),
        load_candidates(snapshot, prefixes) if prefixes else None,
    )


_ALWAYS: dict[int, bool | None] = {4: True, 16: True}


def _conditions(policy: Policy, network: NetworkState) -> dict[str, dict[int, bool | None]]:
    """By rule and address size, whether the condition is true for sockets of the family."""
    return {
        rule.name: _ALWAYS if rule.condition is None else rule.condition.holds_by_family(network)
        for rule in policy.rules
    }


def _either(values: Iterable[bool | None]) -> bool | None:
    found = set(values)
    return True if True in found else None if None in found else False


def _interfaces(snapshot: Snapshot) -> tuple[object, object]:
    """Links and addresses, as far as a policy depends on them."""
    return (
        {(link.ifindex, link.names, link.up) for link in snapshot.links},
        {
            (address.address, address.ifindex, address.is_duplicate)
            for address in snapshot.addresses
        },
    )


def _with_guard(
    session: NamespaceSession,
    snapshot: Snapshot,
    violations: Sequence[Violation],
    checked: Sequence[Violation],
    options: DestroyOptions,
    owner_index: OwnerIndex | None,
) -> tuple[Violation, ...]:
    """Evaluate the guard for the `checked` ones; the other violations stay as they are."""
    keys = [each.key for each in checked]
    by_key = {key: each.socket for key, each in zip(keys, checked)}
    sockets = list(by_key.values())
    # Loads owners even if no guard rule needs them: journal entries name the owner.
    if owner_index is not None and snapshot.owners is None:
        users = {each.message.inode: each.message.uid for each in sockets if each.message.inode}
        load_one_owner(snapshot, users, owner_index)
    else:
        load(session, snapshot, (Need.OWNERS,), sockets)
    targets = dict(zip(by_key, evaluate_guard(session, options, snapshot, sockets)))
    guarded = [
        Violation(each.rule, each.socket, each.evidence, True, targets[key].protected_by)
        for key, each in zip(keys, checked)
    ]
    if len(guarded) == len(violations):
        return tuple(guarded)
    by_id = dict(zip(map(id, checked), guarded))
    return tuple(by_id.get(id(each), each) for each in violations)


_VERDICTS = (StuckIs, StrandedIs, SupersededAfter)


def _evidence(
    sockets: Sequence[Socket], selector: Selector, condition: Condition | None
) -> list[tuple[str, ...]]:
    """The evidence of each socket. Every socket matches the selector.

    Verdicts of the selector that hold ("stranded: no_carrier"); without any, the condition
    ("while: interface wg0 is up"). The data of the verdicts must be loaded.
    """
    default = () if condition is None else (f"while: {condition.text}",)
    return [verdicts or default for verdicts in _verdicts(sockets, selector)]


def _verdicts(sockets: Sequence[Socket], selector: Selector) -> list[tuple[str, ...]]:
    found = [each for each in predicates(selector.root) if isinstance(each, _VERDICTS)]
    if not found:
        return [()] * len(sockets)
    # The common case: every matching socket has the same verdicts, so none is evaluated again.
    implied = [text for each in _conjuncts(selector.root) for text in _only_verdict(each)]
    if len(implied) == len(found):
        return [tuple(dict.fromkeys(implied))] * len(sockets)
    return [
        tuple(dict.fromkeys([text for each in found for text in _held_verdicts(sock, each)]))
        for sock in sockets
    ]


def _conjuncts(node: Node) -> Iterator[Predicate]:
    """Predicates that are true for each socket for which the tree is."""
    if isinstance(node, Predicate):
        yield node
    elif isinstance(node, All):
        for child in node.children:
            yield from _conjuncts(child)


def _only_verdict(predicate: Predicate) -> Iterator[str]:
    """The verdict of a predicate that selects a single one."""
    if isinstance(predicate, StuckIs) and len(predicate.verdicts) == 1:
        yield f"stuck: {predicate.verdicts[0].verdict}"
    elif isinstance(predicate, StrandedIs) and len(predicate.verdicts) == 1:
        yield f"stranded: {predicate.verdicts[0].verdict}"
    elif isinstance(predicate, SupersededAfter):
        yield "superseded"


def _held_verdicts(sock: Socket, predicate: Predicate) -> Iterator[str]:
    """Verdicts of a predicate that hold for a socket."""
    if isinstance(predicate, StuckIs):
        for verdict, for_ms in predicate.verdicts:
            if stuck.evaluate(sock, verdict, for_ms):
                yield f"stuck: {verdict}"
    elif isinstance(predicate, StrandedIs):
        route_state = sock.snapshot.get(ROUTES)
        for stranded in predicate.verdicts:
            if route_state is not None and route_state.evaluate(
                sock, stranded.verdict, stranded.to
            ):
                yield f"stranded: {stranded.verdict}"
    elif isinstance(predicate, SupersededAfter):
        peers = sock.snapshot.get(PEERS)
        if peers is not None and peers.evaluate(sock, predicate.silent_ms):
            yield "superseded"
