# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initramfs of a guest: a Debian root, the modules of the kernel and this project.

The root is built once for all kernels. Each artifact has a stamp file with its inputs, and is
rebuilt if they change.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import NamedTuple

from tests.kernel_matrix import guest_token
from tests.kernel_matrix.catalogue import GUEST_PYTHON, GUEST_SUITE
from tests.kernel_matrix.cpio import CpioWriter, join_archives
from tests.kernel_matrix.packages import FetchError, Package, sources, unpack

PROJECT = Path(__file__).parent.parent.parent
_GUEST = Path(__file__).parent / "guest"

# Imports of the tests. They are pure Python, or have a pure Python fallback.
_PYTHON_PACKAGES = ["pytest", "hypothesis", "pyroute2"]
_DEBIAN_PACKAGES = ["python3", "iproute2", "nftables", "procps", "kmod", "e2fsprogs"]
_EXCLUDED_DOCS = ["doc/*", "man/*", "locale/*", "i18n/*", "lintian/*"]
# Modules for the tests of sockets and for the persistent disk.
_MODULES = ["net", "lib", "crypto", "drivers/net", "drivers/block", "drivers/virtio"]
_PROJECT_TREES = ["plugins", "tests"]
_PROJECT_FILES = ["pyproject.toml"]


class Boot(NamedTuple):
    """Files of a kernel. release: as uname -r prints it."""

    release: str
    kernel: Path
    modules: Path


def _is_current(artifact: Path, inputs: object) -> bool:
    """Whether the file or directory exists and was built from these inputs."""
    stamp = artifact.with_name(artifact.name + ".stamp")
    return artifact.exists() and stamp.exists() and stamp.read_text() == json.dumps(inputs)


def _stamp(artifact: Path, inputs: object) -> None:
    artifact.with_name(artifact.name + ".stamp").write_text(json.dumps(inputs))


def _run(*command: str, **environ: str) -> None:
    done = subprocess.run(command, env={**os.environ, **environ}, check=False, capture_output=True)
    if done.returncode:
        errors = done.stderr.decode(errors="replace").strip()
        raise FetchError(f"{command[0]} failed ({done.returncode}): {errors[-2000:]}")


def guest_root(cache: Path) -> Path:
    """Build the archive of the guests' root file system. Raises FetchError."""
    root = cache / "root.cpio"
    versions = (PROJECT / "requirements" / "dev.txt").read_text()
    recipe = [
        GUEST_SUITE,
        GUEST_PYTHON,
        _DEBIAN_PACKAGES,
        _PYTHON_PACKAGES,
        _EXCLUDED_DOCS,
        versions,
    ]
    if _is_current(root, recipe):
        return root
    site, tar = cache / "site", cache / "root.tar"
    shutil.rmtree(site, ignore_errors=True)
    _run(
        *(sys.executable, "-m", "pip", "install", "-qq", "--no-input"),
        *("--disable-pip-version-check", "--target", str(site)),
        *("--python-version", GUEST_PYTHON, "--only-binary", ":all:"),
        *("--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64"),
        *("--constraint", str(PROJECT / "requirements" / "dev.txt")),
        *_PYTHON_PACKAGES,
    )
    _run(
        *("mmdebstrap", "--quiet", "--variant=minbase", "--architectures=amd64"),
        f"--include={','.join(_DEBIAN_PACKAGES)}",
        *(f"--dpkgopt=path-exclude=/usr/share/{path}" for path in _EXCLUDED_DOCS),
        f"--customize-hook=copy-in {site} /opt",
        # Compiling in the emulated guest takes minutes.
        '--customize-hook=chroot "$1" python3 -m compileall -q -j0 /opt/site',
        *(GUEST_SUITE, str(tar), sources(GUEST_SUITE).strip()),
        PATH=os.environ["PATH"] + ":/usr/local/sbin:/usr/sbin:/sbin",
    )
    with tarfile.open(tar) as archive, root.open("wb") as out, CpioWriter(out) as writer:
        writer.tar(archive)
    shutil.rmtree(site)
    tar.unlink()
    _stamp(root, recipe)
    return root


def prepare(package: Package, cache: Path) -> Boot:
    """Unpack a kernel package and archive its modules. Raises FetchError."""
    files = cache / f"{package.name}_{package.version}"
    archive = files.with_name(files.name + ".modules.cpio")
    inputs = [package.name, package.version, _MODULES]
    if not _is_current(archive, inputs):
        shutil.rmtree(files, ignore_errors=True)
        unpack(package, files)
    (modules,) = [
        path
        for folder in ("lib/modules", "usr/lib/modules", "usr/lib/uml/modules")
        for path in (files / folder).glob("*")
    ]
    patterns = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "usr/bin/linux.uml")
    kernels = [path for pattern in patterns for path in files.glob(pattern)]
    if len(kernels) != 1:
        raise FetchError(f"{package.name} {package.version} contains {len(kernels)} kernels")
    release = modules.name
    if not _is_current(archive, inputs):
        _archive_modules(modules, archive)
        _stamp(archive, inputs)
    return Boot(release, kernels[0], archive)


def _archive_modules(modules: Path, archive: Path) -> None:
    base = archive.with_suffix(".tree")
    shutil.rmtree(base, ignore_errors=True)
    target = base / "lib" / "modules" / modules.name
    target.mkdir(parents=True)
    for folder in _MODULES:
        if (modules / "kernel" / folder).is_dir():
            shutil.copytree(modules / "kernel" / folder, target / "kernel" / folder)
    for path in modules.glob("modules.builtin*"):
        shutil.copy(path, target)
    if (modules / "modules.order").exists():
        shutil.copy(modules / "modules.order", target)
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    _run("depmod", "--basedir", str(base), modules.name, PATH=path)
    with archive.open("wb") as out, CpioWriter(out) as writer:
        writer.directory("usr/lib/modules")
        writer.tree(target, f"usr/lib/modules/{modules.name}")
    shutil.rmtree(base)


def assemble(root: Path, boot: Boot, request: dict[str, object], token: str, out: Path) -> None:
    """Write the initramfs: the root, the modules, the working copy and the request.

    request: facts and tests to run (guest/run.py). token: see guest_token.py.
    """
    project = out.with_suffix(".project")
    with project.open("wb") as target, CpioWriter(target) as writer:
        writer.directory("project")
        for name in _PROJECT_TREES:
            writer.tree(PROJECT / name, f"project/{name}")
        for name in _PROJECT_FILES:
            writer.file(f"project/{name}", (PROJECT / name).read_bytes())
        writer.file("init", (_GUEST / "init").read_bytes(), 0o755)
        writer.file("request.json", json.dumps(request).encode())
        writer.file(guest_token.FILE, token.encode())
    join_archives([root, boot.modules, project], out)
    project.unlink()


def core_digest() -> str:
    """SHA-256 of the core: path and content of each Python file, sorted by path."""
    core = PROJECT / "plugins" / "module_utils" / "_core"
    total = hashlib.sha256()
    for path in sorted(core.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(core).as_posix()}\n".encode())
    return total.hexdigest()
