# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the tests of the Salt extension."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import salt._logging
import salt.config
import salt.loader

# Salt's handler for messages before the logging is set up writes to a stream of pytest, which is
# closed by the end.
salt._logging.shutdown_temp_handler()


class Minion:
    """A minion without a master: its options and the functions that Salt loads for them."""

    def __init__(self, root: Path, **options: Any) -> None:
        for name in ("etc", "cache", "pki", "srv", "ext"):
            (root / name).mkdir(parents=True, exist_ok=True)
        self.root = root
        self.opts: dict[str, Any] = salt.config.minion_config(None)
        self.opts.update(
            id="minion",
            root_dir=str(root),
            conf_file=str(root / "etc" / "minion"),
            config_dir=str(root / "etc"),
            cachedir=str(root / "cache"),
            extension_modules=str(root / "ext"),
            pki_dir=str(root / "pki"),
            sock_dir=str(root / "sock"),
            log_file=str(root / "minion.log"),
            file_client="local",
            file_roots={"base": [str(root / "srv")]},
            **{"grains": {}, "pillar": {}, **options},
        )
        self.context: dict[str, Any] = {}
        self._load()

    def _load(self) -> None:
        utils = salt.loader.utils(self.opts, context=self.context)
        self.functions = salt.loader.minion_mods(self.opts, context=self.context, utils=utils)

    def __call__(self, name: str, /, *arguments: Any, **options: Any) -> Any:
        """Call a function as Salt does, for example ``minion("sockets.list", limit=3)``."""
        return self.functions[name](*arguments, **options)

    def set_pillar(self, **pillar: Any) -> None:
        """Set the pillar, in a file from which states read it again."""
        directory = self.root / "pillar"
        directory.mkdir()
        (directory / "top.sls").write_text("base: {'*': [under_test]}")
        (directory / "under_test.sls").write_text(json.dumps(pillar))
        self.opts.update(pillar=pillar, pillar_roots={"base": [str(directory)]})
        self._load()

    @property
    def retcode(self) -> int:
        """The return code that the last call set; 0 if none."""
        return int(self.context.pop("retcode", 0))


@pytest.fixture
def minion(tmp_path: Path) -> Minion:
    return Minion(tmp_path / "minion")
