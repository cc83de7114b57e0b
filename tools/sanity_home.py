# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Prepare a home directory for ansible-test: settings of pip, and an offline get-pip.py.

usage: sanity_home.py HOME WHEELS      (with the Python of .venv)

ansible-test creates virtual environments without pip, downloads get-pip.py to install it, and does
not pass PIP_* variables on. This script therefore writes the current settings of pip to the
configuration file in HOME. It also puts a replacement for get-pip.py, which runs pip from its
wheel, into the cache of ansible-test.
"""

from __future__ import annotations

import ast
import configparser
import subprocess
import sys
from pathlib import Path

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]

GET_PIP = """\
import runpy
import sys

sys.path.insert(0, {wheel!r})
sys.argv[1:] = ["install", *(a for a in sys.argv[1:] if a not in ("--no-setuptools", "--no-wheel"))]
runpy.run_module("pip", run_name="__main__")
"""


def write_pip_settings(home: Path) -> None:
    """Write the settings of `pip config list`. Environment variables override files."""
    listed = subprocess.run([*PIP, "config", "list"], check=True, stdout=subprocess.PIPE, text=True)
    settings = configparser.RawConfigParser()
    entries = [line.split("=", 1) for line in listed.stdout.splitlines() if "=" in line]
    for key, value in sorted(entries, key=lambda entry: entry[0].startswith(":env:")):
        section, name = key.rsplit(".", 1)
        section = "global" if section == ":env:" else section
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, name, ast.literal_eval(value))
    target = home / ".config" / "pip" / "pip.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8") as file:
        settings.write(file)


def pip_version() -> str:
    """The version of pip that ansible-test installs into its environments."""
    from ansible_test._internal.host_configs import NativePythonConfig
    from ansible_test._internal.python_requirements import get_venv_packages

    python = NativePythonConfig(version="{}.{}".format(*sys.version_info), path=sys.executable)
    return get_venv_packages(python)["pip"]


def write_get_pip(home: Path, wheels: Path, version: str) -> None:
    pattern = f"pip-{version}-*.whl"
    if not list(wheels.glob(pattern)):
        download = ["download", "--quiet", "--no-deps", "--dest", str(wheels), f"pip=={version}"]
        subprocess.run([*PIP, *download], check=True)
    (wheel,) = wheels.glob(pattern)
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    script.write_text(GET_PIP.format(wheel=str(wheel)), encoding="utf-8")


def main() -> None:
    home, wheels = (Path(argument).resolve() for argument in sys.argv[1:3])
    write_pip_settings(home)
    write_get_pip(home, wheels, pip_version())


if __name__ == "__main__":
    main()
