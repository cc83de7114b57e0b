# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to linuxnet.sockets.
"""Parse YAML strictly. PyYAML is imported only here, and only when a document is parsed."""

from __future__ import annotations

from typing import Any

# The tag of the YAML key `<<`, which merges mappings.
_MERGE = "tag:yaml.org,2002:merge"


def parse_yaml(text: str) -> Any:
    """Parse a YAML document, which may also be JSON.

    Raises ImportError without PyYAML, and ValueError with a phrase such as "not valid YAML or JSON:
    ...", also for a repeated key.
    """
    import yaml

    class UniqueKeyLoader(yaml.SafeLoader):  # type: ignore[misc]
        """Rejects duplicate keys. PyYAML would keep only the last one."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[object] = set()
            for key_node, _value in node.value:
                if key_node.tag == _MERGE:
                    continue
                key = self.construct_object(key_node, deep=True)
                if not isinstance(key, (str, int, float, bool, type(None))):
                    continue
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"duplicate key {key!r}", key_node.start_mark
                    )
                seen.add(key)
            found: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            return found

    try:
        return yaml.load(text, Loader=UniqueKeyLoader)
    # The constructors of PyYAML also raise what int(), datetime and re raise, as for `!!int ""`.
    except Exception as error:
        problem = " ".join(str(error).split())
        raise ValueError(f"not valid YAML or JSON: {problem}") from error
