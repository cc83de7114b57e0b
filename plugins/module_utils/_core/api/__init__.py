# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The operations of linuxnet.sockets for Python.

Example::

    from linuxnet_sockets import api

    for record in api.find({"remote_port": 443}).sockets:
        print(record["local"], record["remote"])

Selectors, guards and policies are mappings as you write them in playbooks. Durations and rates are
strings such as ``"90s"`` and ``"100/s"``; a bare number is seconds, or sockets per second. Results
are frozen dataclasses: ``to_dict()`` returns the result of the module of the same operation. Errors
are subclasses of ``SocketsError``; ``describe`` turns one into a sentence.

Names are imported on first use. Ansible sends a module everything that it can import, and it finds
imports by reading the source. Plain imports here would send the code of policies and drains with
every module. ``__init__.pyi`` has them for type checkers.
"""

from __future__ import annotations

from importlib import import_module

# Where each public name is defined, relative to this package.
_HOME = {
    "find": ".find_sockets",
    "facts": ".host_facts",
    "support": ".kernel_support",
    "destroy": ".destroy_sockets",
    "drain": ".drain_sockets",
    "check_policy": ".policy",
    "plan_policy": ".policy",
    "firewall_rules": ".firewall",
    "enforce_policy": ".policy",
    "stuck_report": ".stuck",
    "FoundSockets": ".find_sockets",
    "HostFacts": ".host_facts",
    "KernelSupport": ".kernel_support",
    "DestroyResult": ".destroy_sockets",
    "DrainResult": ".drain_sockets",
    "PolicyCheck": ".policy",
    "PolicyPlan": ".policy",
    "PolicyResult": ".policy",
    "FirewallRules": ".firewall",
    "StuckConnection": ".stuck",
    "StuckReport": ".stuck",
    "SocketsError": "..errors",
    "describe": "..messages",
    "describe_failure": "..messages",
    "describe_warning": "..messages",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
