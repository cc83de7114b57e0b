# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  match:
    description:
      - A selector, which is a mapping of conditions on sockets, or its text as JSON. A socket
        matches when every key is true. A list under a key is true when any of its items is.
      - C(not) takes one selector. C(any) and C(all) take lists of selectors. They nest.
      - Empty lists, empty nested selectors, V(null) and empty strings are errors at every level. A
        template that renders to nothing therefore never selects all sockets.
      - For each socket, a key is true, false or unknown. It is unknown when the kernel does not
        report the value, when the user may not see it, or when it has no meaning for that socket.
        C(not) of an unknown key is unknown too. Only a selector that is true matches.
      - C(protocol) is one or more of V(tcp), V(udp), V(udplite), V(raw) and V(mptcp). The default
        is V(tcp).
      - C(family) is V(inet) or V(inet6), also written V(ipv4) and V(ipv6). By default, both match.
      - C(state) takes the state names of C(ss), which are V(established), V(syn-sent), V(syn-recv),
        V(fin-wait-1), V(fin-wait-2), V(time-wait), V(closed), V(close-wait), V(last-ack),
        V(listening), V(closing) and V(bound-inactive). It also takes the groups V(connected),
        V(synchronized), V(bucket), V(big) and V(all). The default is what C(ss) shows without
        options, which is every state except V(listening), V(closed), V(time-wait) and V(syn-recv).
        A UDP or raw socket is V(connected) when it has a remote address. Both spellings are
        accepted, such as V(close-wait) and V(CLOSE_WAIT), here and for verdicts.
      - C(local) and C(remote) take an address, a prefix, V(address:port), V([v6]:port) or
        V(interface:NAME). V(interface:NAME) matches every address of that interface in the network
        namespace of the socket. Host names are not resolved.
      - C(local_port) and C(remote_port) take a port, a range such as V(8000-8100), or a service
        name. Service names are resolved on the host.
      - C(local_state) is the state of the local address. It is one or more of V(deprecated),
        V(temporary), V(dadfailed) and V(tentative).
      - C(device) is the interface that the socket is bound to.
      - C(mark) is a value, or V(value/mask). The kernel reports marks only to users with
        C(CAP_NET_ADMIN).
      - C(user) is a user name or user ID of the host, or a range of user IDs.
      - C(cgroup) is a path below the cgroup v2 mount point. It matches sockets that were created in
        that cgroup or in one below it, for example the sockets of a systemd unit.
      - C(process) is the command name of a process that holds the socket. C(pid) is its process ID.
        C(exe) is the path of its program, such as V(/usr/sbin/nginx). C(cmdline) is a regular
        expression that occurs in its command line, as for C(pgrep -f). C(unit) is its systemd
        unit, such as V(nginx.service), or the one in which the socket was created.
      - C(idle) is the least duration without data in either direction, such as V(5m) or V(>5m).
        While sent data is unacknowledged, only received data counts. Only TCP has this clock.
      - The following keys compare numbers. The value is one string, such as V(">0"), V(">= 3") or
        V("> 200ms < 5s"). All comparisons in the string must hold.
      - C(send_queue), C(recv_queue), C(notsent), C(bytes_sent), C(bytes_acked) and
        C(bytes_received) are bytes. The suffixes V(k), V(M) and V(G) are allowed. The two queues
        have a meaning for every protocol, all other numbers only for TCP.
      - C(rtt), C(rttvar), C(min_rtt), C(rto), C(last_sent), C(last_received) and C(last_ack) are
        durations.
      - C(retransmits), C(total_retransmits), C(unacked), C(lost), C(backoff), C(probes) and C(cwnd)
        are counts.
      - C(congestion) is the name of the congestion control algorithm.
      - C(stuck) selects connections that make no progress, by the reason. The reasons are
        V(zero_window), V(retransmitting), V(silent), V(close_wait), V(fin_wait), V(syn_sent) and
        V(orphaned). Each must have held for a default time. To set another time, use a mapping of
        C(verdict) and C(for), which is a duration. C(for) is compared with a lower bound that the
        kernel's clocks prove. To destroy by V(silent), combine it with another key.
      - C(stranded) selects sockets whose network is gone, by the reason. The reasons are
        V(address_gone), V(unroutable), V(no_carrier) and V(rerouted). To destroy by V(rerouted),
        use a mapping of C(verdict) and C(to), which lists the interfaces that the route must now
        use.
      - C(superseded) selects connections that the peer has replaced with a new one. It takes a
        mapping of C(silent_for), which is a duration, and requires C(local_port). Nothing was
        received for that time, and another connection from the same remote address to the same
        local address and port received data since.
      - C(expression) is a filter in the language of C(ss), including its C(state) and C(exclude).
      - Durations are written as V(90s), V(5m), V(5min) or V(1h30m). A plain number is in seconds.
        Numbers may be strings, because templates often return strings.
      - IPv4 prefixes also match IPv6 sockets that carry IPv4 (v4-mapped addresses). IPv6 prefixes
        do not match those.
    type: raw
"""
