# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Beacon that reports sockets to Salt's event bus.

It reports one of three things:

``match``
    Sockets that begin to match a selector, with the tag ``salt/beacon/MINION/sockets/match``.
``policy``
    Sockets that begin to violate a policy, with the tag ``salt/beacon/MINION/sockets/policy``.
    ``true`` means the policy of the pillar, ``linuxnet_sockets:policy``.
``events``
    Events of the running ``socket-agent``, with the tags
    ``salt/beacon/MINION/sockets/agent/EVENT``. ``true`` means all, a list names some: ``policy``,
    ``state``, ``socket``, ``violation``.

.. code-block:: yaml

    beacons:
      sockets:
        - match:
            local_port: 8080
            stuck: [{verdict: close_wait, for: 10m}]
        - at_most: 50
        - interval: 30

A socket is reported once, until it has stopped matching. Each event of ``match`` and ``policy``
contains ``sockets``, the records, ``match``, a selector for the connections among them, and
``namespaces``. A reactor can pass both to ``sockets.destroy``.

.. versionadded:: 0.1.0
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from salt.exceptions import CommandExecutionError

from saltext.linuxnet_sockets import operations

if operations.AVAILABLE:
    from linuxnet_sockets import api
    from linuxnet_sockets.agent import event_reader, paths
    from linuxnet_sockets.values import no_such

if TYPE_CHECKING:
    __context__: dict[str, Any]
    __salt__: dict[str, Callable[..., Any]]

log = logging.getLogger(__name__)

__virtualname__ = "sockets"

#: How many sockets or events one call reports at most.
AT_MOST = 100

_SOURCES = ("match", "policy", "events")
_EVENTS = ("policy", "state", "socket", "violation")
# Salt handles these options itself, and passes some of them on.
_OF_SALT = frozenset(
    {
        "_beacon_name",
        "beacon_module",
        "disable_during_state_run",
        "enabled",
        "interval",
        "run_once",
    }
)
_ALLOWED = ("match", "policy", "events", "at_most", "namespaces", "runtime_directory")


def __virtual__() -> str | tuple[bool, str]:
    return __virtualname__ if operations.AVAILABLE else operations.MISSING


def validate(config: Any) -> tuple[bool, str]:
    """Check the options of the beacon. Salt calls this before each call of the beacon."""
    try:
        options = _options(config)
    except ValueError as error:
        return False, str(error)
    # Parsing a selector or a policy takes longer than the rest.
    memory = _memory(options)
    if "error" not in memory:
        memory["error"] = _error(options)
    problem = memory["error"]
    return (True, "Valid beacon configuration") if problem is None else (False, problem)


def beacon(config: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Report new sockets or events since the last call. Returns a list of events."""
    options = _options(config)
    memory = _memory(options)
    if "events" in options:
        return list(_agent_events(options, memory))
    found = _matching if "match" in options else _violating
    return list(_new_sockets(found, options, memory))


def close(config: list[dict[str, Any]]) -> None:
    """Close the connection to the agent. Salt calls this before it stops or changes the beacon."""
    with suppress(ValueError):
        _disconnect(_memory(_options(config)))


def _options(config: Any) -> dict[str, Any]:
    """The beacon's own options as one mapping. Raises ValueError."""
    if not isinstance(config, list) or not all(isinstance(item, Mapping) for item in config):
        raise ValueError("The configuration of the beacon sockets must be a list of mappings.")
    options = {key: operations.plain(value) for item in config for key, value in item.items()}
    unknown = sorted(set(options) - set(_ALLOWED) - _OF_SALT)
    if unknown:
        name = unknown[0]
        allowed = f"one of: {', '.join(_ALLOWED)}"
        error = no_such((name,), options[name], "no such option", name, _ALLOWED, allowed)
        raise ValueError(api.describe(error))
    sources = [name for name in _SOURCES if options.get(name) is not None]
    if len(sources) != 1:
        raise ValueError("Give the beacon sockets exactly one of match, policy and events.")
    at_most = options.setdefault("at_most", AT_MOST)
    if isinstance(at_most, bool) or not isinstance(at_most, int) or at_most < 1:
        raise ValueError(f"at_most: {at_most!r}: not a number from 1.")
    return {
        name: value for name, value in options.items() if value is not None and name not in _OF_SALT
    }


def _error(options: Mapping[str, Any]) -> str | None:
    """The sentence for a wrong selector, policy or name of an event; None: they are right."""
    try:
        if "match" in options:
            api.find(options["match"], namespaces=options.get("namespaces"), limit=0)
        elif "policy" in options:
            checked = __salt__["sockets.policy_check"](_policy(options))
            errors: list[str] = checked["errors"]
            return " ".join(errors) or None
        else:
            _event_names(options)
    except (ValueError, CommandExecutionError) as error:
        return str(error)
    except api.SocketsError as error:
        return str(api.describe(error))
    finally:
        # policy_check sets it.
        __context__.pop("retcode", None)
    return None


def _policy(options: Mapping[str, Any]) -> Any:
    """The argument of the execution functions; None: the policy of the pillar."""
    return None if options["policy"] is True else options["policy"]


def _event_names(options: Mapping[str, Any]) -> tuple[str, ...]:
    given = options["events"]
    if given is True:
        return _EVENTS
    names = tuple(given) if isinstance(given, list) else (given,)
    unknown = [name for name in names if name not in _EVENTS]
    if unknown or not names:
        raise ValueError(f"events: {given!r}. Allowed: true, or any of {', '.join(_EVENTS)}.")
    return names


def _memory(options: Mapping[str, Any]) -> dict[str, Any]:
    """The memory of this beacon between calls. Several beacons can use this module."""
    key = f"sockets.beacon.{json.dumps(options, sort_keys=True, default=str)}"
    memory: dict[str, Any] = __context__.setdefault(key, {})
    return memory


# Sockets


def _new_sockets(found: Any, options: Mapping[str, Any], memory: dict[str, Any]) -> Iterator[Any]:
    """One event with the sockets that were not reported before."""
    reported: set[tuple[Any, ...]] = memory.get("reported", set())
    # At least at_most of them were not reported yet, if there are as many.
    entries, matched = found(options, options["at_most"] + len(reported))
    now = {_key(entry): entry for entry in entries}
    new = [key for key in now if key not in reported][: options["at_most"]]
    memory["reported"] = reported.intersection(now).union(new)
    if not new:
        return
    source = "match" if "match" in options else "policy"
    sockets = [now[key] for key in new]
    yield {
        "tag": source,
        "sockets": sockets,
        "matched": matched,
        "match": _selector(options.get("match"), sockets),
        "namespaces": sorted({record["namespace"] for record in sockets}),
    }


def _key(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    return entry["namespace"], entry["protocol"], entry["cookie"], entry.get("rule")


def _matching(options: Mapping[str, Any], limit: int) -> tuple[list[dict[str, Any]], int]:
    found = api.find(
        options["match"],
        namespaces=options.get("namespaces"),
        details=["process"],
        limit=limit,
    )
    # Salt prints and logs events as they are: with printable names.
    return found.to_dict()["sockets"], found.matched


def _violating(options: Mapping[str, Any], limit: int) -> tuple[list[dict[str, Any]], int]:
    """Violations whose sockets would be destroyed, or are reported by their rule."""
    plan = __salt__["sockets.policy_plan"](_policy(options))
    entries = [
        {
            **violation["record"],
            "rule": rule["name"],
            "status": violation["status"],
            "evidence": violation["evidence"],
        }
        for rule in plan["rules"]
        for violation in rule["sockets"]
        if violation["status"] not in _NOT_REPORTED
    ]
    return entries[:limit], len(entries)


# An earlier rule reports the same socket; nothing is to be done about a protected one.
_NOT_REPORTED = frozenset({"other_rule", "protected"})


def _selector(match: Any, sockets: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A selector for the connections among these sockets; None: there are none.

    It also contains the selector of the beacon, so that a later connection between the same ends
    does not match by its ends alone.
    """
    ends = [
        {
            "protocol": record["protocol"],
            "local": _end(record["local"], record["local_port"]),
            "remote": _end(record["remote"], record["remote_port"]),
        }
        for record in sockets
        if record["local_port"] and record["remote_port"]
    ]
    if not ends:
        return None
    return {"any": ends} if match is None else {"all": [match, {"any": ends}]}


def _end(address: str, port: Any) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


# Events of the agent


def _agent_events(options: Mapping[str, Any], memory: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Events that the agent has sent, at most at_most. The others stay for the next call."""
    waiting: list[dict[str, Any]] = memory.setdefault("waiting", [])
    if len(waiting) < options["at_most"]:
        names = _event_names(options)
        waiting += [event for event in _received(options, memory) if event.get("event") in names]
    memory["waiting"] = waiting[options["at_most"] :]
    for event in waiting[: options["at_most"]]:
        yield {**event, "tag": f"agent/{event['event']}"}


def _received(options: Mapping[str, Any], memory: dict[str, Any]) -> list[dict[str, Any]]:
    """New events of the agent. Connects if there is no connection."""
    try:
        if "reader" not in memory:
            memory["reader"] = event_reader.EventReader(
                options.get("runtime_directory", paths.RUNTIME_DIRECTORY)
            )
        found: list[dict[str, Any]] | None = memory["reader"].read()
    except api.SocketsError as error:
        log.debug("Cannot follow the agent: %s", api.describe(error))
        _disconnect(memory)
        return []
    if found is None:
        _disconnect(memory)
    return found or []


def _disconnect(memory: dict[str, Any]) -> None:
    reader = memory.pop("reader", None)
    if reader is not None:
        reader.close()
