# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of the agent: the same as those that the Ansible role ``agent`` installs.

The templates are those of the role, ``roles/agent/templates``. The program is a copy of the core of
this installation, in a directory named after its digest, so that a package of the distribution can
run it: the agent does not use the Python of Salt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"

LIBRARY = "/usr/local/lib/linuxnet-sockets"
UNIT = "socket-agent.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
CONFIG_DIRECTORY = "/etc/linuxnet-sockets"
POLICY_FILE = f"{CONFIG_DIRECTORY}/policy.json"
PROTECT_DIRECTORY = f"{CONFIG_DIRECTORY}/protect.d"
STATE_DIRECTORY = "/var/lib/linuxnet-sockets"
RUNTIME_DIRECTORY = "/run/linuxnet-sockets"
AGENT = "/usr/local/sbin/socket-agent"
# The commands and the modules that they run.
COMMANDS = {
    AGENT: "linuxnet_sockets.agent.cli",
    "/usr/local/bin/socketctl": "linuxnet_sockets.cli",
}
# Marks the user as created for the agent.
USER_COMMENT = "linuxnet.sockets agent"

METRICS = f"{RUNTIME_DIRECTORY}/metrics.prom"
_SUMS = "SHA256SUMS"
_MANAGED = "Salt managed"


@dataclass(frozen=True)
class Settings:
    """The variables of the unit.

    reads_owners: whether the policy or the protection needs the owners of sockets. namespaces: the
    network namespaces of the policy. engine: that of the policy. systemd: its version.
    """

    user: str
    resync: str
    watchdog: str
    metrics_file: str
    reads_owners: bool
    namespaces: Sequence[str]
    engine: str
    systemd: int


def unit(settings: Settings, templates: Path = TEMPLATES, managed: str = _MANAGED) -> str:
    """The systemd unit."""
    return _render(
        templates / "socket-agent.service.j2",
        managed,
        agent__command=AGENT,
        agent__engine=settings.engine,
        agent__metrics=METRICS,
        agent__reads_owners=settings.reads_owners,
        agent__foreign_namespaces=[each for each in settings.namespaces if each != "current"],
        agent_metrics_file=settings.metrics_file,
        agent_resync=settings.resync,
        agent_user=settings.user,
        agent_watchdog=settings.watchdog,
        ansible_facts={"systemd": {"version": settings.systemd}},
    )


def launcher(
    module: str,
    program: str,
    python: str,
    templates: Path = TEMPLATES,
    managed: str = _MANAGED,
) -> str:
    """A command. module: runs its function main. program: the directory of the core."""
    return _render(
        templates / "launcher.j2",
        managed,
        agent__interpreter=python,
        agent__module=module,
        agent__program=program,
    )


def json_text(value: Any) -> str:
    """A policy, or selectors of the protection, as a file."""
    return json.dumps(value, indent=4, sort_keys=True) + "\n"


def _render(template: Path, managed: str, **variables: Any) -> str:
    # The settings of Ansible's module template.
    environment = jinja2.Environment(
        trim_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    text = template.read_text(encoding="utf-8")
    return environment.from_string(text).render(ansible_managed=managed, **variables)


def is_metrics_link(path: str) -> bool:
    """Whether a path is a link to the metrics. Other files are neither replaced nor removed."""
    return os.path.islink(path) and os.readlink(path) == METRICS


def core_files(core: Path) -> dict[str, bytes]:
    """The Python files of a core by relative path, in order."""
    return {
        path.relative_to(core).as_posix(): path.read_bytes()
        for path in sorted(core.rglob("*.py"), key=lambda path: path.relative_to(core).as_posix())
    }


def digest(files: Mapping[str, bytes]) -> str:
    """The digest that the role computes for the same core."""
    lines = [json.dumps({path: content.decode()}) for path, content in files.items()]
    bundle = "".join(f"{line}\n" for line in ["# The core of linuxnet.sockets.", *lines])
    return hashlib.sha256(bundle.encode()).hexdigest()[:16]


def program(files: Mapping[str, bytes]) -> str:
    """The directory of this core on the host."""
    return f"{LIBRARY}/core-{digest(files)}"


def is_installed(files: Mapping[str, bytes], target: str) -> bool:
    """Whether the directory has exactly these files."""
    found = core_files(Path(target) / "linuxnet_sockets")
    return found == dict(files) and (Path(target) / _SUMS).exists()


def install(files: Mapping[str, bytes], target: str) -> None:
    """Write a core to a directory, at once. Raises OSError."""
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".core-", dir=os.path.dirname(target)))
    try:
        new.chmod(0o755)
        sums = ""
        for relative, content in files.items():
            path = new / "linuxnet_sockets" / relative
            _make_directories(path.parent, new)
            path.write_bytes(content)
            path.chmod(0o644)
            sums += f"{hashlib.sha256(content).hexdigest()}  linuxnet_sockets/{relative}\n"
        (new / _SUMS).write_text(sums, encoding="utf-8")
        (new / _SUMS).chmod(0o644)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _make_directories(path: Path, top: Path) -> None:
    """As makedirs(), with mode 0755 whatever the umask is."""
    if path != top and not path.exists():
        _make_directories(path.parent, top)
        path.mkdir()
        path.chmod(0o755)


def obsolete(target: str) -> list[str]:
    """Other directories in the library: replaced programs."""
    directory = Path(target).parent
    if not directory.is_dir():
        return []
    return sorted(
        str(path)
        for path in directory.iterdir()
        if path.name.startswith(("core-", ".core-")) and str(path) != target
    )
