# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The public names of the API, for type checkers."""

from ..errors import SocketsError as SocketsError
from ..messages import describe as describe
from ..messages import describe_failure as describe_failure
from ..messages import describe_warning as describe_warning
from .destroy_sockets import DestroyResult as DestroyResult
from .destroy_sockets import destroy as destroy
from .drain_sockets import DrainResult as DrainResult
from .drain_sockets import drain as drain
from .find_sockets import FoundSockets as FoundSockets
from .find_sockets import find as find
from .firewall import FirewallRules as FirewallRules
from .firewall import firewall_rules as firewall_rules
from .host_facts import HostFacts as HostFacts
from .host_facts import facts as facts
from .kernel_support import KernelSupport as KernelSupport
from .kernel_support import support as support
from .policy import PolicyCheck as PolicyCheck
from .policy import PolicyPlan as PolicyPlan
from .policy import PolicyResult as PolicyResult
from .policy import check_policy as check_policy
from .policy import enforce_policy as enforce_policy
from .policy import plan_policy as plan_policy
from .stuck import StuckConnection as StuckConnection
from .stuck import StuckReport as StuckReport
from .stuck import stuck_report as stuck_report
