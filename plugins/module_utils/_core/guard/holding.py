# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: finds out which sockets nobody holds, with as few looks as it can.

Each descriptor costs the kernel almost two microseconds, and it is enough that one process is seen
to hold a socket. So those descriptors are read first that are most likely to be wanted.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..host.processes import FdDirectory, descriptor_links

# From so many descriptors on, a sample pays.
_MANY = 1024
_SAMPLE = 32


def remove_held(
    proc: str, pids: Iterable[int], wanted: set[str], holders: dict[str, int] | None = None
) -> int:
    """Take out of `wanted` the sockets, named as links, that one of these processes holds.

    holders: told which process was seen to hold each of them.

    Ends once nothing is wanted any more. The answer is how many processes could not be read.

    Processes with many descriptors come last, and of those first the halves, by even and odd
    numbers, of which a sample finds most: a proxy's connections to clients and to servers
    alternate, as do a test program's two ends.
    """
    unreadable = 0
    halves: list[tuple[int, int, range]] = []

    def take(pid: int, links: Iterable[str]) -> None:
        if holders is None:
            wanted.difference_update(links)
        else:
            held = wanted.intersection(links)
            wanted.difference_update(held)
            holders.update(dict.fromkeys(held, pid))

    for pid in pids:
        if not wanted:
            return unreadable
        try:
            with FdDirectory(proc, pid) as descriptors:
                samples = _sample(descriptors)
                if samples is None:
                    take(pid, descriptors.all())
        except PermissionError:
            unreadable += 1
            continue
        for numbers, links in samples or ():
            halves.append((len(wanted.intersection(links)), pid, numbers))
    halves.sort(key=lambda half: half[:2], reverse=True)
    whole: set[int] = set()
    for _hits, pid, numbers in halves:
        if not wanted:
            break
        if pid not in whole:
            half = _half(proc, pid, numbers)
            if half is None:
                whole.add(pid)
                half = descriptor_links(proc, pid)
            take(pid, half or ())
    return unreadable


def _sample(descriptors: FdDirectory) -> list[tuple[range, list[str]]] | None:
    """Each half of the descriptors' numbers and what a few of it link to; None: not worth it."""
    if descriptors.count < _MANY:
        return None
    samples: list[tuple[range, list[str]]] = []
    for first in (0, 1):
        numbers = range(first, descriptors.count, 2)
        links = descriptors.some(numbers[:: len(numbers) // _SAMPLE])
        if links is None:
            return None
        samples.append((numbers, links))
    return samples


def _half(proc: str, pid: int, numbers: range) -> list[str] | None:
    """What these descriptors link to; None where one of them is not there, or not any more."""
    with FdDirectory(proc, pid) as descriptors:
        return descriptors.some(numbers)
