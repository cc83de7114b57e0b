# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""JSON Schema of selectors, part of the schema of policies."""

from __future__ import annotations

from ...netlink import constants
from ...netlink.links import ADDRESS_STATES
from ...selector.keys import COMBINATORS, KEYS, Key
from ...selector.predicates.numeric import QUANTITIES
from ...selector.predicates.socket import STATE_ALIASES, STATES_BY_NAME
from ...selector.predicates.verdict import CLOCK_MAX_MS
from ...selector.synonyms import FAMILY_ALIASES, PROTOCOL_ALIASES
from ...values import PORT_MAX, UID_MAX
from ...verdicts.stranded import STRANDED
from ...verdicts.stuck import STUCK
from .builder import (
    INTERFACE,
    Schema,
    choice,
    comparison,
    described,
    duration,
    integer,
    integer_or_string,
    list_of,
    mapping,
    one_or_more,
    reference,
    string,
)

_U32_MAX = 2**32 - 1
_PID_MAX = 2**22  # PID_MAX_LIMIT, include/linux/threads.h
_MARK = r"(0[xX][0-9a-fA-F]+|[0-9]+)"

_STUCK = {
    "anyOf": [
        choice(STUCK),
        mapping(
            {
                "verdict": described(one_or_more(choice(STUCK)), "The verdict."),
                "for": described(
                    duration(0, CLOCK_MAX_MS, minimum=True),
                    "The minimum time, as the clocks of the kernel prove it.",
                    "10m",
                ),
            },
            ["verdict"],
            "A verdict and a minimum time",
        ),
    ]
}
_STRANDED = {
    "anyOf": [
        choice(STRANDED),
        mapping(
            {
                "verdict": described(one_or_more(choice(STRANDED)), "The verdict."),
                "to": described(
                    one_or_more(INTERFACE),
                    "With rerouted: the interfaces through which the packets leave now. Required "
                    "to destroy sockets, because asymmetric routing that works looks the same.",
                    ["wg0"],
                ),
            },
            ["verdict"],
            "A verdict and interfaces",
        ),
    ]
}

_FAMILY = {"anyOf": [*choice(constants.FAMILIES, FAMILY_ALIASES)["anyOf"], {"enum": [4, 6]}]}

# The values of each key. Descriptions and examples are in selector/keys.py.
_VALUES: dict[str, Schema] = {
    "protocol": one_or_more(choice(constants.PROTOCOLS, PROTOCOL_ALIASES)),
    "family": one_or_more(_FAMILY),
    "state": one_or_more(choice(STATES_BY_NAME, STATE_ALIASES)),
    "local": one_or_more(string()),
    "remote": one_or_more(string()),
    "local_port": one_or_more(integer_or_string(0, PORT_MAX)),
    "remote_port": one_or_more(integer_or_string(0, PORT_MAX)),
    "local_state": one_or_more(choice(ADDRESS_STATES)),
    "device": one_or_more(INTERFACE),
    "mark": one_or_more(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": _U32_MAX},
                string(
                    rf"^\s*{_MARK}\s*(/\s*{_MARK})?\s*$",
                    "a mark such as 51820 or 0x10, or value/mask such as 0x10/0xff",
                ),
            ]
        }
    ),
    "user": one_or_more(integer_or_string(0, UID_MAX)),
    "cgroup": one_or_more(string()),
    "process": one_or_more(string()),
    "exe": one_or_more(string(r"^/[\s\S]*\S", "an absolute path")),
    "cmdline": one_or_more(string()),
    "unit": one_or_more(string(r"^[^/]*[^\s/][^/]*$", "the name of a systemd unit")),
    "pid": one_or_more(integer(1, _PID_MAX)),
    "idle": duration(1, CLOCK_MAX_MS, minimum=True),
    **{name: one_or_more(comparison(quantity.unit)) for name, quantity in QUANTITIES.items()},
    "congestion": one_or_more(string()),
    "stuck": one_or_more(_STUCK),
    "stranded": one_or_more(_STRANDED),
    "superseded": mapping(
        {
            "silent_for": described(
                duration(1, CLOCK_MAX_MS, minimum=True),
                "The minimum time without received data.",
                "30s",
            )
        },
        ["silent_for"],
    ),
    "expression": one_or_more(string()),
    "not": reference("selector"),
    "any": list_of(reference("selector")),
    "all": list_of(reference("selector")),
}


def _key(name: str, key: Key) -> Schema:
    default = {} if key.default is None else {"default": key.default}
    return described(_VALUES[name], key.description, *key.examples, **default)


_PROPERTIES: dict[str, Schema] = {
    **{name: _key(name, key) for name, key in KEYS.items()},
    **{
        name: described(_VALUES[name], combinator.description, *combinator.examples)
        for name, combinator in COMBINATORS.items()
    },
}

SELECTOR: Schema = described(
    mapping(_PROPERTIES, title="A selector"),
    "The sockets to select. All keys must be true. In a list under a key, one entry must be true. "
    "Unknown never matches.",
    {"user": "1000-60000", "not": {"local": "interface:wg0"}},
)
