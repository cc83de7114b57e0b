# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The public names of the API: where they are, what importing one of them imports."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

from linuxnet_sockets import api

CORE = Path(__file__).resolve().parents[3] / "plugins" / "module_utils" / "_core"

# Prints the modules that a statement imports.
IMPORTED = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "linuxnet_sockets", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]]
)
sys.modules["linuxnet_sockets"] = importlib.util.module_from_spec(spec)
exec(sys.argv[2])
print(*(name for name in sys.modules if name.startswith("linuxnet_sockets.")))
"""


def imported_by(statement: str) -> set[str]:
    """The folders and files of the core that a statement imports."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, CORE, statement],
        check=True,
        capture_output=True,
        text=True,
    )
    return {name.split(".")[1] for name in done.stdout.split()}


@pytest.mark.parametrize("name", api.__all__)
def test_public_name_is_defined_in_its_file(name: str) -> None:
    value = getattr(api, name)
    home = value.__module__
    homes = ("linuxnet_sockets.api.", "linuxnet_sockets.errors", "linuxnet_sockets.messages.")
    assert home.startswith(homes)
    assert value.__name__ == name


def test_stub_has_the_public_names() -> None:
    stub = ast.parse((CORE / "api" / "__init__.pyi").read_text(encoding="utf-8"))
    found = {
        alias.asname: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert found == {name: home.lstrip(".") for name, home in api._HOME.items()}


def test_no_file_of_the_api_has_the_name_of_a_public_name() -> None:
    """Importing such a file would hide the function behind the module."""
    files = {path.stem for path in (CORE / "api").glob("*.py")}
    assert files & set(api.__all__) == set()


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        api.nothing  # noqa: B018


def test_every_public_name_is_listed() -> None:
    assert set(api.__all__) <= set(dir(api))


def test_functions_have_types_and_describe_their_parameters() -> None:
    functions = [value for value in vars_of_api() if isinstance(value, FunctionType)]
    assert len(functions) >= 9
    for function in functions:
        text = inspect.getdoc(function)
        assert text
        for name, parameter in inspect.signature(function).parameters.items():
            assert parameter.annotation is not inspect.Parameter.empty
            if function.__module__.startswith("linuxnet_sockets.api"):
                assert f"    {name}: " in text, (function.__name__, name)


def vars_of_api() -> list[object]:
    return [getattr(api, name) for name in api.__all__]


def test_importing_the_api_imports_nothing_else() -> None:
    assert imported_by("from linuxnet_sockets import api") == {"api"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("from linuxnet_sockets.api.find_sockets import find", "agent drain policy destroy guard"),
        ("from linuxnet_sockets.api.host_facts import facts", "agent drain policy destroy guard"),
        ("from linuxnet_sockets.api.destroy_sockets import destroy", "agent drain policy"),
        ("from linuxnet_sockets.api.drain_sockets import drain", "agent policy"),
        ("from linuxnet_sockets.api.policy import enforce_policy", "agent drain"),
        ("from linuxnet_sockets import api; api.find", "agent drain policy destroy guard"),
        ("from linuxnet_sockets import api; api.destroy", "agent drain policy"),
    ],
)
def test_import_of_one_operation_leaves_others_out(statement: str, absent: str) -> None:
    assert imported_by(statement) & set(absent.split()) == set()


def test_function_is_reached_after_its_file_was_imported() -> None:
    statement = (
        "import linuxnet_sockets.api.find_sockets\n"
        "from linuxnet_sockets import api\n"
        "assert callable(api.find)"
    )
    assert "api" in imported_by(statement)
