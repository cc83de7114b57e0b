# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
Find, drain and destroy the sockets of a minion.

.. code-block:: bash

    salt '*' sockets.list remote_port=5432 stuck=close_wait
    salt '*' sockets.destroy remote=198.51.100.7 test=True
    salt '*' sockets.destroy remote=198.51.100.7

The keys of a selector are keyword arguments. Write nested selectors as ``match``. A socket has to
match both.

.. code-block:: bash

    salt '*' sockets.list state=established match='{not: {remote: [10.0.0.0/8, 192.168.0.0/16]}}'

Results have ``warnings`` and ``failures``, which are lists of sentences. A function that has
failures sets the return code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import salt.exceptions
import salt.utils.files
import salt.utils.yaml

from saltext.linuxnet_sockets import operations, policy_pillar

if operations.AVAILABLE:
    # Salt would offer functions that are imported by name as functions of this module.
    from linuxnet_sockets import api, values
    from linuxnet_sockets.agent import requests

if TYPE_CHECKING:
    __context__: dict[str, Any]
    __opts__: dict[str, Any]
    __pillar__: dict[str, Any]
    __salt__: dict[str, Callable[..., Any]]

__virtualname__ = "sockets"

__func_alias__ = {"list_": "list"}

_FAILED = 1
_NOT_RUNNING = 3


def __virtual__() -> str | tuple[bool, str]:
    return __virtualname__ if operations.AVAILABLE else operations.MISSING


def list_(
    match: Any = operations.NO_MATCH,
    namespaces: Any = None,
    details: Any = None,
    group_by: str | None = None,
    limit: int | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    List the sockets that match a selector. Without a selector, list the sockets that ``ss`` shows.

    .. versionadded:: 0.1.0

    match
        A selector, in addition to the keyword arguments.
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    details
        Additional information for each socket: ``info``, ``memory``, ``process``, ``verdicts``.
    group_by
        A key of the records by which ``summary`` counts too.
    limit
        The longest length of the list (default: 1000). ``matched`` counts all.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.list remote_port=5432 stuck=close_wait
        salt '*' sockets.list state=established details=process limit=20
        salt '*' sockets.list group_by=remote limit=0
    """
    return _call(
        api.find,
        match=operations.selector(match, selector),
        namespaces=namespaces,
        details=details,
        group_by=group_by,
        limit=limit,
    )


def stuck(
    stuck: Any = None,
    match: Any = operations.NO_MATCH,
    namespaces: Any = None,
    limit: int | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    Report the connections that are stuck, with the evidence. The worst come first.

    .. versionadded:: 0.1.0

    stuck
        Verdicts (default: all): ``zero_window``, ``retransmitting``, ``silent``, ``close_wait``,
        ``fin_wait``, ``syn_sent``, ``orphaned``.
    match
        A selector that the connections must match too, in addition to the keyword arguments.
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    limit
        The largest number of connections to describe (default: 1000). ``matched`` counts all.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.stuck
        salt '*' sockets.stuck close_wait remote_port=5432
        salt '*' sockets.stuck '{verdict: zero_window, for: 5m}'
    """
    return _call(
        api.stuck_report,
        match=operations.selector(match, selector),
        stuck=stuck,
        stranded=(),
        namespaces=namespaces,
        limit=limit,
    )


def stranded(
    stranded: Any = None,
    match: Any = operations.NO_MATCH,
    namespaces: Any = None,
    limit: int | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    Report the connections whose network is gone, with the evidence. The worst come first.

    .. versionadded:: 0.1.0

    stranded
        Verdicts (default: all): ``address_gone``, ``unroutable``, ``no_carrier``, ``rerouted``.
    match
        A selector that the connections must match too, in addition to the keyword arguments.
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    limit
        The largest number of connections to describe (default: 1000). ``matched`` counts all.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.stranded
        salt '*' sockets.stranded address_gone protocol='[tcp, udp]'
    """
    return _call(
        api.stuck_report,
        match=operations.selector(match, selector),
        stuck=(),
        stranded=stranded,
        namespaces=namespaces,
        limit=limit,
    )


def report(
    match: Any = operations.NO_MATCH,
    stuck: Any = None,
    stranded: Any = None,
    superseded_ports: Any = None,
    silent_for: Any = None,
    namespaces: Any = None,
    limit: int | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    Report the connections that are stuck, stranded or superseded. The worst come first.

    .. versionadded:: 0.1.0

    match
        A selector that the connections must match too, in addition to the keyword arguments.
    stuck
        Verdicts to report (default: all), as in ``sockets.stuck``.
    stranded
        Verdicts to report (default: all), as in ``sockets.stranded``.
    superseded_ports
        Local ports of services whose superseded connections to report.
    silent_for
        How long a superseded connection must be silent (default: 30s).
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    limit
        The largest number of connections to describe (default: 1000). ``matched`` counts all.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.report
        salt '*' sockets.report remote=10.0.0.0/8 superseded_ports=22
    """
    return _call(
        api.stuck_report,
        match=operations.selector(match, selector),
        stuck=stuck,
        stranded=stranded,
        superseded_ports=superseded_ports,
        silent_for=silent_for,
        namespaces=namespaces,
        limit=limit,
    )


def destroy(
    match: Any = operations.NO_MATCH,
    namespaces: Any = None,
    protect: Mapping[str, Any] | None = None,
    max_sockets: Any = None,
    pace: Any = None,
    engine: str | None = None,
    limit: int | None = None,
    test: bool | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    Destroy the sockets that match a selector, except those that the guard protects.

    The guard protects the minion's connection to its master and all SSH sessions, among others. If
    sockets that should be destroyed still exist, the function sets the return code.

    .. versionadded:: 0.1.0

    match
        A selector, in addition to the keyword arguments. Together they need a key beyond
        ``protocol`` and ``family``.
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    protect
        Rules of the guard to switch off, such as ``{loopback: false}``, and ``selectors`` of more
        sockets to protect.
    max_sockets
        A number, or a share such as ``25%``. If more would be destroyed, none is.
    pace
        The highest rate, such as ``100/s`` (default: no limit).
    engine
        ``netlink`` (default), ``bpf``, ``pidfd``, or ``auto``.
    limit
        The longest length of each list (default: 1000). ``outcomes`` counts all.
    test
        Report the expected outcomes and change nothing (default: the minion's option ``test``).

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.destroy remote=198.51.100.7 test=True
        salt '*' sockets.destroy remote=198.51.100.7 max_sockets=50
        salt '*' sockets.destroy remote=10.20.0.0/16 idle=10m pace=20/s
    """
    return _call(
        api.destroy,
        match=operations.selector(match, selector),
        namespaces=namespaces,
        protect=protect,
        max_sockets=max_sockets,
        pace=pace,
        engine=engine,
        limit=limit,
        check=_test_mode(test),
    )


def drain(
    match: Any = operations.NO_MATCH,
    namespaces: Any = None,
    protect: Mapping[str, Any] | None = None,
    max_sockets: Any = None,
    pace: Any = None,
    engine: str | None = None,
    until: str | None = None,
    settle: Any = None,
    grace: Any = None,
    destroy: bool | None = None,
    arrivals: str | None = None,
    step: Any = None,
    resume: Mapping[str, Any] | None = None,
    limit: int | None = None,
    test: bool | None = None,
    **selector: Any,
) -> dict[str, Any]:
    """
    Wait until the sockets that match a selector have closed, then destroy the rest.

    The function returns when all have closed, at the latest after ``grace`` (default: 60s). The
    command ``salt`` waits five seconds before it asks whether the job still runs. For a long drain,
    give it a longer timeout (``-t``), or start the job with ``--async`` and look it up later with
    ``salt-run jobs.lookup_jid``. With ``step``, the function returns earlier. Then call it again
    with all options as they were, and with the value of ``resume`` from the result.

    .. versionadded:: 0.1.0

    match
        A selector, in addition to the keyword arguments. Together they need a key beyond
        ``protocol`` and ``family``.
    namespaces, protect, max_sockets, pace, engine, limit
        As in ``sockets.destroy``.
    until
        ``closed`` (default) waits until a connection has closed. ``sent`` also accepts that nothing
        is in flight.
    settle
        How long a connection must have transferred no data, for ``until=sent`` (default: 1s).
        Set it longer than the slowest request: while a server works on one, the connection
        looks idle.
    grace
        The longest time to wait (default: 60s).
    destroy
        Whether to destroy the connections that are left (default: True).
    arrivals
        How to handle connections that start to match during the drain: ``include`` (default),
        ``ignore``, or ``fail``.
    step
        Return after this time even if the drain is not finished.
    resume
        The value of ``resume`` in the result of the step before.
    test
        Report the expected outcomes, wait for nothing and change nothing (default: the minion's
        option ``test``).

    CLI Example:

    .. code-block:: bash

        salt -t 90 '*' sockets.drain local_port=8080
        salt --async '*' sockets.drain local_port=8080 grace=10m until=sent
        salt -t 90 '*' sockets.drain local_port=8080 destroy=False
    """
    return _call(
        api.drain,
        match=operations.selector(match, selector),
        namespaces=namespaces,
        protect=protect,
        max_sockets=max_sockets,
        pace=pace,
        engine=engine,
        until=until,
        settle=settle,
        grace=grace,
        destroy=destroy,
        arrivals=arrivals,
        step=step,
        resume=resume,
        limit=limit,
        check=_test_mode(test),
    )


def support(namespace: str | None = None) -> dict[str, Any]:
    """
    Report which sockets the kernel can list and destroy for the minion.

    .. versionadded:: 0.1.0

    namespace
        The network namespace to ask in: ``current`` (default), a name, ``pid:N``, or a path.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.support
    """
    return _call(api.support, namespace=namespace)


def policy_check(
    policy: Any = None, pillar_key: str | None = None, resolve_names: bool | None = None
) -> dict[str, Any]:
    """
    Check a policy. If it is invalid, ``errors`` says why, and the function sets the return code.

    .. versionadded:: 0.1.0

    policy
        A policy document, the path of a file with one, or a ``salt://`` URL (default: the pillar).
    pillar_key
        The key of the policy in the pillar (default: ``linuxnet_sockets:policy``).
    resolve_names
        Whether users and services must exist on the minion (default: True).

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.policy_check
        salt '*' sockets.policy_check salt://sockets/policy.yml
    """
    result = _call(
        api.check_policy, policy=_policy(policy, pillar_key), resolve_names=resolve_names
    )
    if not result["valid"]:
        __context__["retcode"] = _FAILED
    return result


def policy_plan(policy: Any = None, pillar_key: str | None = None) -> dict[str, Any]:
    """
    Report which sockets violate a policy, and what enforcing it would destroy. Change nothing.

    .. versionadded:: 0.1.0

    policy
        A policy document, the path of a file with one, or a ``salt://`` URL (default: the pillar).
    pillar_key
        The key of the policy in the pillar (default: ``linuxnet_sockets:policy``).

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.policy_plan
        salt '*' sockets.policy_plan /etc/linuxnet-sockets/policy.json
    """
    return _call(api.plan_policy, policy=_policy(policy, pillar_key))


def policy_firewall(policy: Any = None, pillar_key: str | None = None) -> dict[str, Any]:
    """
    Return nftables rules that reject new connections which would violate a policy. Load nothing.

    .. versionadded:: 0.1.0

    policy
        A policy document, the path of a file with one, or a ``salt://`` URL (default: the pillar).
    pillar_key
        The key of the policy in the pillar (default: ``linuxnet_sockets:policy``).

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.policy_firewall
        salt '*' sockets.policy_firewall /etc/linuxnet-sockets/policy.json
    """
    return _call(api.firewall_rules, policy=_policy(policy, pillar_key))


def policy_enforce(
    policy: Any = None,
    pillar_key: str | None = None,
    engine: str | None = None,
    limit: int | None = None,
    test: bool | None = None,
) -> dict[str, Any]:
    """
    Enforce a policy once: wait until the holds of its violations are over, then destroy them.

    .. versionadded:: 0.1.0

    policy
        A policy document, the path of a file with one, or a ``salt://`` URL (default: the pillar).
    pillar_key
        The key of the policy in the pillar (default: ``linuxnet_sockets:policy``).
    engine
        ``netlink``, ``pidfd``, or ``auto`` (default: the engine of the policy).
    limit
        The longest length of each list (default: 1000). Counts always cover all sockets.
    test
        Report the expected outcomes and change nothing (default: the minion's option ``test``).

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.policy_enforce test=True
        salt '*' sockets.policy_enforce salt://sockets/policy.yml
    """
    return _call(
        api.enforce_policy,
        policy=_policy(policy, pillar_key),
        engine=engine,
        limit=limit,
        check=_test_mode(test),
    )


def agent_status(
    state_directory: str | None = None, runtime_directory: str | None = None
) -> dict[str, Any]:
    """
    Report whether the agent runs, whether it enforces its policy, and the violations.

    The function sets the return code to 1 if the agent is not healthy, and to 3 if none runs.

    .. versionadded:: 0.1.0

    state_directory, runtime_directory
        The agent's directories, if they are not the default ones.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.agent_status
    """
    directories = _directories(state_directory, runtime_directory)
    with operations.errors_for_salt():
        result: dict[str, Any] = requests.status(directories.runtime)
    if not result["running"]:
        __context__["retcode"] = _NOT_RUNNING
    elif not result.get("healthy"):
        __context__["retcode"] = _FAILED
    return result


def agent_pause(
    reason: str = "",
    duration: Any = None,
    state_directory: str | None = None,
    runtime_directory: str | None = None,
) -> dict[str, Any]:
    """
    Pause the agent: it destroys nothing until ``sockets.agent_resume``.

    .. versionadded:: 0.1.0

    reason
        A text that the agent shows in its status and in its log.
    duration
        End the pause after this time, such as ``10m`` (default: when resumed).
    state_directory, runtime_directory
        The agent's directories, if they are not the default ones.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.agent_pause reason='network maintenance' duration=2h
    """
    directories = _directories(state_directory, runtime_directory)
    with operations.errors_for_salt():
        for_s = (
            None if duration is None else values.parse_duration_ms(duration, ("duration",)) / 1000
        )
        answer = requests.pause(directories, reason=str(reason), for_s=for_s)
    return {"paused": answer.done, "running": answer.running}


def agent_resume(
    state_directory: str | None = None, runtime_directory: str | None = None
) -> dict[str, Any]:
    """
    End the pause of the agent. ``resumed`` is False if it was not paused.

    .. versionadded:: 0.1.0

    state_directory, runtime_directory
        The agent's directories, if they are not the default ones.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.agent_resume
    """
    with operations.errors_for_salt():
        answer = requests.resume(_directories(state_directory, runtime_directory))
    return {"resumed": answer.done, "running": answer.running}


def agent_confirm(
    digest: str | None = None,
    state_directory: str | None = None,
    runtime_directory: str | None = None,
) -> dict[str, Any]:
    """
    Confirm the policy on trial: it stays in force. ``confirmed`` is False if none is on trial.

    .. versionadded:: 0.1.0

    digest
        Fail if the policy on trial has another digest.
    state_directory, runtime_directory
        The agent's directories, if they are not the default ones.

    CLI Example:

    .. code-block:: bash

        salt '*' sockets.agent_confirm
    """
    directories = _directories(state_directory, runtime_directory)
    with operations.errors_for_salt():
        answer = requests.confirm(directories, digest=None if digest is None else str(digest))
    return {"confirmed": answer.done, "running": answer.running}


def _call(operation: Callable[..., Any], **options: Any) -> dict[str, Any]:
    """The result of an operation. Sets the return code if it has failures."""
    result = operations.call(operation, **options)
    if result["failures"]:
        __context__["retcode"] = _FAILED
    return result


def _test_mode(test: Any) -> bool:
    with operations.errors_for_salt():
        return operations.test_mode(test, __opts__)


def _directories(state: str | None, runtime: str | None) -> requests.Directories:
    default = requests.Directories()
    return requests.Directories(state or default.state, runtime or default.runtime)


def _policy(given: Any, pillar_key: str | None) -> Any:
    """The policy document that a function works on."""
    if isinstance(given, str):
        return _read_policy(given)
    policy = policy_pillar.policy(given, pillar_key, __pillar__)
    if policy is None:
        raise salt.exceptions.CommandExecutionError(policy_pillar.missing(pillar_key))
    return policy


def _read_policy(source: str) -> Any:
    path = __salt__["cp.cache_file"](source) if "://" in source else source
    if not path:
        raise salt.exceptions.CommandExecutionError(f"The policy {source} cannot be found.")
    with operations.errors_for_salt(), salt.utils.files.fopen(path) as file:
        text = file.read()
    try:
        return salt.utils.yaml.safe_load(text)
    except (salt.utils.yaml.YAMLError, UnicodeDecodeError) as error:
        raise salt.exceptions.CommandExecutionError(
            f"{source} is not valid YAML: {error}"
        ) from error
