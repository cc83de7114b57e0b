# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""What --help says about each command, by its path: descriptions, examples, selectors."""

from __future__ import annotations

# The short text in the list of commands, and the description. White space does not matter.
DESCRIPTIONS = {
    "list": (
        "List sockets",
        """List the sockets that match a selector. Without one, list the connections that plain ss
        shows: TCP, and no listening sockets. It needs no privileges, except for sockets of
        other namespaces and for processes of other users.""",
    ),
    "stuck": (
        "List the connections that make no progress, and why",
        """List the connections that are stuck, or whose network is gone, with the evidence.
        Certain ones come first. A verdict with (?) may be harmless: an idle connection is
        silent too. It changes nothing.""",
    ),
    "destroy": (
        "Destroy sockets",
        """Destroy the sockets that match a selector and that the guard does not protect. The
        command shows them and asks first. The application gets ECONNABORTED, and the peer a
        reset. Afterwards the command lists the sockets again, to confirm that they are gone.""",
    ),
    "drain": (
        "Wait until connections have ended, then destroy the rest",
        """Wait until the connections that match a selector have ended, at most for --grace. Then
        destroy those that are left. The command shows them and asks first. Connections that
        begin to match while it waits are drained too; see --arrivals.""",
    ),
    "policy": (
        "Check, plan or enforce a policy, or print its nftables rules",
        """Work with a policy document: rules that say which sockets must not exist. The agent
        enforces a policy continuously; these commands work once.""",
    ),
    "policy check": (
        "Check a policy and show all its errors",
        """Check a policy without evaluating it. Show all errors, and valid parts that are probably
        mistakes.""",
    ),
    "policy plan": (
        "Show which sockets violate a policy now",
        """Show which sockets a policy would destroy now, for each rule. Holds are ignored. It
        changes nothing.""",
    ),
    "policy firewall": (
        "Print nftables rules that reject what a policy forbids",
        """Print nftables rules that reject new connections which would violate a policy, also those
        that are too short for a policy. It loads nothing. Rules that a packet filter cannot express
        are named on standard error.""",
    ),
    "policy enforce": (
        "Enforce a policy once",
        """Enforce a policy once: wait until the holds of present violations are over, then destroy
        the sockets that still violate it. The command shows them and asks first.""",
    ),
    "support": (
        "Show what the kernel can list and destroy",
        """Show which sockets this kernel can list and destroy for you. It asks the kernel, and
        changes nothing.""",
    ),
    "completion": (
        "Print a completion script for a shell",
        """Print a script that completes commands, options and selector keys.""",
    ),
}

# What each example does, and the example.
EXAMPLES = {
    "": (
        ("List the connections to a database", "socketctl list remote_port=5432"),
        ("Destroy idle connections to a network", "socketctl destroy remote=10.0.0.0/8 idle=10m"),
        ("Use a filter of ss(8)", "socketctl list 'dport = :443 and not dst 10.0.0.0/8'"),
    ),
    "list": (
        (
            "All established connections, with processes",
            "socketctl list state=established -d process",
        ),
        (
            "Listening sockets of TCP and UDP",
            "socketctl list protocol=tcp,udp state=listening,closed",
        ),
        ("Data that no peer acknowledges", "socketctl list 'send_queue>0' 'retransmits>=3'"),
        ("Everything but one network", "socketctl list remote!=10.0.0.0/8"),
        ("Count by remote address", "socketctl list --group-by remote"),
        ("For a program", "socketctl list state=established --ndjson"),
    ),
    "stuck": (
        ("All of them", "socketctl stuck"),
        ("Only those of a service", "socketctl stuck local_port=5432"),
        ("Not read by the application for ten minutes", "socketctl stuck --stuck close_wait:10m"),
    ),
    "destroy": (
        ("Show what would be destroyed", "socketctl destroy remote=10.0.0.0/8 --dry-run"),
        ("Destroy connections left in CLOSE_WAIT", "socketctl destroy stuck=close_wait:10m"),
        (
            "In a script: at most 50, and no question",
            "socketctl destroy remote=10.0.0.7 --max-sockets 50 --yes",
        ),
        (
            "Connections within this host too",
            "socketctl destroy local_port=8080 --no-protect loopback",
        ),
    ),
    "drain": (
        ("Before you stop a web server", "socketctl drain local_port=80,443 --grace 5m"),
        (
            "As soon as a connection has nothing in flight",
            "socketctl drain remote_port=5432 --until sent",
        ),
        ("Only wait", "socketctl drain local_port=8080 --no-destroy"),
    ),
    "policy": (),
    "policy check": (("Check a file", "socketctl policy check policy.json"),),
    "policy plan": (
        ("What would the policy destroy?", "socketctl policy plan policy.json"),
        ("In a script", "socketctl policy plan policy.json --detailed-exitcode"),
    ),
    "policy firewall": (("For nft --file", "socketctl policy firewall policy.json"),),
    "policy enforce": (("Enforce it once", "socketctl policy enforce policy.json"),),
    "support": (("What can this kernel do?", "socketctl support"),),
    "completion": (
        ("For bash, in ~/.bashrc", 'eval "$(socketctl completion bash)"'),
        ("For zsh, in ~/.zshrc after compinit", 'eval "$(socketctl completion zsh)"'),
        ("For fish", "socketctl completion fish > ~/.config/fish/completions/socketctl.fish"),
    ),
}

SELECTOR_TEXT = (
    """key=value selects, key!=value excludes. Commas separate alternatives:
    state=established,close-wait. Numbers compare, and need quotes in a shell: 'send_queue>0'.
    Words with different keys must all be true.""",
    """Words without = are one filter of ss(8), as ss takes it: dst 10.0.0.0/8 sport = :22. It is
    ANDed with the other words. Quote parentheses.""",
    """--match takes a selector in JSON, for nested conditions. It is ANDed with the words.""",
    """stuck=close_wait:10m gives a verdict a duration, stranded=rerouted:wg0 an interface, and
    superseded=30s the time of silence. A backslash before a comma quotes it.""",
)
