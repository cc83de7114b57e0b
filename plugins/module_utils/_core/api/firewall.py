# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The nftables rules of a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import Failure, NotExpressible, ResultWarning
from ..host.host import Host
from ..messages import describe
from ..policy.model import Policy
from ..policy.nftables_rules import rule_set
from ..policy.parse import parse_policy
from .options import checks_options
from .task import printable_dict


@dataclass(frozen=True)
class FirewallRules:
    """The result of firewall_rules.

    Attributes:
        text: the nftables rules, for ``nft --file -``.
        rules: names of the rules of the policy that they express.
        left_out: why each of the other rules is missing, a NotExpressible each.
        unconditional: names of the rules whose ``while`` they ignore.
        warnings: warnings of the policy.
        failures: always empty.
    """

    text: str
    rules: tuple[str, ...]
    left_out: tuple[NotExpressible, ...]
    unconditional: tuple[str, ...]
    warnings: tuple[ResultWarning, ...] = ()
    failures: tuple[Failure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the output of ``socket-agent firewall --json``."""
        # The text has lines and tabs; names of a policy that are not printable do not get into it.
        return {"text": self.text, **self._about_text()}

    @printable_dict
    def _about_text(self) -> dict[str, Any]:
        return {
            "rules": list(self.rules),
            "left_out": [describe(error) for error in self.left_out],
            "unconditional": list(self.unconditional),
        }


@checks_options
def firewall_rules(policy: Mapping[str, Any], *, host: Host | None = None) -> FirewallRules:
    """Return nftables rules that reject new connections which would violate a policy.

    It loads nothing. The rules are for the network namespace that you load them into.

    Example::

        rules = api.firewall_rules(json.load(open("policy.json")))
        subprocess.run(["nft", "--file", "-"], input=rules.text, text=True, check=True)

    Args:
        policy: a policy document.
        host: the machine whose users, services and protection files to use; the default is this
            one.

    Returns:
        FirewallRules: the nftables rules, and the rules of the policy that they do not express.

    Raises:
        PolicyErrors: the policy is wrong.
        ProtectFileError: a protection file cannot be read or parsed.
        NotExpressible: a packet filter can express no rule of the policy, or not what it protects.
    """
    host = host or Host()
    parsed = parse_policy(policy, names=host, files=host.protect_directory, path=("policy",))
    return rules_of_parsed(parsed)


def rules_of_parsed(policy: Policy) -> FirewallRules:
    """As firewall_rules, of a policy that is parsed."""
    found = rule_set(policy)
    return FirewallRules(
        text=found.text,
        rules=found.rules,
        left_out=found.left_out,
        unconditional=found.unconditional,
        warnings=policy.warnings,
    )
