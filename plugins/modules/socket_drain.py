#!/usr/bin/python

# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: socket_drain
short_description: Wait for connections to end by themselves, and destroy what is left
version_added: 0.1.0
description:
  - Waits for the connections that a selector means, at most for O(grace), and then destroys those
    that are left, or reports them with O(destroy=false).
  - A connection has ended when it is gone, or in TIME_WAIT. One in CLOSE_WAIT, LAST_ACK, CLOSING or
    FIN_WAIT has not. One that the selector does not mean any more, because its state has changed
    for example, is waited for all the same.
  - What O(protect) covers is protected, and not waited for. That is by default the connection of
    Ansible itself, SSH sessions, loopback, listeners, UDP sockets without remote address, and
    sockets of the kernel's own.
  - It does not keep new connections out. Do that first, for example in the load balancer or with a
    firewall rule.
  - Run it with Ansible and a line for each host tells how many are left while it waits.
  - Try it with C(--check --diff) first. It names the sockets, and does not wait.
author:
  - linuxnet.sockets contributors (!UNKNOWN)
extends_documentation_fragment:
  - linuxnet.sockets._attributes
  - linuxnet.sockets._attributes.actiongroup_sockets
  - linuxnet.sockets.selector
  - linuxnet.sockets.namespaces
  - linuxnet.sockets.guard
  - linuxnet.sockets.limit
attributes:
  action:
    description: Has an action plugin of the same name, so that a part of it runs on the controller.
    support: full
    details:
      - It runs the module in steps, and after each shows on standard error how many connections are
        left and in which states, how many have ended and arrived, and what is left of O(grace).
      - A task with C(no_log) or C(async), or with O(step), shows nothing.
      - Where the play is interrupted, the step that has begun comes to its end on the target, in at
        most ten seconds, and no other begins.
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  check_mode:
    support: full
    details:
      - It does not wait. RV(destroyed) names the sockets that would be destroyed if none ended by
        itself.
  diff_mode:
    support: full
    details:
      - The sockets that change, one on a line.
  idempotent:
    support: partial
    details:
      - A second run finds nothing left and changes nothing, unless clients have connected again in
        the meantime. Those are other sockets, and they are drained.
options:
  match:
    required: true
  until:
    description:
      - What is waited for.
      - V(closed) is the end of the connection.
      - V(sent) is the end, or that nothing of the connection is on its way, so that a reset loses
        nothing. All that was sent is acknowledged, all that came is read, and there was no data in
        either direction for O(settle). With O(destroy=true) a connection is destroyed as soon as
        that is so, each in its own quiet moment. With O(destroy=false) the task ends as soon as it
        is so for all that are left.
      - The kernel's clocks prove that for TCP, and for MPTCP on Linux 6.10 and later. UDP has no
        such clocks, so of a UDP socket the queues must be empty in every look for as long.
    type: str
    choices:
      - closed
      - sent
    default: closed
  settle:
    description:
      - For how long a connection must be without data, for O(until=sent).
    type: str
    default: 1s
  grace:
    description:
      - How long to wait at most, such as V(90s), V(5m) or V(1h). A bare number is seconds. V(0)
        does not wait.
    type: str
    default: 60s
  destroy:
    description:
      - Whether what is left is destroyed.
      - With V(false) nothing is, and what is left is in RV(remaining). The task does not fail for
        that; RV(drained) tells.
    type: bool
    default: true
  arrivals:
    description:
      - What is done about connections that come to match while it waits, and that O(protect) does
        not cover. They are counted in RV(arrived) in any case.
      - With V(include) they are waited for too, and in the end destroyed.
      - With V(ignore) they are left alone.
      - With V(fail) the task ends at once, and fails. From then on nothing is destroyed.
    type: str
    choices:
      - include
      - ignore
      - fail
    default: include
  pace:
    description:
      - Destroy no more sockets than this in a time, such as V(100/s), V(600/m) or V(1000/h), so
        that not all clients come back in one moment. A bare number is per second.
      - With O(until=closed) that begins when O(grace) is over.
    type: str
  engine:
    description:
      - How sockets are destroyed, as in M(linuxnet.sockets.socket_destroy).
    type: str
    choices:
      - auto
      - netlink
      - pidfd
    default: netlink
  step:
    description:
      - Return after this time even if there is more to wait for, with RV(finished) false and
        RV(resume) to go on with. Destroying that has begun is brought to its end.
      - The action plugin of this module sets it, so that it can show how far the drain has come.
    type: str
  resume:
    description:
      - RV(resume) of the step before, to go on where it ended. All other options must be the same,
        but for O(step) and O(limit). O(grace) counts from the first step.
      - What does not come from this target since it booted, or not from the same options, is
        refused.
    type: dict
requirements:
  - Linux 5.4 or later. To destroy, one that was built with C(CONFIG_INET_DIAG_DESTROY), or
    O(engine=pidfd). M(linuxnet.sockets.socket_diag_facts) tells.
  - C(CAP_NET_ADMIN) in the user namespace that owns the network namespace, to destroy
  - Python 3.9 or later
notes:
  - The kernel announces the end of many sockets, which makes the module look again at once. It also
    looks when nothing was announced, at growing intervals of at most a second, unless looking
    itself takes long.
  - Run it with the right to see which process holds a socket, as root. A connection whose owner
    cannot be read may be an SSH session, and is protected.
  - While connections are left in another network namespace, that namespace is listened in. A
    namespace whose name is gone is followed as long as a process is in it.
  - With V(all) in O(namespaces), those are meant that there are when the task begins.
seealso:
  - module: linuxnet.sockets.socket_destroy
  - module: linuxnet.sockets.socket_diag_info
"""

EXAMPLES = r"""
- name: Let the web server's connections end, for up to five minutes
  linuxnet.sockets.socket_drain:
    match:
      local_port: [80, 443]
    grace: 5m

- name: Cut each database connection when nothing of it is on its way
  linuxnet.sockets.socket_drain:
    match:
      remote_port: 5432
    until: sent
    settle: 500ms
    grace: 2m

- name: Leave out the health checks, and let no more than 500 connections be cut
  linuxnet.sockets.socket_drain:
    match:
      local_port: 8080
    protect:
      selectors:
        - remote: 10.0.0.0/28
    max_sockets: 500

- name: Wait, but cut nothing
  linuxnet.sockets.socket_drain:
    match:
      local_port: 8080
    destroy: false
  register: drain
  failed_when: not drain.drained

- name: Make sure that nobody comes back
  linuxnet.sockets.socket_drain:
    match:
      local_port: 8080
    arrivals: fail

- name: All containers too, and slowly
  linuxnet.sockets.socket_drain:
    match:
      remote: 10.0.0.53
      protocol: [tcp, udp]
    namespaces: [all]
    pace: 20/s
"""

RETURN = r"""
changed:
  description: Whether at least one socket was destroyed or disconnected, or would be in check mode.
  returned: always
  type: bool
  sample: true
finished:
  description:
    - Whether there is nothing more to do. It is false only after a O(step), and where the host was
      lost or the module crashed while the task waited; then what had been done before is told.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: bool
  sample: true
drained:
  description:
    - Whether nothing is left of what the task waited for. With O(destroy=false) and O(until=sent)
      that is, nothing of which anything is on its way.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: bool
  sample: true
matched:
  description:
    - How many sockets were meant in all, protected ones included, and newcomers unless they are
      left alone. Each of them is counted in RV(ended), RV(left) or RV(outcomes).
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 200
ended:
  description: How many of them ended by themselves.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 187
arrived:
  description: How many connections came to match while it waited, protected ones not counted.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 2
left:
  description: How many have not ended and were not destroyed.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 0
by_state:
  description: How many of those are in which state, the most frequent first.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: dict
  sample: {}
outcomes:
  description:
    - How many of the others ended how, as RV(linuxnet.sockets.socket_destroy#module:outcomes) has
      it. What did not occur is left out.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: dict
  sample:
    destroyed: 12
    protected: 1
sent:
  description:
    - How many of the destroyed ones had nothing on its way, and had not for O(settle), whatever
      O(until) is.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: int
  sample: 11
lost:
  description: Bytes of TCP connections that were lost with all that were destroyed.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: dict
  sample:
    unsent_bytes: 18432
    unacknowledged_bytes: 2896
    unread_bytes: 0
  contains:
    unsent_bytes:
      description: Written by applications here, and never sent.
      type: int
    unacknowledged_bytes:
      description: Sent, and not acknowledged by the peer. Some of it may have come there.
      type: int
    unread_bytes:
      description: Come from the peer, and not read by applications here.
      type: int
elapsed:
  description: Seconds since the beginning, of all steps.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: float
  sample: 60.013
grace_left:
  description: Seconds that are left of O(grace).
  returned: always, unless the task could not be understood or the kernel not be asked
  type: float
  sample: 0.0
resume:
  description: What O(resume) takes, to go on. It is null once RV(finished).
  returned: always, unless the task could not be understood or the kernel not be asked
  type: dict
  sample: null
destroyed:
  description:
    - The sockets that were destroyed or disconnected, or would be in check mode, at most O(limit).
      With O(step) those of this step.
    - Each is a record as RV(linuxnet.sockets.socket_destroy#module:destroyed) has them, taken just
      before, with three keys more.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: list
  elements: dict
  sample:
    - protocol: tcp
      state: established
      local: 192.0.2.10
      local_port: 443
      remote: 198.51.100.7
      remote_port: 51022
      cookie: "3e9"
      send_queue: 21328
      recv_queue: 0
      outcome: destroyed
      engine: netlink
      reason: null
      reason_detail: null
      arrived: false
      sent: false
      lost:
        unsent_bytes: 18432
        unacknowledged_bytes: 2896
        unread_bytes: 0
  contains:
    arrived:
      description: Whether it came while it was waited for others.
      type: bool
    sent:
      description: Whether nothing of it was on its way, and had not been for O(settle).
      type: bool
    lost:
      description: As RV(lost), of this one. It is null where that is not known, as for UDP.
      type: dict
protected:
  description:
    - The sockets that were protected and are still there, at most O(limit), with the same keys. The
      list is empty as long as RV(finished) is false.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: list
  elements: dict
  sample:
    - protocol: tcp
      state: established
      local: 192.0.2.10
      local_port: 22
      remote: 10.20.0.1
      remote_port: 51022
      cookie: "3ea"
      outcome: protected
      engine: null
      reason: control_connection
      reason_detail: null
      arrived: false
      sent: true
      lost:
        unsent_bytes: 0
        unacknowledged_bytes: 0
        unread_bytes: 0
survivors:
  description:
    - The sockets for which the task failed, at most O(limit), with the same keys. Where
      O(max_sockets) refused, this is the plan.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: list
  elements: dict
  sample: []
remaining:
  description:
    - The sockets that are left, at most O(limit), because O(destroy) or O(arrivals) says so. Each
      is a record with RV(destroyed[].arrived), RV(destroyed[].sent) and RV(destroyed[].lost), which
      is what it would lose. The list is empty as long as RV(finished) is false.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: list
  elements: dict
  sample: []
truncated:
  description: Whether any of these lists was cut at O(limit).
  returned: always, unless the task could not be understood or the kernel not be asked
  type: bool
  sample: false
engine:
  description: The engine that was asked for. Each entry of the lists names the one that took it on.
  returned: always, unless the task could not be understood or the kernel not be asked
  type: str
  sample: netlink
msg:
  description: What failed, and what to do.
  returned: on failure
  type: str
  sample: >-
    1 connections came while it waited, and arrivals is fail: tcp established 192.0.2.10:8080 ->
    198.51.100.7:51022 user root namespace current sk:3e9. Nothing was destroyed. What is left is
    listed in remaining. Keep new ones out first, or use arrivals: include or ignore.
"""

from ansible_collections.linuxnet.sockets.plugins.module_utils._module import arguments, drain
from ansible_collections.linuxnet.sockets.plugins.module_utils._module.run import run_module


def main() -> None:
    argument_spec = {
        **arguments.selector(required=True),
        **arguments.namespaces(),
        **arguments.guard(),
        **arguments.engine(),
        **arguments.limit(),
        **drain.argument_spec(),
    }
    run_module(argument_spec, drain.work)


if __name__ == "__main__":
    main()
