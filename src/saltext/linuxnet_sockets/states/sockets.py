# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""States of sockets: connections that must not exist, and the agent that enforces it.

.. code-block:: yaml

    no-connections-to-the-old-database:
      sockets.absent:
        - match:
            remote: 192.0.2.10:5432
        - max_sockets: 50

The selector is always under ``match``, because ``state`` is a reserved word of SLS files. With
``test=True``, the result is ``None`` and ``changes`` lists the sockets that would be destroyed.

.. versionadded:: 0.1.0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from salt.exceptions import CommandExecutionError

from saltext.linuxnet_sockets import agent_deployment, operations, policy_pillar

if operations.AVAILABLE:
    from linuxnet_sockets.messages import os_error_text, socket_text

if TYPE_CHECKING:
    __context__: dict[str, Any]
    __grains__: dict[str, Any]
    __pillar__: dict[str, Any]
    __states__: dict[str, Callable[..., Any]]
    __opts__: dict[str, Any]
    __salt__: dict[str, Callable[..., Any]]

__virtualname__ = "sockets"

Return = dict[str, Any]


def __virtual__() -> str | tuple[bool, str]:
    return __virtualname__ if operations.AVAILABLE else operations.MISSING


def absent(
    name: str,
    match: Mapping[str, Any] | None = None,
    namespaces: Any = None,
    protect: Mapping[str, Any] | None = None,
    max_sockets: int | str | None = None,
    pace: int | str | None = None,
    engine: str | None = None,
    limit: int | None = None,
) -> Return:
    """Ensure that no unprotected socket matches a selector. Destroys those that do.

    Protected sockets stay and do not fail the state.

    name
        Any text.
    match
        A selector with a key beyond ``protocol`` and ``family``, or with ``state`` written out.
    namespaces
        Network namespaces: ``current`` (default), a name, ``pid:N``, a path, or ``all``.
    protect
        Rules of the guard to switch off, such as ``loopback: false``, and ``selectors``.
    max_sockets
        A number, or a share such as ``25%`` of the unprotected sockets. If more would be
        destroyed, none is, and the state fails.
    pace
        The highest rate, such as ``100/s``.
    engine
        ``netlink`` (default), ``bpf``, ``pidfd`` or ``auto``.
    limit
        How many sockets ``changes`` lists at most. The default is 1000.

    .. code-block:: yaml

        no-stuck-connections:
          sockets.absent:
            - match:
                stuck: [{verdict: close_wait, for: 10m}]
                local_port: 8080

    .. versionadded:: 0.1.0
    """
    ret = _new(name)
    result = _call(
        ret,
        "destroy",
        match=match,
        namespaces=namespaces,
        protect=protect,
        max_sockets=max_sockets,
        pace=pace,
        engine=engine,
        limit=limit,
    )
    if result is not None:
        _report(ret, result)
    return ret


def drained(
    name: str,
    match: Mapping[str, Any] | None = None,
    namespaces: Any = None,
    protect: Mapping[str, Any] | None = None,
    max_sockets: int | str | None = None,
    pace: int | str | None = None,
    engine: str | None = None,
    until: str | None = None,
    settle: int | str | None = None,
    grace: int | str | None = None,
    destroy: bool | None = None,
    arrivals: str | None = None,
    limit: int | None = None,
) -> Return:
    """Wait until the connections that match have closed, then destroy the rest.

    A drain can take longer than the timeout of the command ``salt``: use ``--async`` or ``-t``.

    name
        Any text.
    until
        ``closed`` (default) waits for the end; ``sent`` also accepts that nothing is in flight.
    settle
        How long a connection must have transferred no data, for ``until: sent``. Set it longer than
        the slowest request: while a server works on one, the connection looks idle.
    grace
        The longest time to wait. The default is ``60s``.
    destroy
        Whether to destroy the connections that are left. If false, the state fails if any are.
    arrivals
        How to handle connections that start to match during the drain: ``include`` (default),
        ``ignore`` or ``fail``.

    The other arguments are those of :func:`absent`.

    .. code-block:: yaml

        web-is-drained:
          sockets.drained:
            - match:
                local_port: 8080
            - grace: 5m
            - until: sent

    .. versionadded:: 0.1.0
    """
    ret = _new(name)
    result = _call(
        ret,
        "drain",
        match=match,
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
        limit=limit,
    )
    if result is None:
        return ret
    _report(ret, result)
    if result["ended"]:
        ret["comment"] = f"{result['ended']} closed on their own. {ret['comment']}"
    if ret["result"] is not False and not result["drained"]:
        left = _counted(result["left"], "connection")
        if __opts__["test"]:
            ret["result"] = None
            ret["comment"] = f"Would wait for {left}."
        else:
            ret["result"] = False
            ret["comment"] = f"{left} left after {result['elapsed']:g} s. {ret['comment']}"
    return ret


def policy_enforced(
    name: str,
    policy: Mapping[str, Any] | str | None = None,
    pillar_key: str | None = None,
    engine: str | None = None,
    limit: int | None = None,
) -> Return:
    """Enforce a policy once. Destroys the sockets that violate it.

    Waits until the holds of present violations are over. For permanent enforcement, see
    :func:`agent_running`.

    name
        Any text.
    policy
        A policy document, the path of a file with one, or a ``salt://`` URL. The default is the
        policy of the pillar.
    pillar_key
        The key of the policy in the pillar. The default is ``linuxnet_sockets:policy``.
    engine
        ``netlink`` (default), ``bpf``, ``pidfd`` or ``auto``.
    limit
        How many sockets ``changes`` lists at most. The default is 1000.

    .. code-block:: yaml

        nothing-bypasses-the-vpn:
          sockets.policy_enforced:
            - pillar_key: linuxnet_sockets:policy

    .. versionadded:: 0.1.0
    """
    ret = _new(name)
    result = _call(
        ret,
        "policy_enforce",
        policy=policy,
        pillar_key=pillar_key,
        engine=engine,
        limit=limit,
    )
    if result is None:
        return ret
    rules: dict[tuple[str, ...], str] = {}
    for violation in result["violations"]:
        rules.setdefault(_identity(violation["record"]), violation["rule"])
    _report(ret, result, rules)
    if result["mode"] == "report":
        violations = _counted(result["matched"], "violation")
        ret["comment"] = f"{violations}. In mode report, the policy destroys nothing."
    return ret


def agent_running(
    name: str,
    policy: Mapping[str, Any] | None = None,
    pillar_key: str | None = None,
    protect: Mapping[str, Any] | None = None,
    confirm_within: int | str | None = None,
    packages: Sequence[str] = ("python3-pyroute2",),
    python: str = "/usr/bin/python3",
    metrics_file: str = "",
    resync: int | str = "30s",
    watchdog: int | str = "60s",
    user: str = "linuxnet-sockets",
) -> Return:
    """Ensure that the agent runs with a policy and enforces it permanently.

    Installs the same files as the Ansible role ``agent``: the program, the commands
    ``socket-agent`` and ``socketctl``, the policy, the protection, the user and the systemd unit.

    name
        Any text.
    policy
        The policy. The default is the policy of the pillar.
    pillar_key
        The key of the policy in the pillar. The default is ``linuxnet_sockets:policy``.
    protect
        Selectors of sockets that no face destroys on this host, in lists by name.
    confirm_within
        Put a changed policy on trial: unless ``sockets.agent_confirm`` confirms it within this
        time, such as ``10m``, the agent stops destroying sockets.
    packages
        Packages of the distribution, installed if ``python`` cannot import pyroute2.
    python
        The Python that runs the agent. It needs pyroute2, and nothing of Salt.
    metrics_file
        Link the metrics to this file, in the directory of Prometheus' node exporter. The state
        fails if the file exists and is not such a link.
    resync
        The time between two passes without events.
    watchdog
        The time after which systemd restarts an agent that hangs.
    user
        The system user that runs the agent.

    .. code-block:: yaml

        socket-agent:
          sockets.agent_running:
            - pillar_key: linuxnet_sockets:policy
            - confirm_within: 10m

    .. versionadded:: 0.1.0
    """
    ret = _new(name)
    document = policy_pillar.policy(policy, pillar_key, __pillar__)
    if document is None:
        ret["comment"] = policy_pillar.missing(pillar_key)
        return ret
    options = agent_deployment.Options(
        policy=operations.plain(document),
        protect=operations.plain(protect or {}),
        confirm_within=confirm_within,
        packages=packages,
        python=python,
        metrics_file=metrics_file,
        resync=str(resync),
        watchdog=str(watchdog),
        user=user,
    )
    steps = _steps()
    deployment = agent_deployment.Deployment(options, steps, __salt__, __grains__)
    _deploy(ret, steps, deployment.run)
    if deployment.warnings:
        ret["warnings"] = deployment.warnings
    return ret


def agent_absent(name: str, user: str = "linuxnet-sockets") -> Return:
    """Ensure that the agent is not installed. Removes all of its files, and its user.

    name
        Any text.
    user
        The system user of the agent, if its unit does not say.

    .. code-block:: yaml

        no-socket-agent:
          sockets.agent_absent: []

    .. versionadded:: 0.1.0
    """
    ret = _new(name)
    steps = _steps()
    _deploy(ret, steps, lambda: agent_deployment.remove(user, steps, __salt__))
    return ret


def _steps() -> agent_deployment.Steps:
    return agent_deployment.Steps(__states__, test=__opts__["test"])


def _deploy(ret: Return, steps: agent_deployment.Steps, work: Callable[[], str]) -> None:
    """Fill in result, changes and comment with those of a deployment."""
    try:
        ret["comment"] = work()
        ret["result"] = None if steps.pending else True
    except CommandExecutionError as error:
        ret["comment"] = str(error)
    except OSError as error:
        ret["comment"] = os_error_text(error)
    ret["changes"] = steps.changes


def _new(name: str) -> Return:
    return {"name": name, "result": False, "changes": {}, "comment": ""}


def _call(ret: Return, function: str, **options: Any) -> dict[str, Any] | None:
    """The result of an execution function; None: it raised an error, and `ret` says which."""
    try:
        result: dict[str, Any] = __salt__[f"sockets.{function}"](test=__opts__["test"], **options)
    except CommandExecutionError as error:
        ret["comment"] = str(error)
        return None
    # The result of the state says whether it failed.
    __context__.pop("retcode", None)
    return result


def _report(
    ret: Return, result: Mapping[str, Any], rules: Mapping[tuple[str, ...], str] | None = None
) -> None:
    """Fill in result, changes, comment and warnings. rules: the rule of a socket, by identity."""
    if result["warnings"]:
        ret["warnings"] = result["warnings"]
    if result["destroyed"]:
        ret["changes"] = {"destroyed": list(_lines(result["destroyed"], rules or {}))}
    ret["comment"] = _summary(result["outcomes"])
    if result["failures"]:
        ret["comment"] = " ".join([*result["failures"], ret["comment"]])
    elif __opts__["test"] and result["changed"]:
        ret["result"] = None
    else:
        ret["result"] = True


def _lines(
    records: Iterable[Mapping[str, Any]], rules: Mapping[tuple[str, ...], str]
) -> Iterable[str]:
    for record in records:
        rule = rules.get(_identity(record))
        yield socket_text(record) + (f" (rule {rule})" if rule else "")


def _identity(record: Mapping[str, Any]) -> tuple[str, ...]:
    return record["namespace"], record["protocol"], record["cookie"]


def _summary(outcomes: Mapping[str, int]) -> str:
    """For example ``2 destroyed, 1 protected.``"""
    if not outcomes:
        return "No socket matches."
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items())
    return f"{'Expected' if __opts__['test'] else 'Outcomes'}: {counts}."


def _counted(count: int, noun: str) -> str:
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
