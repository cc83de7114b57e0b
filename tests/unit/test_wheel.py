# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wheel is the core and the Salt extension. The core imports nothing else."""

from __future__ import annotations

import email
import re
import shutil
import subprocess
import sys
import zipfile
from email.message import Message
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

import linuxnet_sockets
from linuxnet_sockets.agent import cli as agent

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "plugins" / "module_utils" / "_core"
SALT = ROOT / "src" / "saltext"
# The oldest and the newest minor version of Python 3.
PYTHONS = range(9, 15)
# The console scripts, and the sections of their manual pages.
COMMANDS = {"socket-agent": 8, "socketctl": 1}
# Macros of man(7) that the pages use.
MACROS = {"TH", "SH", "SS", "PP", "TP", "B", "RS", "RE", "EX", "EE", "ad"}
PIP = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]

# All modules except the agent, which has dependencies.
IMPORT_ALL = """
import importlib, pkgutil, sys
sys.path.insert(0, sys.argv[1])
import linuxnet_sockets
for found in pkgutil.walk_packages(linuxnet_sockets.__path__, "linuxnet_sockets."):
    if not found.name.startswith("linuxnet_sockets.agent"):
        importlib.import_module(found.name)
        print(found.name)
"""


def build(source: Path, folder: Path) -> Path:
    """Build the wheel of a source tree, without an index."""
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*PIP, "wheel", *offline, "--wheel-dir", folder, source], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (text,) = (
            archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")
        )
    return email.message_from_string(text)


@pytest.fixture(scope="module")
def share(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data files of the wheel that pip installs in PREFIX/share."""
    folder = tmp_path_factory.mktemp("data")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    (data,) = folder.glob("*.data")
    assert {path.name for path in data.rglob("*") if path.parent.parent == data} == {"share"}
    return data / "data" / "share"


def galaxy_version() -> str:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    assert isinstance(version, str)
    return version


@pytest.mark.parametrize(("package", "source"), [("linuxnet_sockets", CORE), ("saltext", SALT)])
def test_wheel_contains_each_package_unchanged(wheel: Path, package: str, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            name.split("/", 1)[1]: archive.read(name)
            for name in archive.namelist()
            if name.startswith(f"{package}/")
        }

    assert packed == {
        str(path.relative_to(source)): path.read_bytes()
        for pattern in ("*.py", "*.pyi", "*.j2", "py.typed")
        for path in source.rglob(pattern)
    }


def test_wheel_has_no_other_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        top = {name.split("/")[0] for name in archive.namelist()}

    assert {name for name in top if not name.endswith((".data", ".dist-info"))} == {
        "linuxnet_sockets",
        "saltext",
    }


def test_saltext_is_a_namespace_package() -> None:
    assert not (SALT / "__init__.py").exists()


def test_salt_package_is_empty_and_requires_the_wheel(wheel: Path, tmp_path: Path) -> None:
    offline = ["--no-deps", "--no-index", "--no-build-isolation"]
    source = ROOT / "packaging" / "saltext"
    subprocess.run([*PIP, "wheel", *offline, "--wheel-dir", tmp_path, source], check=True)
    (built,) = tmp_path.glob("*.whl")
    name, version = wheel.name.split("-")[:2]
    with zipfile.ZipFile(built) as archive:
        names = archive.namelist()
        (metadata,) = (archive.read(each) for each in names if each.endswith("/METADATA"))

    assert version == galaxy_version()
    assert {each.split("/")[0].rpartition(".")[2] for each in names} == {"dist-info"}
    assert built.name.startswith(f"saltext_linuxnet_sockets-{version}-")
    required = f"Requires-Dist: {name.replace('_', '-')}[salt]=={version}"
    assert required in metadata.decode().splitlines()


def test_wheel_has_no_dependencies(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (
            archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA")
        )

    required = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:")]

    assert "Name: linuxnet-sockets" in metadata.splitlines()
    assert required
    assert all("; extra == '" in line for line in required)


def test_installed_wheel_imports_without_site_packages(wheel: Path, tmp_path: Path) -> None:
    install = ["install", "--no-deps", "--no-index", "--target", tmp_path, wheel]
    subprocess.run([*PIP, *install], check=True)

    # -I -S: neither the environment, nor this directory, nor site-packages.
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", IMPORT_ALL, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert "linuxnet_sockets.netlink.connection" in ran.stdout.splitlines()


def test_the_wheel_and_the_core_have_the_version_of_the_collection(metadata: Message) -> None:
    assert metadata["Version"] == linuxnet_sockets.__version__ == galaxy_version()


def test_the_metadata_name_each_supported_python(metadata: Message) -> None:
    prefix = "Programming Language :: Python :: 3."
    named = [text for text in metadata.get_all("Classifier", []) if text.startswith(prefix)]

    assert named == [f"{prefix}{minor}" for minor in PYTHONS]
    assert metadata["Requires-Python"] == f">=3.{PYTHONS[0]}"


def test_the_metadata_hold_the_readme_with_absolute_links(metadata: Message) -> None:
    text = str(metadata.get_payload())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    base = f"{dict(url.split(', ') for url in metadata.get_all('Project-URL', []))['Source']}/"

    assert metadata["Description-Content-Type"] == "text/markdown"
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:
        path = link.removeprefix(f"{base}blob/main/")
        assert path == link or (ROOT / path).exists(), link
    assert text.replace(f"{base}blob/main/", "") == readme


def test_the_console_scripts_exist(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (text,) = (
            archive.read(name).decode()
            for name in archive.namelist()
            if name.endswith("/entry_points.txt")
        )
    section = re.findall(r"\[console_scripts\]\n((?:.+\n)+)", text)[0]
    found = dict(line.split(" = ") for line in section.splitlines())

    assert found.keys() == COMMANDS.keys()
    for name, value in found.items():
        assert value.startswith("linuxnet_sockets."), name
        entry = EntryPoint(name, value, "console_scripts")
        assert callable(getattr(import_module(entry.module), entry.attr))


def test_the_wheel_has_pages_and_completions_of_each_command(share: Path) -> None:
    found = {str(path.relative_to(share)) for path in share.rglob("*") if path.is_file()}

    assert found == {
        path
        for name, section in COMMANDS.items()
        for path in (
            f"man/man{section}/{name}.{section}",
            f"bash-completion/completions/{name}",
            f"zsh/site-functions/_{name}",
            f"fish/vendor_completions.d/{name}.fish",
        )
    }


@pytest.fixture(params=COMMANDS)
def page(request: pytest.FixtureRequest, share: Path) -> Path:
    section = COMMANDS[request.param]
    return share / f"man/man{section}/{request.param}.{section}"


def test_a_manual_page_is_ascii_and_uses_known_macros(page: Path) -> None:
    text = page.read_text(encoding="ascii")
    assert set(re.findall(r"^\.(\w+)", text, re.MULTILINE)) <= MACROS
    assert re.findall(r"^['.](?!\w)", text, re.MULTILINE) == []
    assert "%(default" not in text


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_a_manual_page_renders_without_warnings(page: Path) -> None:
    ran = subprocess.run(
        ["groff", "-man", "-ww", "-Tascii", page], capture_output=True, text=True, check=True
    )
    assert ran.stderr == ""
    rendered = re.sub(".\b", "", ran.stdout)
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "EXIT STATUS", "SEE ALSO"):
        assert re.search(rf"^{title}$", rendered, re.MULTILINE), title


def test_the_page_of_the_agent_has_each_command_and_option(share: Path) -> None:
    text = (share / "man/man8/socket-agent.8").read_text().replace("\\-", "-").replace("\\%", "")
    commands = agent.get_parser()._subparsers
    assert commands is not None
    for name, command in commands._group_actions[0].choices.items():  # type: ignore[union-attr]
        (described,) = re.findall(
            rf'^\.SS "{name}\b[^\n]*\n(.*?)^\.S', text, re.DOTALL | re.MULTILINE
        )
        for action in command._actions:
            for option in set(action.option_strings) - {"-h", "--help"}:
                assert f"\\fB{option}\\fP" in described


@pytest.mark.parametrize(
    ("shell", "path"),
    [
        ("bash", "bash-completion/completions/{}"),
        ("zsh", "zsh/site-functions/_{}"),
        ("fish", "fish/vendor_completions.d/{}.fish"),
    ],
)
@pytest.mark.parametrize("name", COMMANDS)
def test_the_shell_reads_its_completion_script(
    share: Path, name: str, shell: str, path: str
) -> None:
    script = share / path.format(name)
    assert name in script.read_text(encoding="utf-8")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n", script], check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["e"], {"events"}),
        (["events", "--re"], {"--reconnect"}),
        (["check", "COPY"], {"COPYING"}),
        (["events", "--runtime-directory", "LICEN"], {"LICENSES"}),
    ],
)
def test_bash_completes_commands_options_and_files(
    share: Path, words: list[str], expected: set[str]
) -> None:
    script = """
        source "$1"; shift
        COMP_WORDS=(socket-agent "$@") COMP_CWORD=$#
        _shtab_socket_agent socket-agent "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    completion = share / "bash-completion/completions/socket-agent"
    ran = subprocess.run(
        ["bash", "-c", script, "bash", completion, *words],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert set(ran.stdout.split()) == expected


def test_the_source_distribution_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.glob("*.tar.gz")

    assert build(archive, tmp_path).read_bytes() == wheel.read_bytes()
