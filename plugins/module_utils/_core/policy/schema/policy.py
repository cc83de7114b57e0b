# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: the JSON Schema (draft 7) of a policy.

For editors, and for the first check on the controller. The parser is complete without it; what only
the parser can tell is what a document means: names, prefixes, contradictions.
"""

from __future__ import annotations

from ...guard import reason
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
)
from .builder import (
    INTERFACE,
    Schema,
    duration,
    listed,
    mapping,
    reference,
    text,
    told,
    whole,
    words,
)
from .selector import SELECTOR

_SWITCHES = {
    reason.CONTROL_CONNECTION: "The ssh connection and the Salt connection by which the host is "
    "managed.",
    reason.SSH_SESSIONS: "Every socket of sshd and its sessions, and sockets whose owner cannot be "
    "read.",
    reason.LOOPBACK: "Sockets with a loopback address, or with both ends on the host.",
    reason.LISTENERS: "Listening sockets.",
    reason.UNCONNECTED: "Datagram sockets without a remote end.",
    reason.KERNEL: "Sockets that no process holds, such as those of NFS and iSCSI.",
}

_MODES = {
    ENFORCE: "what violates a rule is destroyed, where the rule says so",
    REPORT: "look and tell, and destroy nothing",
}
_ACTIONS = {
    DESTROY: "what violates the rule is destroyed",
    REPORT: "what violates the rule is told, and left alone",
}
_EXCESSES = {
    REFUSE: "none is destroyed, and that is told",
    PACE: "as many are destroyed as may be, the oldest violations first",
}
_STATES = {
    "up": "it is there, set up, and its lower layer is up",
    "present": "it is there",
}

_CONDITION: Schema = told(
    {
        "type": "object",
        "anyOf": [
            mapping(
                {
                    "interface": told(INTERFACE, "The name of an interface.", "wg0"),
                    "is": told(
                        words(_STATES),
                        "present: it is there. up: it is there, set up, and its lower layer is up. "
                        "Of an interface that is not there `up` is unknown, under `not` too.",
                    ),
                },
                ["interface", "is"],
                "An interface is present or up",
            ),
            mapping(
                {
                    "address": told(text(), "An address that some interface holds.", "10.8.0.2"),
                    "is": told(words(["present"]), "Some interface holds it."),
                },
                ["address", "is"],
                "An address is present",
            ),
            mapping(
                {
                    "route": told(
                        text(),
                        "A prefix, or default. In some table the preferred route to just this "
                        "prefix leaves by the interface.",
                        "default",
                        "10.0.0.0/8",
                    ),
                    "via": told(INTERFACE, "The name of an interface.", "wg0"),
                },
                ["route", "via"],
                "A route leaves by an interface",
            ),
            mapping(
                {
                    "not": told(
                        reference("condition"),
                        "A condition that must not hold. What is unknown is unknown here too.",
                    )
                },
                ["not"],
                "A condition does not hold",
            ),
            mapping(
                {"any": told(listed(reference("condition")), "Conditions of which one must hold.")},
                ["any"],
                "One of several conditions holds",
            ),
            mapping(
                {"all": told(listed(reference("condition")), "Conditions that must all hold.")},
                ["all"],
                "Several conditions hold",
            ),
        ],
    },
    "While what the rule holds: something about the network of the socket's namespace, asked anew "
    "at each look. Unknown counts as not holding. Without it the rule always holds.",
    {"interface": "wg0", "is": "up"},
    {"address": "10.8.0.2", "is": "present"},
    {"route": "default", "via": "wg0"},
    title="A condition",
)

_RULE: Schema = told(
    mapping(
        {
            "name": told(
                text(
                    r"^\s*[A-Za-z0-9][A-Za-z0-9._-]{0,63}\s*$",
                    "1 to 64 letters, digits, dots, underlines and hyphens, the first a letter or "
                    "a digit",
                ),
                "The rule's name, which no other rule has: logs and metrics call it so.",
                "all-through-the-vpn",
            ),
            "while": reference("condition"),
            "match": reference("selector"),
            "hold": told(
                duration(0, MAX_DURATION_MS, ", at most a day"),
                "For how long a socket must violate the rule without a break before it is "
                "destroyed or reported, at most a day. 0 acts on the first look.",
                "2s",
                "5m",
                0,
                default="2s",
            ),
            "action": told(
                words(_ACTIONS),
                "destroy what violates the rule, or report: tell, and leave it alone.",
                default="destroy",
            ),
        },
        ["name", "match"],
        "A rule",
    ),
    "Sockets that must not exist: while the condition holds, those that match, for longer than "
    "hold.",
    {
        "name": "gone-with-the-address",
        "match": {"protocol": ["tcp", "udp"], "stranded": ["address_gone", "unroutable"]},
    },
)

_LIMITS: Schema = told(
    mapping(
        {
            "max_sockets": told(
                whole(1, MAX_SOCKETS),
                "At most so many sockets are destroyed in the time of `per`.",
                500,
            ),
            "per": told(
                duration(MIN_PER_MS, MAX_DURATION_MS, ", from 1s to a day"),
                "The time in which at most `max_sockets` are destroyed: any stretch of time as "
                "long as this, from 1s to a day.",
                "1m",
                default="1m",
            ),
            "on_excess": told(
                words(_EXCESSES),
                "If more are to be destroyed: refuse destroys none and says so, pace destroys as "
                "many as may be, the oldest violations first.",
                default="refuse",
            ),
        },
        ["max_sockets"],
        "The limits",
    ),
    "What may be destroyed at most, over all rules and namespaces: a brake for mistakes.",
    {"max_sockets": 500, "per": "1m", "on_excess": "refuse"},
)

_PROTECT: Schema = told(
    mapping(
        {
            **{
                name: told({"type": "boolean"}, f"{meaning} true: protected.", default=True)
                for name, meaning in _SWITCHES.items()
            },
            "selectors": told(
                listed(reference("selector")),
                "Sockets that are protected, whatever a rule says. They cover every protocol and "
                "state unless they say otherwise; what they cannot decide is protected too.",
                [{"remote": "10.0.0.53"}],
            ),
        },
        title="What is protected",
    ),
    "What is never destroyed. Files in /etc/linuxnet-sockets/protect.d/ of the host add to it.",
)

SCHEMA: Schema = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "$comment": "SPDX-License-Identifier: GPL-3.0-or-later. Copyright: linuxnet.sockets "
    "contributors",
    "title": "A policy of linuxnet.sockets",
    "definitions": {"selector": SELECTOR, "condition": _CONDITION, "rule": _RULE},
    **told(
        mapping(
            {
                "version": told(
                    {"anyOf": [{"enum": [1]}, text(r"^\s*0*1\s*$", "1")]},
                    "The version of this format.",
                    1,
                ),
                "mode": told(
                    words(_MODES),
                    "enforce the rules, or report: look and tell, and destroy nothing.",
                    default="enforce",
                ),
                "namespaces": told(
                    listed(
                        text(
                            r"^(pid:0*[1-9][0-9]*|(?!pid:)[\s\S]*\S[\s\S]*)$",
                            "current, all, pid:N, or a name that `ip netns list` shows",
                        )
                    ),
                    "The network namespaces in which the policy holds: current, all, pid:N, or a "
                    "name that `ip netns list` shows.",
                    ["current"],
                    ["all"],
                    default=["current"],
                ),
                "limits": _LIMITS,
                "protect": _PROTECT,
                "rules": told(
                    {**listed(reference("rule")), "maxItems": MAX_RULES},
                    "What must not exist. A socket that violates several rules is destroyed in the "
                    "name of the first that destroys it.",
                ),
            },
            ["version", "limits", "rules"],
        ),
        "Which sockets must not exist on a host, and what is done about those that do.",
    ),
}
