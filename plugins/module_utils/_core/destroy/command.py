# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Destruction of the sockets that a selector matches: plan, then execute."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from ..host.host import Host
from ..host.namespaces import Namespace
from ..netlink.connection import collector_paused
from ..selector.parse import Selector
from ..sockets.session import for_each_namespace
from .engines import registry
from .executor import execute
from .model import DestroyOptions, Report
from .planner import make_plan


def destroy(
    host: Host, selector: Selector, namespaces: Sequence[Namespace], options: DestroyOptions
) -> Report:
    """Destroy the sockets that the selector matches and the guard does not protect.

    selector: parsed for the role "destroy". With options.check the plan is the same, and each
    outcome is a forecast.

    Before anything is destroyed, raises what find raises, EngineUnavailable, and NamespaceNotFound
    or NamespaceDenied for a namespace that cannot be entered. A namespace that `all` found and
    that no longer exists is skipped. After the first socket is destroyed, nothing is raised: the
    targets that an error leaves are `survived`, with the error as their reason.
    """
    registry.engines_named(options.engine)
    unlimited = replace(options, max_sockets=None)
    # A rate-limited run takes long enough for the garbage collector to be useful.
    with collector_paused() if options.rate is None else nullcontext():
        plans = list(
            for_each_namespace(
                host, namespaces, lambda session: make_plan(session, selector, options)
            )
        )
        return execute(
            host,
            plans,
            options,
            replan=lambda session: make_plan(session, selector, unlimited),
        )
