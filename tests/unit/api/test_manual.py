# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page on the Python API names all functions and fields, and its examples run."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from textwrap import dedent
from types import FunctionType
from typing import Any

import pytest

from linuxnet_sockets import api, errors
from linuxnet_sockets.api import destroy_sockets, drain_sockets, find_sockets
from tests.support.drain_timeline import Timeline
from tests.support.fake_machine import connection

_RST = Path(__file__).parents[3] / "docs" / "docsite" / "rst"
_PAGE = (_RST / "python_api.rst").read_text(encoding="utf-8")

FUNCTIONS = [name for name in api.__all__ if isinstance(getattr(api, name), FunctionType)]
OPERATIONS = [name for name in FUNCTIONS if not name.startswith("describe")]
RESULTS = [name for name in api.__all__ if dataclasses.is_dataclass(getattr(api, name))]


def section(title: str) -> str:
    _before, rest = _PAGE.split(f"\n{title}\n{'-' * len(title)}\n")
    return re.split(r"\n\S[^\n]*\n-{3,}\n", rest)[0]


def tables(text: str) -> dict[str, list[str]]:
    """Return the first column of each table, by its heading."""
    found: dict[str, list[str]] = {}
    for table in text.split(".. list-table::")[1:]:
        heading, *cells = re.findall(r"\n  \* - (.*?)\n    - ", table, re.DOTALL)
        words = [word for cell in cells for word in re.findall(r"``(.+?)``", cell)]
        found.setdefault(heading, []).extend(words)
    return found


def code_blocks() -> list[str]:
    """Return the examples that import the API."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    [^\n]*\n|\n)+)", _PAGE)
    return [dedent(block) for block in blocks if "import api" in block]


@pytest.mark.parametrize("name", OPERATIONS)
def test_signature_is_that_of_the_function(name: str) -> None:
    (block,) = re.findall(r"\.\. code-block:: python\n\n((?:    [^\n]*\n)+)", section(name))
    call = ast.parse(dedent(block)).body[0]
    assert isinstance(call, ast.FunctionDef)
    shown = {argument.arg: None for argument in call.args.args}
    defaults = [*call.args.defaults]
    for argument, default in zip(reversed(call.args.args), reversed(defaults)):
        shown[argument.arg] = ast.literal_eval(default)
    for argument, value in zip(call.args.kwonlyargs, call.args.kw_defaults):
        assert value is not None
        shown[argument.arg] = ast.literal_eval(value)
    parameters = inspect.signature(getattr(api, name)).parameters
    assert list(shown) == list(parameters)
    for key, parameter in parameters.items():
        default = None if parameter.default is inspect.Parameter.empty else parameter.default
        assert shown[key] == default, key


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_parameter_is_on_the_page(name: str) -> None:
    parameters = inspect.signature(getattr(api, name)).parameters
    assert tables(section(name))["Parameter"] == [key for key in parameters if key != "host"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_field_of_the_result_is_on_the_page(name: str) -> None:
    text = section(name)
    classes = [name for name in re.findall(r"``(\w+)``:\n", text) if name in RESULTS]
    annotation = inspect.signature(getattr(api, name)).return_annotation
    assert classes[0] == annotation
    fields = [field.name for name in classes for field in dataclasses.fields(getattr(api, name))]
    shown = tables(text)["Field"]
    # Results without warnings or failures may omit these fields.
    assert [key for key in fields if key in shown or key not in ("warnings", "failures")] == shown


def test_every_result_is_on_the_page() -> None:
    assert [name for name in RESULTS if f"``{name}``:" not in _PAGE] == []


def test_every_function_is_in_the_overview() -> None:
    assert tables(section("Functions"))["Function"] == OPERATIONS


def test_errors_of_the_page_exist() -> None:
    named = tables(section("Errors"))["Error"]
    raised = {
        name
        for operation in OPERATIONS
        for name in re.findall(r"\b[A-Z]\w+", _raises(getattr(api, operation)))
    }
    assert {name for name in named if hasattr(errors, name)} == set(named)
    assert raised & set(vars(errors)) <= set(named)


def _raises(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("Raises:")[2]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timeline:
    """Fake machine of the examples: a connection to port 443, and one of port 8080 that ends."""
    machine = Timeline(tmp_path)
    own = machine.proc / "thread-self" / "ns"
    own.mkdir(parents=True)
    (own / "net").write_text("")
    for module in (find_sockets, destroy_sockets, drain_sockets):
        monkeypatch.setattr(module, "Host", lambda: machine.host)
    machine.add(connection())
    machine.ends(9.0, machine.add(connection(local_port=8080)))
    return machine


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        (0, "192.0.2.1 198.51.100.7 ['app']\n" * 2),
        (1, "would be destroyed: 2\n" + "destroyed 198.51.100.7 443\n" * 2),
        (2, "1 left, 0 ended, 22.0 s of grace\ndrained: True\n"),
    ],
)
def test_example_runs(
    machine: Timeline, number: int, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert machine.now == 1000.0
    exec(compile(code_blocks()[number], "python_api.rst", "exec"), {})
    assert capsys.readouterr().out.endswith(printed)


def test_there_are_three_examples() -> None:
    assert len(code_blocks()) == 3
