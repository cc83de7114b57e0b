# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Test the core on the kernels of the catalogue. Command: tools/test-kernels."""

from __future__ import annotations

import argparse
import datetime
import sys
import time
from pathlib import Path
from typing import Any

from tests.kernel_matrix import guest_token, results
from tests.kernel_matrix.catalogue import GUEST_SUITE, KERNELS, PARTS, Kernel
from tests.kernel_matrix.image import PROJECT, assemble, core_digest, guest_root, prepare
from tests.kernel_matrix.machines import BootError, qemu, uml
from tests.kernel_matrix.packages import Archive, FetchError, Package

CACHE = PROJECT / ".build" / "kernels"
# Time limit of a guest. An emulated machine on a busy host is very slow.
TIMEOUT_S = 3600.0
# Size of the persistent disk; the file is sparse.
_DISK_BYTES = 64 << 20
# Libraries of user-mode-linux; exiting threads load libgcc_s.
_LIBRARIES = ("libc6", "libgcc-s1")


def log_line(text: str) -> None:
    print(f"test-kernels: {text}", flush=True)


def _fetch(suites: tuple[str, ...], pattern: str, parts: str = "") -> Package:
    """Download a package from the first suite that has it. Raises FetchError."""
    failures: list[str] = []
    for suite in suites:
        try:
            archive = Archive(suite, CACHE / "apt" / suite)
            archive.update()
            return archive.fetch(pattern, parts)
        except FetchError as error:
            failures.append(str(error))
    raise FetchError("; ".join(failures))


def _run_guest(kernel: Kernel, root: Path, tests: list[str]) -> dict[str, Any]:
    """Run the tests on a kernel and return its report. Raises FetchError and BootError."""
    package = _fetch(kernel.suites, kernel.package, PARTS)
    boot = prepare(package, CACHE)
    initrd, disk = CACHE / f"{kernel.name}.initrd", CACHE / f"{kernel.name}.disk"
    digest, token = core_digest(), guest_token.new_token()
    # A second start is needed only if the tests prepare it.
    reboots = any("before_reboot" in argument for argument in tests)
    after_reboot = list(kernel.after_reboot) if reboots else []
    request = {"facts": True, "tests": tests, "after_reboot": after_reboot}
    assemble(root, boot, request, token, initrd)
    reports: list[dict[str, Any]] = []
    try:
        with disk.open("wb") as empty:
            empty.truncate(_DISK_BYTES)
        for start in (1, 2) if after_reboot else (1,):
            log = CACHE / f"{kernel.name}{'.again' if start > 1 else ''}.log"
            log.unlink(missing_ok=True)
            log_line(f"{kernel.name}: starting {boot.release}; console log: {log}")
            parameters = guest_token.command_line(token, start)
            if kernel.machine == "uml":
                libraries = [_fetch((GUEST_SUITE,), library) for library in _LIBRARIES]
                reports.append(uml(boot, initrd, libraries, parameters, log, TIMEOUT_S))
            else:
                reports.append(qemu(boot, initrd, disk, parameters, log, TIMEOUT_S))
    finally:
        initrd.unlink()
        disk.unlink(missing_ok=True)
    return {
        "kernel": kernel.name,
        "package": f"{package.name} {package.version}",
        "machine": kernel.machine,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "digest": digest,
        **results.merge_starts(reports),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/test-kernels")
    parser.add_argument("--list", action="store_true", help="list the kernels and exit")
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: all")
    own_arguments, tests = _split_arguments(arguments)
    options = parser.parse_args(own_arguments)
    if options.list:
        for kernel in KERNELS:
            print(f"{kernel.name}\t{kernel.machine}\t{', '.join(kernel.suites)}")
        return 0
    unknown = set(options.kernels) - {kernel.name for kernel in KERNELS}
    if unknown:
        parser.error(f"unknown kernel: {', '.join(sorted(unknown))} (see --list)")
    chosen = [kernel for kernel in KERNELS if not options.kernels or kernel.name in options.kernels]
    CACHE.mkdir(parents=True, exist_ok=True)
    try:
        root = guest_root(CACHE)
    except FetchError as error:
        log_line(f"cannot build the root file system of the guests: {error}")
        return 1
    outcomes = [_test_kernel(kernel, root, tests) for kernel in chosen]
    print()
    for kernel, (_ok, summary) in zip(chosen, outcomes):
        print(f"{kernel.name:8} {summary}")
    return 0 if all(ok for ok, _summary in outcomes) else 1


def _split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Arguments of this program, and those of pytest after `--`."""
    if "--" not in arguments:
        return arguments, []
    position = arguments.index("--")
    return arguments[:position], arguments[position + 1 :]


def _test_kernel(kernel: Kernel, root: Path, tests: list[str]) -> tuple[bool, str]:
    """Test one kernel; return whether it succeeded, and a line for the summary."""
    began = time.monotonic()
    try:
        report = _run_guest(kernel, root, tests or list(kernel.tests))
    except (FetchError, BootError) as error:
        return False, f"FAILED: {error}"
    if not tests:
        results.store(report)
    problems = results.problems(report)
    for problem in problems:
        log_line(f"{kernel.name}: {problem}")
    state = "FAILED" if problems else "ok"
    seconds = time.monotonic() - began
    line = f"{report['release']:32} {state:7} {results.counts(report)}, {seconds:.0f} s"
    return not problems, line


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
