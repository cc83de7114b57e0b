# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest boots with: one archive of a Debian root, the kernel's modules and this project.

The root is made once, for all kernels. What is made is kept with a stamp of what it was made of,
and made anew when that differs.
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

from tests.kernel_matrix import ours
from tests.kernel_matrix.catalogue import GUEST_PYTHON, GUEST_SUITE
from tests.kernel_matrix.cpio import CpioWriter, joined
from tests.kernel_matrix.packages import FetchError, Package, sources, unpack

PROJECT = Path(__file__).parent.parent.parent
_GUEST = Path(__file__).parent / "guest"

# pytest and what the tests import; nothing of it is compiled for one Python, or it falls back.
_PYTHON_PACKAGES = ["pytest", "hypothesis", "pyroute2"]
_DEBIAN_PACKAGES = ["python3", "iproute2", "nftables", "procps", "kmod", "e2fsprogs"]
_LEFT_OUT = ["doc/*", "man/*", "locale/*", "i18n/*", "lintian/*"]
# What tests of sockets may need of a kernel's modules, and the disk that outlasts a guest.
_MODULES = ["net", "lib", "crypto", "drivers/net", "drivers/block", "drivers/virtio"]
_PROJECT_TREES = ["plugins", "tests"]
_PROJECT_FILES = ["pyproject.toml"]


class Boot(NamedTuple):
    """The files that a kernel is started from. release: as uname -r prints it."""

    release: str
    kernel: Path
    modules: Path


def _stamped(made: Path, made_of: object) -> bool:
    """Whether the file or directory is there and was made of the same."""
    stamp = made.with_name(made.name + ".stamp")
    return made.exists() and stamp.exists() and stamp.read_text() == json.dumps(made_of)


def _stamp(made: Path, made_of: object) -> None:
    made.with_name(made.name + ".stamp").write_text(json.dumps(made_of))


def _run(*words: str, **options: str) -> None:
    done = subprocess.run(words, env={**os.environ, **options}, check=False, capture_output=True)
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()
        raise FetchError(f"{words[0]} failed ({done.returncode}): {told[-2000:]}")


def guest_root(cache: Path) -> Path:
    """The archive of the guests' root file system. Raises FetchError."""
    root = cache / "root.cpio"
    versions = (PROJECT / "requirements" / "dev.txt").read_text()
    recipe = [GUEST_SUITE, GUEST_PYTHON, _DEBIAN_PACKAGES, _PYTHON_PACKAGES, _LEFT_OUT, versions]
    if _stamped(root, recipe):
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
        *(f"--dpkgopt=path-exclude=/usr/share/{each}" for each in _LEFT_OUT),
        f"--customize-hook=copy-in {site} /opt",
        # Emulated, this would take minutes.
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
    """A kernel's own files, unpacked, and its modules as an archive. Raises FetchError."""
    files = cache / f"{package.name}_{package.version}"
    archive = files.with_name(files.name + ".modules.cpio")
    made_of = [package.name, package.version, _MODULES]
    if not _stamped(archive, made_of):
        shutil.rmtree(files, ignore_errors=True)
        unpack(package, files)
    (modules,) = [
        each
        for where in ("lib/modules", "usr/lib/modules", "usr/lib/uml/modules")
        for each in (files / where).glob("*")
    ]
    patterns = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz", "usr/bin/linux.uml")
    kernels = [each for pattern in patterns for each in files.glob(pattern)]
    if len(kernels) != 1:
        raise FetchError(f"{package.name} {package.version} holds {len(kernels)} kernels")
    release = modules.name
    if not _stamped(archive, made_of):
        _archive_modules(modules, archive)
        _stamp(archive, made_of)
    return Boot(release, kernels[0], archive)


def _archive_modules(modules: Path, archive: Path) -> None:
    base = archive.with_suffix(".tree")
    shutil.rmtree(base, ignore_errors=True)
    target = base / "lib" / "modules" / modules.name
    target.mkdir(parents=True)
    for each in _MODULES:
        if (modules / "kernel" / each).is_dir():
            shutil.copytree(modules / "kernel" / each, target / "kernel" / each)
    for each in modules.glob("modules.builtin*"):
        shutil.copy(each, target)
    if (modules / "modules.order").exists():
        shutil.copy(modules / "modules.order", target)
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    _run("depmod", "--basedir", str(base), modules.name, PATH=path)
    with archive.open("wb") as out, CpioWriter(out) as writer:
        writer.directory("usr/lib/modules")
        writer.tree(target, f"usr/lib/modules/{modules.name}")
    shutil.rmtree(base)


def assemble(root: Path, boot: Boot, order: dict[str, object], word: str, out: Path) -> None:
    """Everything in one file: the root, the modules, the project as it is now, and what to do.

    word: as in ours.py.
    """
    project = out.with_suffix(".project")
    with project.open("wb") as target, CpioWriter(target) as writer:
        writer.directory("project")
        for name in _PROJECT_TREES:
            writer.tree(PROJECT / name, f"project/{name}")
        for name in _PROJECT_FILES:
            writer.file(f"project/{name}", (PROJECT / name).read_bytes())
        writer.file("init", (_GUEST / "init").read_bytes(), 0o755)
        writer.file("order.json", json.dumps(order).encode())
        writer.file(ours.FILE, word.encode())
    joined([root, boot.modules, project], out)
    project.unlink()


def core_digest() -> str:
    """sha256 over the core: the path and the content of each of its Python files, in order."""
    core = PROJECT / "plugins" / "module_utils" / "_core"
    total = hashlib.sha256()
    for path in sorted(core.rglob("*.py")):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content}  {path.relative_to(core).as_posix()}\n".encode())
    return total.hexdigest()
