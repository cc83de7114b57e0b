# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Role kernel_support on the running kernel, in a network namespace with its own /etc."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from linuxnet_sockets.host.host import Host
from linuxnet_sockets.host.kernel_config import read_config
from linuxnet_sockets.host.namespaces import resolve
from linuxnet_sockets.query import capabilities
from linuxnet_sockets.sockets.session import NamespaceSession
from tests.integration.controller import BIN, ROOT
from tests.support.topologies.topology import Lab, LabNamespace

ROLE = "linuxnet.sockets.kernel_support"
_FOLDERS = ("sysctl.d", "modules-load.d")
SYSCTLS = "90-linuxnet-sockets.conf"
MODULES = "linuxnet-sockets.conf"
FAIL_FAST = {
    "tcp_fin_timeout": 30,
    "tcp_keepalive_intvl": 10,
    "tcp_keepalive_probes": 6,
    "tcp_keepalive_time": 60,
    "tcp_retries2": 8,
    "tcp_syn_retries": 4,
}
RELEASE = os.uname().release


class Played(NamedTuple):
    """Result of a play. changed: (template or module, label of the item) of each change."""

    changed: set[tuple[str, str]]
    failures: list[str]
    messages: str
    diff: str

    @property
    def failed(self) -> str:
        return "\n".join(self.failures)


class Target:
    """This machine with test directories mounted over the directories that the role writes."""

    def __init__(self, where: LabNamespace, base: Path) -> None:
        self.where = where
        self.base = base
        self.etc = base / "etc"
        for name in _FOLDERS:
            (self.etc / name).mkdir(parents=True)

    def play(self, *prefix: str, modes: tuple[str, ...] = (), **variables: Any) -> Played:
        """Run the role. prefix: a command that runs it. modes: options of ansible-playbook."""
        extra = ["-e", json.dumps(_prefixed(variables))]
        return self._run([*modes, *extra], prefix, {"roles": [{"role": ROLE}]})

    def failures(self, cases: list[dict[str, Any]]) -> list[str]:
        """Run the role with each of these variables and return the messages of the failures."""
        tasks = [
            {
                "block": [
                    {"ansible.builtin.include_role": {"name": ROLE}, "vars": _prefixed(case)}
                ],
                "rescue": [{"ansible.builtin.meta": "noop"}],
            }
            for case in cases
        ]
        played = self._run([], (), {"tasks": tasks})
        assert played.changed == set()
        return played.failures

    def _run(self, options: list[str], prefix: tuple[str, ...], content: dict[str, Any]) -> Played:
        playbook = self.base / "play.yml"
        playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, **content}]))
        mounts = "; ".join(f'mount --bind "{self.etc / name}" /etc/{name}' for name in _FOLDERS)
        unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
        inherited = {name: value for name, value in os.environ.items() if name[:8] != "ANSIBLE_"}
        done = subprocess.run(
            [
                *self.where.command(*unshare, f'{mounts}; exec "$@"', "sh", *prefix),
                str(BIN / "ansible-playbook"),
                *options,
                *("-i", str(ROOT / "tools" / "inventory.yml"), str(playbook)),
            ],
            cwd=ROOT,
            env={
                **inherited,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
                "ANSIBLE_PIPELINING": "true",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        try:
            output = json.loads(done.stdout)
        except ValueError:
            raise AssertionError(done.stdout + done.stderr) from None
        assert output["stats"]["localhost"]["failures"] == (done.returncode != 0)
        return _played(output)

    def file(self, folder: str, name: str) -> str | None:
        path = self.etc / folder / name
        return path.read_text() if path.exists() else None

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.etc)) for path in self.etc.glob("*/*"))

    def sysctls(self) -> dict[str, int]:
        """Values of the TCP sysctls that the role supports."""
        known = yaml.safe_load((ROOT / "roles/kernel_support/vars/main.yml").read_text())
        base = Path("/proc/sys/net/ipv4")
        names = sorted(known["kernel_support__allowed"])
        return self.where.run(lambda: {name: int((base / name).read_text()) for name in names})


def _tasks() -> dict[str, str]:
    """Tasks of the role by name, with the template that a task writes, or its module."""
    kinds: dict[str, str] = {}
    for path in (ROOT / "roles" / "kernel_support" / "tasks").glob("*.yml"):
        for task in yaml.safe_load(path.read_text()):
            module = next(key for key in task if "." in key)
            arguments = task[module] if isinstance(task[module], dict) else {}
            kinds[task["name"]] = arguments.get("src", module.rpartition(".")[2])
    return kinds


def _played(output: dict[str, Any]) -> Played:
    kinds = _tasks()
    changed: set[tuple[str, str]] = set()
    failed, messages, diffs = [], [], []
    for task in output["plays"][0]["tasks"]:
        name = task["task"]["name"].removeprefix("linuxnet.sockets.kernel_support : ")
        result = task["hosts"].get("localhost", {})
        for item in result.get("results", [result]):
            if item.get("changed"):
                changed.add((kinds[name], str(item.get("_ansible_item_label", ""))))
            if item.get("failed"):
                failed.append("\n".join([str(item["msg"]), *item.get("argument_errors", [])]))
            diff = item.get("diff") or []
            diffs += [part.get("after") for part in (diff if isinstance(diff, list) else [diff])]
        if kinds.get(name) == "debug":
            messages += result.get("msg", [])
    return Played(changed, failed, "\n".join(messages), "\n".join(map(str, diffs)))


def _prefixed(variables: dict[str, Any]) -> dict[str, Any]:
    return {f"kernel_support_{name}": value for name, value in variables.items()}


@pytest.fixture(scope="module")
def _folders(_require_namespaces: None) -> None:
    missing = [name for name in _FOLDERS if not Path("/etc", name).is_dir()]
    if missing:
        pytest.skip(f"this machine has no /etc/{missing[0]} to mount over")


@pytest.fixture
def target(_folders: None, tmp_path: Path) -> Iterator[Target]:
    with Lab() as lab:
        yield Target(lab.namespace("role"), tmp_path)


def test_defaults_change_nothing(target: Target) -> None:
    before = target.sysctls()
    played = target.play(require="ignore", modules=[])
    assert (played.changed, played.failed) == (set(), "")
    assert target.sysctls() == before
    assert target.files() == []


@pytest.mark.slow
def test_sysctls_set_predicted_and_restored(target: Target) -> None:
    before = target.sysctls()
    variables = {"sysctl_profile": "fail-fast", "sysctls": {"tcp_retries2": 9, "tcp_tw_reuse": "1"}}
    values = {**FAIL_FAST, "tcp_retries2": 9, "tcp_tw_reuse": 1}
    assert not values.items() & before.items()

    predicted = target.play(modes=("--check", "--diff"), **variables)
    assert (target.sysctls(), target.files()) == (before, [])
    first = target.play(**variables)
    assert first.failed == ""
    assert (
        first.changed
        == predicted.changed
        == {
            ("sysctl.conf.j2", ""),
            *(("sysctl", f"{name}: {before[name]} -> {value}") for name, value in values.items()),
        }
    )
    assert target.sysctls() == {**before, **values}
    assert target.files() == [f"sysctl.d/{SYSCTLS}"]
    written = target.file("sysctl.d", SYSCTLS)
    assert written is not None
    assert written in predicted.diff
    assert _settings(written) == {f"net.ipv4.{name}": str(value) for name, value in values.items()}

    assert target.play(**variables).changed == set()

    # One sysctl is no longer configured; another was changed manually and is set again.
    target.where.sysctl("ipv4/tcp_fin_timeout", 45)
    fewer = target.play(sysctl_profile="fail-fast")
    assert fewer.changed == {
        ("sysctl", f"tcp_tw_reuse: 1 -> {before['tcp_tw_reuse']}"),
        ("sysctl.conf.j2", ""),
        ("sysctl", "tcp_retries2: 9 -> 8"),
        ("sysctl", "tcp_fin_timeout: 45 -> 30"),
    }
    assert target.sysctls() == {**before, **FAIL_FAST}

    # The role does not restore a value that changed after it was set.
    target.where.sysctl("ipv4/tcp_syn_retries", 5)
    predicted = target.play(modes=("--check",), state="absent")
    absent = target.play(state="absent")
    assert absent.failed == ""
    assert absent.changed == predicted.changed
    assert target.sysctls() == {**before, "tcp_syn_retries": 5}
    assert target.files() == []
    assert target.play(state="absent").changed == set()


def _settings(text: str) -> dict[str, str]:
    """Parse the settings as sysctl.d(5) does."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {name: value for name, _equals, value in (line.partition("=") for line in lines)}


def test_foreign_file_kept(target: Target) -> None:
    (target.etc / "sysctl.d" / "50-mine.conf").write_text("net.ipv4.tcp_retries2=12\n")
    target.play(sysctls={"tcp_retries2": 10})
    target.play(state="absent")
    assert target.files() == ["sysctl.d/50-mine.conf"]
    assert target.file("sysctl.d", "50-mine.conf") == "net.ipv4.tcp_retries2=12\n"


INVALID: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "an unknown sysctl": ({"sysctls": {"tcp_retires2": 3}}, ("tcp_retires2", "tcp_retries2")),
    "an unsupported sysctl": ({"sysctls": {"tcp_rmem": 3}}, ("tcp_rmem", "Supported")),
    "text instead of a number": ({"sysctls": {"tcp_retries2": "few"}}, ("tcp_retries2", "int")),
    "too large": ({"sysctls": {"tcp_retries2": 256}}, ("tcp_retries2", "256", "0 to 255")),
    "too small": ({"sysctls": {"tcp_syn_retries": 0}}, ("tcp_syn_retries", "1 to 127")),
    "null": ({"sysctls": {"tcp_retries2": None}}, ("tcp_retries2", "null")),
    "an unknown profile": ({"sysctl_profile": "fast"}, ("fail-fast", "fast")),
    "an unknown protocol": ({"protocols": ["sctp"]}, ("sctp", "mptcp")),
    "an unknown module": ({"modules": ["nf_tables"]}, ("nf_tables", "raw_diag")),
    "an unknown state": ({"state": "gone"}, ("gone", "absent")),
}


def test_invalid_variables_rejected(target: Target) -> None:
    before = target.sysctls()
    cases = [{"sysctls": {"tcp_retries1": 4}, **case} for case, _words in INVALID.values()]

    failures = target.failures(cases)

    assert len(failures) == len(INVALID)
    for name, message in zip(INVALID, failures, strict=True):
        missing = [word for word in INVALID[name][1] if word not in message]
        assert missing == [], f"{name}: {message}"
    assert (target.sysctls(), target.files()) == (before, [])


def _unsupported(where: LabNamespace) -> dict[str, str]:
    """Verdicts of the protocols whose sockets cannot be destroyed."""
    with NamespaceSession(Host(), resolve([where.name])[0]) as session:
        answers = capabilities.support_for_caller(session).items()
        return {
            name: support.verdict
            for name, support in answers
            if support.verdict != capabilities.SUPPORTED
        }


def test_unsupported_protocol_fails(target: Target) -> None:
    protocol, verdict = next(iter(_unsupported(target.where).items()))
    before = target.sysctls()

    played = target.play(protocols=["tcp", protocol], sysctls={"tcp_retries1": 4})

    assert played.failed.startswith(f"localhost, Linux {RELEASE}: {protocol} sockets cannot be ")
    assert "Remedy: " in played.failed
    assert len(played.failed.splitlines()) == 1, verdict
    assert (target.sysctls(), target.files()) == (before, [])


def test_raw_without_kernel_option(target: Target) -> None:
    if read_config("/proc", "", RELEASE).options["CONFIG_INET_RAW_DIAG"] != "n":
        pytest.skip("this kernel may have CONFIG_INET_RAW_DIAG")
    played = target.play(protocols=["raw"])
    assert played.failed.startswith(f"localhost, Linux {RELEASE}: raw sockets cannot be listed ")
    problem, _separator, remedy = played.failed.partition(" Remedy: ")
    assert "CONFIG_INET_RAW_DIAG" in problem
    assert "kernel_support_protocols" in remedy


def test_require_warn(target: Target) -> None:
    unsupported = _unsupported(target.where)
    played = target.play(
        protocols=["tcp", "udp", "udplite", "raw", "mptcp"],
        require="warn",
        sysctls={"tcp_retries1": 4},
    )
    assert played.failed == ""
    assert played.messages.startswith("WARNING: ")
    assert re.findall(
        r"^.*?: (\w+) sockets cannot be .*Remedy: .*\.$", played.messages, re.MULTILINE
    ) == [name for name in ("tcp", "udp", "udplite", "raw", "mptcp") if name in unsupported]
    assert target.sysctls()["tcp_retries1"] == 4


def test_require_ignore(target: Target) -> None:
    played = target.play(protocols=list(_unsupported(target.where)), require="ignore")
    assert (played.failed, played.messages) == ("", "")


def test_missing_capability_suggests_become(target: Target) -> None:
    dropped = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    played = target.play(*dropped)
    assert "tcp sockets cannot be destroyed: " in played.failed
    assert "CAP_NET_ADMIN" in played.failed
    assert 'Remedy: run the role with "become: true".' in played.failed


_READ_ONLY = (
    "unshare",
    *("--mount", "--propagation", "private", "sh", "-ec"),
    'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"',
    "sh",
)


def test_read_only_sysctls_fail_before_changes(target: Target) -> None:
    before = target.sysctls()
    sysctls = {"tcp_retries2": 9, "tcp_retries1": before["tcp_retries1"]}

    played = target.play(*_READ_ONLY, sysctls=sysctls)

    assert "localhost: /proc/sys/net/ipv4/tcp_retries2 cannot be written." in played.failed
    assert "container" in played.failed
    assert (played.changed, target.sysctls(), target.files()) == (set(), before, [])


def test_read_only_sysctls_with_current_values_pass(target: Target) -> None:
    value = target.sysctls()["tcp_retries2"]
    played = target.play(*_READ_ONLY, sysctls={"tcp_retries2": value})
    assert played.failed == ""
    assert played.changed == {("sysctl.conf.j2", "")}


def test_loaded_modules_only_configured(target: Target) -> None:
    """Simulates options that are built as modules (=m); nothing has to be loaded."""
    variables = {"_options_as_modules": ["CONFIG_INET_TCP_DIAG", "CONFIG_INET_UDP_DIAG"]}
    assert target.play(**variables).changed == {("modules-load.conf.j2", "")}
    written = target.file("modules-load.d", MODULES)
    assert written is not None
    assert _settings(written) == {"tcp_diag": "", "udp_diag": ""}
    assert target.play(**variables).changed == set()
    assert target.play(**variables, modules=["udp_diag"]).changed == {("modules-load.conf.j2", "")}
    assert target.play(state="absent").changed == {("file", "")}
    assert target.files() == []


def test_unloadable_module_fails(target: Target) -> None:
    """Simulates that depmod lists raw_diag; loading it fails on a kernel without it."""
    with NamespaceSession(Host(), resolve([target.where.name])[0]) as session:
        answers = {
            name: support._asdict() for name, support in capabilities.support(session).items()
        }
    if answers["raw"]["verdict"] != capabilities.HANDLER_MISSING:
        pytest.skip("this kernel has raw_diag")
    answers["raw"]["module_available"] = True

    played = target.play(_support=answers, protocols=["raw"])

    assert "its module raw_diag cannot be loaded (" in played.failed
    assert "kernel.modules_disabled" in played.failed
    assert target.files() == []
