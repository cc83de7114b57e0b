# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parser: an option for each of the API, help texts, examples that parse, completion."""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from linuxnet_sockets.api.options import OPERATIONS, Kind
from linuxnet_sockets.destroy import outcomes
from linuxnet_sockets.errors import (
    DumpInterrupted,
    EngineUnavailable,
    EvaluationIncomplete,
    HandlerMissing,
    InputError,
    NamespaceDenied,
    NamespaceNotFound,
    NetlinkError,
    NotEvaluated,
    SocketsNotDestroyed,
    TooManySockets,
)
from linuxnet_sockets.host.host import Host
from linuxnet_sockets.selector.keys import KEYS
from linuxnet_sockets.selector.parse import parse_selector
from linuxnet_sockets.socketctl import commands, completion, exit_status, help_texts
from linuxnet_sockets.socketctl.main import parse, run
from linuxnet_sockets.socketctl.parser import OMITTED, Parser, get_parser, given_options

CORE = Path(__file__).resolve().parents[3] / "plugins" / "module_utils" / "_core"
PATHS = [path for path in help_texts.DESCRIPTIONS if path != "policy"]
OPERATION_COMMANDS = [path for path in PATHS if path != "completion"]


def parsers() -> Iterator[tuple[str, Parser]]:
    waiting = [get_parser()]
    while waiting:
        parser = waiting.pop()
        yield parser.path, parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                waiting.extend(action.choices.values())


BY_PATH = dict(parsers())


def test_every_command_is_described_and_implemented() -> None:
    assert set(BY_PATH) == {"", *help_texts.DESCRIPTIONS}
    assert set(help_texts.EXAMPLES) == set(BY_PATH)
    assert set(commands.COMMANDS) == set(PATHS)


@pytest.mark.parametrize("path", OPERATION_COMMANDS)
def test_every_option_of_the_operation_has_an_option(path: str) -> None:
    parser = BY_PATH[path]
    names = {action.dest for action in parser._actions}
    for option in OPERATIONS[parser.get_default("operation")].values():
        expected = {Kind.SELECTOR: "selector", Kind.POLICY: "file"}.get(option.kind, option.name)
        assert (expected in names) != (option.name in OMITTED), option.name


def test_omitted_options_exist() -> None:
    known = {name for table in OPERATIONS.values() for name in table}
    assert set(OMITTED) <= known


@pytest.mark.parametrize("path", BY_PATH)
def test_help_is_as_wide_as_a_terminal(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = BY_PATH[path].format_help()
    assert max(map(len, text.splitlines())) <= 80
    assert "exit status:" in text
    assert "%%" not in text
    for status in BY_PATH[path].statuses:
        assert f"\n  {status} " in text


@pytest.mark.parametrize("key", KEYS)
def test_help_names_every_key_of_a_selector(key: str) -> None:
    assert f"\n  {key} " in BY_PATH["list"].format_help()


def examples() -> Iterator[list[str]]:
    for found in help_texts.EXAMPLES.values():
        for _text, line in found:
            words = shlex.split(line)
            if words[0] == "socketctl":
                yield words[1:]


@pytest.mark.parametrize("words", [each for each in examples() if "completion" not in each])
def test_example_of_the_help_is_valid(words: list[str]) -> None:
    parsed = parse(get_parser(), words)
    options = given_options(parsed)
    if "match" in options:
        role = parsed.path if parsed.path == "destroy" else "find"
        parse_selector(options["match"], names=Host(), role=role)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["policy"],
        ["nothing"],
        ["list", "--nothing"],
        ["list", "--lim", "5"],
        ["policy", "check", "a", "b"],
        ["policy", "check"],
        ["list", "--json", "--ndjson"],
        ["completion", "tcsh"],
    ],
)
def test_wrong_command_line(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run(words)
    assert caught.value.code == exit_status.USAGE
    assert capsys.readouterr().err.startswith("usage: socketctl")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("socketctl ")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InputError((), None, "", ""), exit_status.USAGE),
        (NetlinkError("list", 1), exit_status.IMPOSSIBLE),
        (NetlinkError("list", 12), exit_status.FAILED),
        (NamespaceDenied("x", 1), exit_status.IMPOSSIBLE),
        (NamespaceNotFound("x"), exit_status.FAILED),
        (HandlerMissing("udp"), exit_status.IMPOSSIBLE),
        (EngineUnavailable("pidfd", ""), exit_status.IMPOSSIBLE),
        (DumpInterrupted("list", 3), exit_status.FAILED),
    ],
)
def test_exit_status_of_an_error(error: Exception, status: int) -> None:
    assert exit_status.of_error(error) == status  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", sorted(outcomes.FAILING))
def test_exit_status_of_each_outcome_that_fails(outcome: str) -> None:
    impossible = {"not_permitted", "unsupported_protocol", "kernel_without_destroy"}
    expected = exit_status.IMPOSSIBLE if outcome in impossible else exit_status.FAILED
    assert (
        exit_status.of_failures([SocketsNotDestroyed({outcome: 1, "destroyed": 2}, 3)]) == expected
    )


def test_exit_status_of_several_failures() -> None:
    denied = EvaluationIncomplete((NotEvaluated("x", None, NamespaceDenied("x", 1)),))
    limit = TooManySockets(2, 1, None, None)
    busy = SocketsNotDestroyed({"busy": 1, "not_permitted": 1}, 2)
    assert exit_status.of_failures([]) == 0
    assert exit_status.of_failures([denied]) == exit_status.IMPOSSIBLE
    assert exit_status.of_failures([denied, limit]) == exit_status.LIMIT
    assert exit_status.of_failures([denied, limit, busy]) == exit_status.FAILED


# Prints the modules that a command line imports.
IMPORTED = """
import contextlib, importlib.util, io, sys
spec = importlib.util.spec_from_file_location(
    "linuxnet_sockets", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]]
)
sys.modules["linuxnet_sockets"] = package = importlib.util.module_from_spec(spec)
spec.loader.exec_module(package)
from linuxnet_sockets.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[2:])
print(*(name for name in sys.modules if name.startswith("linuxnet_sockets.")))
print(*(name for name in ("yaml", "pyroute2", "importlib.metadata") if name in sys.modules))
"""


def imported_by(*words: str) -> tuple[set[str], str]:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, CORE, *words], check=True, capture_output=True, text=True
    )
    modules, others = done.stdout.splitlines()
    return {name.split(".", 1)[1] for name in modules.split()}, others


def folders(modules: set[str]) -> set[str]:
    return {name.split(".")[0] for name in modules}


def test_list_imports_only_what_it_needs() -> None:
    modules, others = imported_by("list")
    assert folders(modules) & {"agent", "policy", "drain", "destroy"} == set()
    assert modules & {"socketctl.completion", "socketctl.progress"} == set()
    assert others == ""


def test_destroy_imports_no_drain_and_no_policy() -> None:
    modules, _others = imported_by("destroy", "remote=192.0.2.1", "--dry-run")
    assert "destroy" in folders(modules)
    assert folders(modules) & {"agent", "policy", "drain"} == set()


def test_usage_error_imports_nothing_of_the_kernel() -> None:
    modules, _others = imported_by("list", "--nothing")
    assert folders(modules) <= {"cli", "socketctl", "api", "values", "errors", "text"}


COMPLETIONS = {
    "socketctl ": ["completion", "destroy", "drain", "list", "policy", "stuck", "support"],
    "socketctl li": ["list"],
    "socketctl list st": ["state=", "stranded=", "stuck="],
    "socketctl list state=est": ["established"],
    "socketctl list state=established,close-": ["established,close-wait"],
    "socketctl destroy protocol!=u": ["udp", "udplite"],
    "socketctl stuck stuck=cl": ["close_wait"],
    "socketctl policy ": ["check", "enforce", "firewall", "plan"],
    "socketctl policy plan --d": ["--detailed-exitcode"],
    "socketctl drain --until ": ["closed", "sent"],
    "socketctl list -d info,pro": ["info,process"],
    "socketctl list --group-by remote_": ["remote_port"],
    "socketctl list --limit ": [],
    "socketctl list -N cur": ["current"],
    "socketctl completion ": ["bash", "fish", "zsh"],
}

BASH = """
source /dev/stdin
COMP_LINE=$1 COMP_POINT=${#1}
_socketctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize("line", COMPLETIONS)
def test_completion_in_bash(line: str) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    done = subprocess.run(
        [bash, "--norc", "-c", BASH, "bash", line],
        check=True,
        capture_output=True,
        text=True,
        input=completion.script(get_parser(), "bash"),
    )
    assert sorted(done.stdout.split()) == COMPLETIONS[line]
    assert done.stderr == ""


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_completion_script_is_valid(shell: str, tmp_path: Path) -> None:
    text = completion.script(get_parser(), shell)
    for path in PATHS:
        assert path.split()[-1] in text
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"there is no {shell}")
    script = tmp_path / "script"
    script.write_text(text)
    done = subprocess.run([program, "-n", script], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_completion_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "fish"]) == 0
    assert capsys.readouterr().out == completion.script(get_parser(), "fish")
