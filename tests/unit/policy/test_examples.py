# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policies that users may copy are valid for the JSON Schema, and the schema is valid."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from linuxnet_sockets.policy.schema.policy import SCHEMA

_ROOT = Path(__file__).parents[3]
_PLACES = ("docs/docsite", "examples", "extensions", "playbooks", "plugins/modules", "roles")
_BLOCKS = {
    ".rst": r"^( *)\.\. code-block:: yaml(?:\+jinja)?\n\n((?:\1 +\S.*\n|\s*\n)+)",
    ".md": r"^( *)```ya?ml\n(.*?)^ *```",
    ".py": r"^()EXAMPLES = r?\"\"\"\n?(.*?)\"\"\"",
}
# The values of templates are known only when Ansible or Salt renders them.
_TEMPLATE = re.compile(r"\{[{%]")


def _documents(path: Path) -> Iterator[Any]:
    text = path.read_text(encoding="utf-8")
    pattern = _BLOCKS.get(path.suffix)
    if pattern is None:
        blocks = [text]
    else:
        flags = re.MULTILINE if path.suffix == ".rst" else re.MULTILINE | re.DOTALL
        blocks = [textwrap.dedent(block) for _indent, block in re.findall(pattern, text, flags)]
    for block in blocks:
        try:
            yield from yaml.safe_load_all(block)
        except yaml.YAMLError:
            # A file of Salt with statements of Jinja between its lines.
            assert _TEMPLATE.search(block), f"{path}: {block}"


def _policies(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if isinstance(node.get("rules"), list) and ("version" in node or "limits" in node):
            yield node
        for value in node.values():
            yield from _policies(value)
    elif isinstance(node, list):
        for value in node:
            yield from _policies(value)


_FOUND = [
    pytest.param(policy, id=f"{path.relative_to(_ROOT)}-{number}")
    for place in _PLACES
    for path in sorted((_ROOT / place).rglob("*"))
    if path.suffix in (".rst", ".md", ".py", ".yml", ".sls")
    for number, policy in enumerate(each for d in _documents(path) for each in _policies(d))
    if not _TEMPLATE.search(str(policy))
]


def test_schema_is_valid() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("policy", _FOUND)
def test_policy_is_valid(policy: dict[str, Any]) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(policy)


def test_policies_were_found() -> None:
    files = {str(each.id).rpartition("-")[0] for each in _FOUND}
    assert {"docs/docsite/rst/policy.rst", "plugins/modules/socket_policy.py"} <= files
