# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  match:
    description:
      - A selector, which says which sockets are meant. Its keys are ANDed, and a list under a key
        is ORed. An empty list, a nested empty selector, V(null) and an empty string are refused at
        any depth, so that an emptied template never means everything.
      - A key is true, false or unknown for a socket. Unknown is what the kernel does not say, may
        not say to this user, or what is meaningless for that socket. Only true matches, also under
        C(not).
      - C(not) takes one selector, C(any) and C(all) take lists of selectors. They nest.
      - C(protocol) is one or more of V(tcp), V(udp), V(udplite), V(raw) and V(mptcp). It is V(tcp)
        where the selector does not say.
      - C(family) is V(inet) or V(inet6).
      - C(state) takes the names of C(ss), V(established), V(syn-sent), V(syn-recv), V(fin-wait-1),
        V(fin-wait-2), V(time-wait), V(closed), V(close-wait), V(last-ack), V(listening), V(closing)
        and V(bound-inactive), and the groups V(connected), V(synchronized), V(bucket), V(big) and
        V(all). Where the selector does not say, it is what plain C(ss) shows, which is all but
        V(listening), V(closed), V(time-wait) and V(syn-recv). A UDP or raw socket is V(connected)
        when it has a remote address.
      - C(local) and C(remote) take an address, a prefix, V(address:port), V([v6]:port), or
        V(interface:NAME) for any address of an interface in the socket's own network namespace.
        Names of hosts are not looked up.
      - C(local_port) and C(remote_port) take a port, a range such as V(8000-8100), or the name of a
        service as the target knows it.
      - C(device) is the interface that a socket is bound to.
      - C(mark) is a value, or V(value/mask). The kernel tells marks to users with C(CAP_NET_ADMIN)
        only.
      - C(user) is the name or the number of a user of the target, or a range of numbers.
      - C(cgroup) is a path below the cgroup v2 mount. It means every socket made in that cgroup or
        below it, and so the sockets of a systemd unit.
      - C(process) is the name of a command and C(pid) the number of a process, that holds the
        socket.
      - C(idle) is a duration without any data in either direction, at least. While data is
        unacknowledged, only what was received counts. TCP has this clock.
      - These numbers are compared in one string such as V(">0"), V(">= 3") or V("> 200ms < 5s"),
        all of whose comparisons must hold. Bytes are C(send_queue), C(recv_queue), C(notsent),
        C(bytes_sent), C(bytes_acked) and C(bytes_received), and may have V(k), V(M) or V(G) behind
        them. Durations are C(rtt), C(rttvar), C(min_rtt), C(rto), C(last_sent), C(last_received)
        and C(last_ack). Counts are C(retransmits), C(total_retransmits), C(unacked), C(lost),
        C(backoff), C(probes) and C(cwnd). The queues have a meaning for every protocol, the others
        for TCP.
      - C(congestion) is the name of the congestion control algorithm.
      - C(stuck) says why a connection makes no progress, V(zero_window), V(retransmitting),
        V(silent), V(close_wait), V(fin_wait), V(syn_sent) or V(orphaned). Each has a time for which
        it must have held. A mapping of C(verdict) and C(for), a duration, changes it. What is
        compared is a lower bound that the kernel's clocks prove. To destroy by V(silent) takes
        another key beside it.
      - C(stranded) says why the network under a connection is gone, V(address_gone),
        V(unroutable), V(no_carrier) or V(rerouted). To destroy by the last one, say to where, with
        a mapping of C(verdict) and C(to), a list of interfaces.
      - C(superseded) is a mapping of C(silent_for), a duration, and needs C(local_port). Nothing
        was received for so long, while another connection from the same address to the same local
        address and port received data since.
      - C(expression) is a filter in the language of C(ss), with its C(state) and C(exclude).
      - Durations are V(90s), V(5m), V(1500ms) or a number of seconds. Numbers may be strings, as
        templates make them.
      - IPv4 prefixes match sockets of IPv6 that carry IPv4 (v4-mapped), IPv6 prefixes do not.
    type: dict
"""
