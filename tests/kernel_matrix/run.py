# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tries the core on the kernels of the catalogue; see tools/test-kernels."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Any

from tests.kernel_matrix import ours, results
from tests.kernel_matrix.catalogue import GUEST_SUITE, KERNELS, PARTS, Kernel
from tests.kernel_matrix.image import PROJECT, assemble, core_digest, guest_root, prepare
from tests.kernel_matrix.machines import BootError, qemu, uml
from tests.kernel_matrix.packages import Archive, FetchError, Package

CACHE = PROJECT / ".build" / "kernels"
# A guest whose machine is emulated on a busy host takes minutes for what takes seconds here.
SECONDS = 3600.0
# Of the disk that a guest finds again when it is started anew; the file is sparse.
_DISK_BYTES = 64 << 20
# What user-mode-linux is linked with, and its threads ask for when they end.
_LIBRARIES = ("libc6", "libgcc-s1")


def say(text: str) -> None:
    print(f"test-kernels: {text}", flush=True)


def _fetch(suites: tuple[str, ...], pattern: str, parts: str = "") -> Package:
    """From the first suite that has it. Raises FetchError."""
    refusals: list[str] = []
    for suite in suites:
        try:
            archive = Archive(suite, CACHE / "apt" / suite)
            archive.update()
            return archive.fetch(pattern, parts)
        except FetchError as error:
            refusals.append(str(error))
    raise FetchError("; ".join(refusals))


def _try(kernel: Kernel, root: Path, tests: list[str]) -> dict[str, Any]:
    """What the kernel's guest told. Raises FetchError and BootError."""
    package = _fetch(kernel.suites, kernel.package, PARTS)
    boot = prepare(package, CACHE)
    initrd, disk = CACHE / f"{kernel.name}.initrd", CACHE / f"{kernel.name}.disk"
    digest, word = core_digest(), ours.new_word()
    # What leaves something for the next start brings that start with it.
    leaves = any("before_reboot" in each for each in tests)
    later = list(kernel.after_reboot) if leaves else []
    order = {"facts": True, "tests": tests, "after_reboot": later}
    assemble(root, boot, order, word, initrd)
    told: list[dict[str, Any]] = []
    try:
        with disk.open("wb") as empty:
            empty.truncate(_DISK_BYTES)
        for start in (1, 2) if later else (1,):
            log = CACHE / f"{kernel.name}{'.again' if start > 1 else ''}.log"
            log.unlink(missing_ok=True)
            say(f"{kernel.name}: starting {boot.release}; its console goes to {log}")
            words = ours.command_line(word, start)
            if kernel.machine == "uml":
                libraries = [_fetch((GUEST_SUITE,), each) for each in _LIBRARIES]
                told.append(uml(boot, initrd, libraries, words, log, SECONDS))
            else:
                told.append(qemu(boot, initrd, disk, words, log, SECONDS))
    finally:
        initrd.unlink()
        disk.unlink(missing_ok=True)
    return {
        "kernel": kernel.name,
        "package": f"{package.name} {package.version}",
        "machine": kernel.machine,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "digest": digest,
        **results.of_all_starts(told),
    }


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/test-kernels")
    parser.add_argument("--list", action="store_true", help="name the kernels, and start none")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: all")
    own, _dashes, tests = _divided(words)
    options = parser.parse_args(own)
    if options.list:
        for kernel in KERNELS:
            print(f"{kernel.name}\t{kernel.machine}\t{', '.join(kernel.suites)}")
        return 0
    unknown = set(options.kernels) - {kernel.name for kernel in KERNELS}
    if unknown:
        parser.error(f"no such kernel: {', '.join(sorted(unknown))} (see --list)")
    chosen = [each for each in KERNELS if not options.kernels or each.name in options.kernels]
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        root = guest_root(CACHE)
    except FetchError as error:
        say(f"the guests' root cannot be made: {error}")
        return 1
    verdicts = [_verdict(kernel, root, tests) for kernel in chosen]
    print()
    for kernel, (_ok, words_of_it) in zip(chosen, verdicts):
        print(f"{kernel.name:8} {words_of_it}")
    return 0 if all(ok for ok, _words in verdicts) else 1


def _divided(words: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return words, False, []
    where = words.index("--")
    return words[:where], True, words[where + 1 :]


def _verdict(kernel: Kernel, root: Path, tests: list[str]) -> tuple[bool, str]:
    """Whether all went as it should with one kernel, and the words of the summary."""
    began = time.monotonic()
    try:
        told = _try(kernel, root, tests or list(kernel.tests))
    except (FetchError, BootError) as error:
        return False, f"FAILED: {error}"
    if not tests:
        results.keep(told)
    problems = results.problems(told)
    for problem in problems:
        say(f"{kernel.name}: {problem}")
    state = "FAILED" if problems else "ok"
    seconds = time.monotonic() - began
    line = f"{told['release']:32} {state:7} {results.counts(told)}, {seconds:.0f} s"
    return not problems, line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
