# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports point down only: a table lists what each layer may import."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ("ansible_collections", "linuxnet", "sockets")
UTILS = "plugins.module_utils."


class Layer(NamedTuple):
    """Files of a layer, and the layers and external packages that they may import."""

    members: tuple[str, ...]
    layers: frozenset[str]
    outside: frozenset[str]
    relative_only: bool = False


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def core(members: str, layers: str, *outside: str) -> Layer:
    modules = tuple(f"{UTILS}_core.{name}" for name in members.split())
    return Layer(modules, names(layers), frozenset({"stdlib", *outside}), relative_only=True)


# From the top of the core down. A folder may import itself and the ones in its row.
CORE_LAYERS = {
    "socketctl": "api guard selector host messages errors values text",
    "agent": (
        "api policy drain destroy destroy.command destroy.planner destroy.engines guard query "
        "selector selector.predicates selector.tree verdicts sockets host netlink messages values "
        "errors text"
    ),
    "api": (
        "policy policy.schema drain destroy destroy.command destroy.planner destroy.engines guard "
        "query selector selector.predicates selector.tree verdicts sockets host netlink messages "
        "values errors text"
    ),
    "policy": (
        "destroy destroy.planner destroy.engines guard query selector selector.predicates "
        "selector.tree verdicts "
        "sockets host netlink messages values errors text"
    ),
    "policy.schema": "policy guard selector selector.predicates verdicts netlink values",
    "drain": (
        "destroy destroy.planner destroy.engines guard query selector verdicts sockets host "
        "netlink messages errors text"
    ),
    # Only these two import selectors. The executor gets targets.
    "destroy.command": "destroy destroy.planner destroy.engines selector sockets host netlink",
    "destroy.planner": (
        "destroy destroy.engines guard query selector verdicts sockets host netlink messages errors"
    ),
    "destroy": "destroy.engines guard query sockets host netlink messages errors",
    "destroy.engines": "destroy guard query sockets host bpf netlink messages errors",
    "guard": "selector verdicts sockets host netlink messages values errors text",
    "query": "selector verdicts sockets host bpf netlink errors",
    "selector": (
        "selector.predicates selector.tree verdicts sockets host netlink values errors text"
    ),
    "selector.predicates": "selector.tree verdicts sockets host netlink values errors text",
    "selector.tree": "sockets netlink values errors",
    "verdicts": "sockets netlink errors",
    "sockets": "host netlink errors text",
    "host": "bpf netlink errors text",
    "bpf": "errors",
    "netlink": "errors text",
    "messages": "netlink errors text",
    "values": "errors",
    "errors": "",
    "text": "",
}

# Layers that are some files of a folder with its own row.
MEMBERS = {
    "socketctl": "cli socketctl",
    "selector.tree": "selector.tree selector.kernel_filter selector.prefixes",
}

# External packages that a layer imports, beside the standard library.
OUTSIDE = {"agent": ("pyroute2",), "host": ("yaml",)}

# Files that import names computed at run time, each with the reason.
COMPUTED_IMPORTS = {
    # Ansible packs all imported files into a module, including imports inside functions. Imports
    # by name keep the code of drains and policies out of modules that import one file of the API.
    # tests/unit/api/test_public_names.py checks the names.
    f"{UTILS}_core.api",
}

EVERY_CORE_LAYER = " ".join(CORE_LAYERS)

# Programs, which nothing imports.
COMMANDS = {"agent", "socketctl"}

LAYERS = {
    **{
        name: core(MEMBERS.get(name, name), f"{name} {below} version", *OUTSIDE.get(name, ()))
        for name, below in CORE_LAYERS.items()
    },
    "_module": Layer(
        (f"{UTILS}_module",),
        names(f"_module {EVERY_CORE_LAYER}") - COMMANDS,
        frozenset({"stdlib", "ansible.module_utils"}),
    ),
    "modules": Layer(
        ("plugins.modules",),
        names("_module api"),
        frozenset({"__future__", "ansible.module_utils.basic"}),
    ),
    # Plugins that run on the controller.
    "action": Layer(
        ("plugins.action",),
        names(f"plugin_utils _module {EVERY_CORE_LAYER}") - COMMANDS,
        frozenset({"stdlib", "ansible"}),
    ),
    "filter": Layer(("plugins.filter",), names("plugin_utils"), frozenset({"stdlib", "ansible"})),
    "plugin_utils": Layer(
        ("plugins.plugin_utils",),
        names(f"plugin_utils {EVERY_CORE_LAYER}") - COMMANDS,
        frozenset({"stdlib", "ansible", "yaml", "jinja2", "markupsafe"}),
    ),
    "doc_fragments": Layer(("plugins.doc_fragments",), frozenset(), frozenset({"__future__"})),
    # The Salt extension. It finds the core under the name that the wheel gives it.
    "saltext": Layer(
        ("src.saltext",),
        names("api agent messages values errors"),
        frozenset({"stdlib", "jinja2", "salt", "saltext"}),
    ),
    "salt_loader": core("salt_loader", ""),
    # The package itself: only the file _core/__init__.py.
    "version": core("", ""),
}


class Import(NamedTuple):
    importer: str
    line: int
    target: str
    relative: bool


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def layer_of(name: str) -> str | None:
    """Return the layer with the longest member that is a prefix, or None for external names."""
    if name == f"{UTILS}_core":
        return "version"
    found = [
        (len(member), layer)
        for layer, rule in LAYERS.items()
        for member in rule.members
        if is_within(name, member)
    ]
    return max(found)[1] if found else None


def imports_of(path: Path, root: Path) -> Iterator[Import]:
    """Yield all imports of a file. `from x import y` is x.y if that is a module."""
    name = module_name(path, root)
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                target = without_collection(alias.name.split("."))
                yield Import(name, node.lineno, ".".join(target), relative=False)
        elif isinstance(node, ast.ImportFrom):
            base = node.module.split(".") if node.module else []
            if node.level:
                base = package[: len(package) - node.level + 1] + base
            base = without_collection(base)
            for alias in node.names:
                target = [*base, alias.name]
                stem = root.joinpath(*target)
                is_module = stem.is_dir() or stem.with_suffix(".py").is_file()
                found = target if is_module or not base else base
                yield Import(name, node.lineno, ".".join(found), relative=bool(node.level))
        elif isinstance(node, ast.Call) and is_import_call(node.func):
            if name in COMPUTED_IMPORTS:
                continue
            yield Import(name, node.lineno, "a name computed at run time", relative=False)


def without_collection(name: list[str]) -> list[str]:
    """Map a name in Ansible's collection namespace or in the wheel to a path in the checkout."""
    if name[:1] == ["linuxnet_sockets"]:
        return [*UTILS.rstrip(".").split("."), "_core", *name[1:]]
    return name[3:] if tuple(name[:3]) == COLLECTION else name


def is_import_call(function: ast.expr) -> bool:
    return ast.unparse(function).rpartition(".")[2] in ("__import__", "import_module")


def is_allowed_outside(target: str, allowed: frozenset[str]) -> bool:
    if any(is_within(target, name) for name in allowed):
        return True
    return "stdlib" in allowed and target.split(".")[0] in sys.stdlib_module_names


def violation(found: Import) -> str | None:
    importer = layer_of(found.importer)
    if importer is None:
        return "a file without a layer: add it to the table"
    rule = LAYERS[importer]
    target = found.target
    layer = layer_of(target)
    if layer is None:
        allowed = is_allowed_outside(target, rule.outside)
        return None if allowed else f"{importer} may not import {target}"
    file = f"{target.replace('.', '/')}.py"
    if layer not in rule.layers:
        return f"{importer} may not import {layer} ({file})"
    if rule.relative_only and not found.relative:
        return f"{importer} imports the core by relative imports only ({file})"
    return None


def violations(root: Path) -> list[str]:
    """`file:line: problem` for each import in plugins/ and src/ that the table forbids."""
    found = []
    for path in sorted([*root.glob("plugins/**/*.py"), *root.glob("src/**/*.py")]):
        if path.name == "__init__.py" and not path.read_text(encoding="utf-8").strip():
            continue
        for imported in imports_of(path, root):
            problem = violation(imported)
            if problem:
                found.append(f"{path.relative_to(root)}:{imported.line}: {problem}")
    return found


def test_imports_point_down_only() -> None:
    assert violations(ROOT) == []


def test_layers_in_the_table_exist() -> None:
    named = {name for rule in LAYERS.values() for name in rule.layers}
    assert named <= set(LAYERS)


def test_architecture_page_describes_every_layer_in_order() -> None:
    page = (ROOT / "docs/docsite/rst/architecture.rst").read_text(encoding="utf-8")
    layers = page[page.index("Layers\n---") : page.index("SOCK_DESTROY and back\n---")]
    assert re.findall(r"^  \* - ``([a-z.]+)``$", layers, re.MULTILINE) == list(CORE_LAYERS)


def test_architecture_page_names_existing_files() -> None:
    page = (ROOT / "docs/docsite/rst/architecture.rst").read_text(encoding="utf-8")
    named = set(re.findall(r"``((?:\w+/)+\w+\.py)``", page))
    roots = (ROOT, ROOT / "plugins/module_utils", ROOT / "plugins/module_utils/_core")
    missing = [
        name
        for name in sorted(named)
        if not any((root / name).is_file() for root in (*roots, roots[2] / "destroy"))
    ]
    assert named
    assert missing == []


CORE = "plugins/module_utils/_core"
MODULE = "plugins/module_utils/_module"
# Targets of the planted imports.
NEIGHBOURS = (
    "_core/agent/daemon.py",
    "_core/guard/evaluator.py",
    "_core/host/host.py",
    "_core/policy/decide.py",
    "_core/query/find.py",
    "_core/selector/keys.py",
    "_core/selector/tree.py",
    "_module/run.py",
)


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        (f"{CORE}/destroy/executor.py", "import yaml", "destroy may not import yaml"),
        (
            f"{CORE}/destroy/executor.py",
            "from ansible.errors import X",
            "destroy may not import ansible.errors",
        ),
        (
            f"{CORE}/destroy/executor.py",
            "def f():\n    import salt.utils",
            "destroy may not import salt.utils",
        ),
        (
            f"{CORE}/destroy/executor.py",
            "from ..._module import run",
            "destroy may not import _module (plugins/module_utils/_module/run.py)",
        ),
        (
            f"{CORE}/destroy/executor.py",
            f"from ansible_collections.linuxnet.sockets.{UTILS}_core.query import find",
            f"destroy imports the core by relative imports only ({CORE}/query/find.py)",
        ),
        (
            f"{CORE}/destroy/executor.py",
            "from importlib import import_module\nimport_module('yaml')",
            "destroy may not import a name computed at run time",
        ),
        (
            f"{CORE}/destroy/executor.py",
            "__import__('yaml')",
            "destroy may not import a name computed at run time",
        ),
        (
            f"{CORE}/destroy/executor.py",
            "from ..selector import keys",
            f"destroy may not import selector ({CORE}/selector/keys.py)",
        ),
        (
            f"{CORE}/netlink/links.py",
            "from ..host.host import Host",
            f"netlink may not import host ({CORE}/host/host.py)",
        ),
        (
            f"{CORE}/drain/drain.py",
            "from ..policy import decide",
            f"drain may not import policy ({CORE}/policy/decide.py)",
        ),
        (
            f"{CORE}/selector/tree.py",
            "import typing\nif typing.TYPE_CHECKING:\n    from ..guard import evaluator",
            "selector.tree may not import guard",
        ),
        (
            f"{CORE}/selector/predicates/owner.py",
            "from .. import keys",
            f"selector.predicates may not import selector ({CORE}/selector/keys.py)",
        ),
        (
            f"{CORE}/verdicts/stuck.py",
            "from ..selector import tree",
            "verdicts may not import selector",
        ),
        (f"{CORE}/query/find.py", "from ..agent.daemon import run", "query may not import agent"),
        (f"{CORE}/query/find.py", "import pyroute2", "query may not import pyroute2"),
        (f"{CORE}/loose.py", "import json", "a file without a layer"),
        (f"{MODULE}/run.py", "import requests", "_module may not import requests"),
        (f"{MODULE}/run.py", "from .._core.agent import daemon", "_module may not import agent"),
        (
            "plugins/modules/socket_destroy.py",
            f"from ansible_collections.linuxnet.sockets.{UTILS}_core.query.find import find",
            "modules may not import query",
        ),
        ("plugins/modules/socket_destroy.py", "import json", "modules may not import json"),
        (
            f"{CORE}/api/__init__.py",
            "from ..agent import daemon",
            f"api may not import agent ({CORE}/agent/daemon.py)",
        ),
        (
            f"{CORE}/api/find_sockets.py",
            "import importlib\nimportlib.import_module('yaml')",
            "api may not import a name computed at run time",
        ),
        ("plugins/lookup/age.py", "import json", "a file without a layer"),
    ],
)
def test_forbidden_import_is_found(tmp_path: Path, file: str, text: str, problem: str) -> None:
    for name in NEIGHBOURS:
        neighbour = tmp_path / "plugins/module_utils" / name
        neighbour.parent.mkdir(parents=True, exist_ok=True)
        neighbour.write_text("", encoding="utf-8")
    planted = tmp_path / file
    planted.parent.mkdir(parents=True, exist_ok=True)
    planted.write_text(f"from __future__ import annotations\n{text}\n", encoding="utf-8")

    found = [line for line in violations(tmp_path) if "__future__" not in line]

    assert any(line.startswith(f"{file}:") and problem in line for line in found), found


def test_allowed_import_is_accepted(tmp_path: Path) -> None:
    allowed = {
        f"{CORE}/netlink/connection.py": "import socket\nfrom ..errors import NetlinkError",
        f"{CORE}/query/find.py": (
            "from collections.abc import Iterable\nfrom ..netlink import connection"
        ),
        f"{CORE}/agent/daemon.py": "import pyroute2\nfrom ..query import find",
        f"{MODULE}/run.py": "from ansible.module_utils.basic import AnsibleModule\n"
        "from .._core.query.find import find",
        "plugins/modules/socket_destroy.py": (
            "from ansible.module_utils.basic import AnsibleModule\n"
            f"from ansible_collections.linuxnet.sockets.{UTILS}_module.run import run"
        ),
    }
    for file, text in allowed.items():
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"from __future__ import annotations\n{text}\n", encoding="utf-8")

    assert violations(tmp_path) == []
