# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON Schema (draft 7) of a policy, for editors and for the first check on the controller.

The parser does not need it. Only the parser checks names, prefixes and contradictions.
"""

from __future__ import annotations

from ...guard import reason
from ...guard.options import OFF_IN_POLICIES
from ...netlink.links import PHYSICAL
from ..conditions import LINK_KIND_PATTERN
from ..model import (
    DESTROY,
    ENFORCE,
    MAX_DURATION_MS,
    MAX_RULES,
    MAX_SOCKETS,
    MIN_PER_MS,
    PACE,
    REFUSE,
    REPORT,
    RULE_AND_USER,
    TOTAL,
    TOTAL_FACTOR,
)
from .builder import (
    INTERFACE,
    Schema,
    choice,
    described,
    duration,
    integer,
    list_of,
    mapping,
    reference,
    string,
)
from .selector import SELECTOR

_SWITCHES = {
    reason.CONTROL_CONNECTION: "The SSH and Salt connections that manage the host.",
    reason.SSH_SESSIONS: "The connections and listening sockets of sshd, and sockets of root whose "
    "owner cannot be determined.",
    reason.SSH_FORWARDS: "What sshd opens for its users, such as the far ends of forwarded ports. "
    "A user can evade a rule through them.",
    reason.LOOPBACK: "Sockets with a loopback address, or with both endpoints on the host.",
    reason.LISTENERS: "Listening sockets.",
    reason.UNCONNECTED: "Datagram sockets without a remote endpoint.",
    reason.SHARED_PORT: "Connected UDP sockets whose local port another socket shares.",
    reason.KERNEL: "Sockets of root that no process holds, such as those of NFS and iSCSI.",
}

_MODES = {
    ENFORCE: "destroys violations of rules with action destroy",
    REPORT: "reports violations and destroys nothing",
}
_ENGINES = {
    "netlink": "SOCK_DESTROY of the kernel",
    "auto": "netlink, or else bpf, or else pidfd, for each socket",
    "bpf": "a BPF program that calls bpf_sock_destroy",
    "pidfd": "disconnects the socket through a process that holds it",
}
_ACTIONS = {
    DESTROY: "destroys violations",
    REPORT: "reports violations and destroys nothing",
}
_ON_EXCESS = {
    REFUSE: "destroys no socket and reports the violations",
    PACE: "destroys as many sockets as the limits allow, oldest violations first",
}
_SCOPES = {
    RULE_AND_USER: "counts the sockets of each rule and user separately",
    TOTAL: "counts all sockets together",
}
_STATES = {
    "up": "the interface exists, is set up, and its lower layer is up",
    "present": "the interface exists",
}

_CONDITION: Schema = described(
    {
        "type": "object",
        "anyOf": [
            mapping(
                {
                    "interface": described(INTERFACE, "An interface name.", "wg0"),
                    "is": described(
                        choice(_STATES),
                        "present: the interface exists. up: it exists, is set up, and its lower "
                        "layer is up. For a missing interface, up is unknown, even under not.",
                    ),
                    "kind": described(
                        string(
                            rf"^\s*{LINK_KIND_PATTERN}\s*$",
                            f"a kind that `ip -details link` shows, or {PHYSICAL}",
                        ),
                        "The kind that the interface must have. One of another kind counts as "
                        "missing. physical: the interface has no kind, as network cards.",
                        "wireguard",
                        PHYSICAL,
                    ),
                },
                ["interface", "is"],
                "Interface is present or up",
            ),
            mapping(
                {
                    "address": described(string(), "An IPv4 or IPv6 address.", "10.8.0.2"),
                    "is": described(choice(["present"]), "An interface has the address."),
                },
                ["address", "is"],
                "Address is present",
            ),
            mapping(
                {
                    "route": described(
                        string(),
                        "A prefix, or default. True if, in some routing table, the preferred route "
                        "to exactly this prefix uses the interface.",
                        "default",
                        "10.0.0.0/8",
                    ),
                    "via": described(INTERFACE, "An interface name.", "wg0"),
                },
                ["route", "via"],
                "Route uses an interface",
            ),
            mapping(
                {
                    "not": described(
                        reference("condition"),
                        "A condition that must be false. Unknown stays unknown.",
                    )
                },
                ["not"],
                "Not",
            ),
            mapping(
                {
                    "any": described(
                        list_of(reference("condition")), "Conditions, at least one of them true."
                    )
                },
                ["any"],
                "Any of several conditions",
            ),
            mapping(
                {
                    "all": described(
                        list_of(reference("condition")), "Conditions, all of them true."
                    )
                },
                ["all"],
                "All of several conditions",
            ),
        ],
    },
    "The rule applies while this condition is true of the network of the socket's namespace. Each "
    "pass evaluates it again. Unknown counts as false. Without a condition, the rule always "
    "applies.",
    {"interface": "wg0", "is": "up"},
    {"address": "10.8.0.2", "is": "present"},
    {"route": "default", "via": "wg0"},
    title="Condition",
)

_RULE: Schema = described(
    mapping(
        {
            "name": described(
                string(
                    r"^\s*[A-Za-z0-9][A-Za-z0-9._-]{0,63}\s*$",
                    "1 to 64 letters, digits, dots, underscores and hyphens, starting with a "
                    "letter or a digit",
                ),
                "The name of the rule in logs and metrics, unique in the policy.",
                "all-through-the-vpn",
            ),
            "while": reference("condition"),
            "match": reference("selector"),
            "hold": described(
                duration(0, MAX_DURATION_MS, ", up to a day"),
                "How long a socket must violate the rule without interruption before it is "
                "destroyed or reported, up to a day. 0: at once.",
                "2s",
                "5m",
                0,
                default="2s",
            ),
            "action": described(
                choice(_ACTIONS),
                "destroy: destroy violations. report: report them only.",
                default="destroy",
            ),
        },
        ["name", "match"],
        "Rule",
    ),
    "Sockets that must not exist: while the condition is true, those that match for longer than "
    "hold.",
    {
        "name": "gone-with-the-address",
        "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
    },
)

_LIMITS: Schema = described(
    mapping(
        {
            "max_sockets": described(
                integer(1, MAX_SOCKETS),
                "The maximum number of sockets to destroy within `per`: of each rule and user, or "
                "of all with scope total.",
                500,
            ),
            "per": described(
                duration(MIN_PER_MS, MAX_DURATION_MS, ", from 1s to a day"),
                "The length of the sliding window for max_sockets, from 1s to a day.",
                "1m",
                default="1m",
            ),
            "on_excess": described(
                choice(_ON_EXCESS),
                "What to do with more violations than that. refuse: destroy no socket. pace: "
                "destroy as many as the limits allow, oldest violations first.",
                default="refuse",
            ),
            "scope": described(
                choice(_SCOPES),
                "What max_sockets counts. rule_and_user: the sockets of each rule and user "
                "separately, so that the excess of one user protects no other sockets. total: all "
                "sockets together.",
                default="rule_and_user",
            ),
            "total": described(
                integer(1, MAX_SOCKETS),
                "The maximum number of sockets to destroy within `per` over all rules and users, "
                "with scope rule_and_user. At least max_sockets. The default is max_sockets times "
                f"{TOTAL_FACTOR}, or times twice the number of rules if that is more.",
                5000,
            ),
        },
        ["max_sockets"],
        "Limits",
    ),
    "How many sockets may be destroyed, over all namespaces. Limits the effect of a mistake in a "
    "rule.",
    {"max_sockets": 500, "per": "1m", "on_excess": "refuse"},
)

_PROTECT: Schema = described(
    mapping(
        {
            **{
                name: described(
                    {"type": "boolean"},
                    f"{meaning} true: protected.",
                    default=name not in OFF_IN_POLICIES,
                )
                for name, meaning in _SWITCHES.items()
            },
            "selectors": described(
                list_of(reference("selector")),
                "Protected sockets, whatever the rules say. These selectors cover every protocol "
                "and state by default. A socket for which one is unknown is protected too.",
                [{"remote": "10.0.0.53"}],
            ),
        },
        title="Protected sockets",
    ),
    "Sockets that are never destroyed. The files in /etc/linuxnet-sockets/protect.d/ on the host "
    "add to them.",
)

SCHEMA: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$comment": "Copyright: linuxnet.sockets contributors. License: GPL-3.0-or-later.",
    "title": "Policy of linuxnet.sockets",
    "definitions": {"selector": SELECTOR, "condition": _CONDITION, "rule": _RULE},
    **described(
        mapping(
            {
                "$schema": described(
                    string(), "The address of this schema, for editors. It has no effect."
                ),
                "version": described(
                    {"anyOf": [{"enum": [1]}, string(r"^\s*0*1\s*$", "1")]},
                    "The version of the format.",
                    1,
                ),
                "mode": described(
                    choice(_MODES),
                    "enforce: destroy violations. report: report them and destroy nothing.",
                    default="enforce",
                ),
                "engine": described(
                    choice(_ENGINES),
                    "The mechanism that destroys sockets. MPTCP connections need auto or pidfd.",
                    default="netlink",
                ),
                "namespaces": described(
                    list_of(
                        string(
                            r"^(pid:0*[1-9][0-9]*|(?!pid:)[\s\S]*\S[\s\S]*)$",
                            "current, all, pid:N, or a name from `ip netns list`",
                        )
                    ),
                    "The network namespaces of the policy: current, all, pid:N, or names from `ip "
                    "netns list`.",
                    ["current"],
                    ["all"],
                    default=["current"],
                ),
                "limits": _LIMITS,
                "protect": _PROTECT,
                "rules": described(
                    {**list_of(reference("rule")), "maxItems": MAX_RULES},
                    "Sockets that must not exist. If a socket violates several rules, the first "
                    "one that destroys it counts.",
                ),
            },
            ["version", "limits", "rules"],
        ),
        "Which sockets must not exist on a host, and what to do with those that do.",
    ),
}
