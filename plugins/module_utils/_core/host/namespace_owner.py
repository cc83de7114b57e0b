# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""The user who owns a network namespace, so that users get equal shares of the agent's time."""

from __future__ import annotations

import array
import fcntl
import os
from contextlib import suppress

from .namespaces import Namespace, open_namespace_file

# include/uapi/linux/nsfs.h (ioctl_ns(2)), since Linux 4.11
_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_OWNER_UID = 0xB704
# The kernel nests user namespaces up to 32 levels deep (user_namespaces(7)).
_MAX_DEPTH = 33

ROOT = 0
# The owner of a namespace whose owner cannot be read. No user has this uid.
UNKNOWN = -1


def owner_uid(namespace: Namespace, proc: str = "/proc") -> int:
    """Return the uid of the user who owns a network namespace.

    A namespace of the caller's own user namespace belongs to ROOT. Of nested user namespaces the
    outermost below the caller's counts: its owner could make any number of others, with any of the
    subordinate uids. UNKNOWN: the owner cannot be read.
    """
    if namespace.path is None:
        return ROOT
    descriptors: list[int] = []
    try:
        own = os.stat(f"{proc}/self/ns/user")
        descriptors.append(open_namespace_file(namespace.path, namespace.identity))
        descriptors.append(fcntl.ioctl(descriptors[-1], _NS_GET_USERNS))
        if os.path.samestat(os.fstat(descriptors[-1]), own):
            return ROOT
        for _level in range(_MAX_DEPTH):
            parent = fcntl.ioctl(descriptors[-1], _NS_GET_PARENT)
            if os.path.samestat(os.fstat(parent), own):
                descriptors.append(parent)
                uid = array.array("I", [0])
                fcntl.ioctl(descriptors[-2], _NS_GET_OWNER_UID, uid)
                return uid[0]
            descriptors.append(parent)
    except OSError:
        pass
    finally:
        for descriptor in descriptors:
            with suppress(OSError):
                os.close(descriptor)
    return UNKNOWN
