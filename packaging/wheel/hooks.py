# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks of hatchling: the README as metadata, and the files of the commands in the wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# The target of a Markdown link that is neither a URL nor an anchor.
_RELATIVE_LINK = re.compile(r"(?<=\]\()(?![a-z+]+:|#)(?=[^)\s]+\))")


class ReadmeHook(MetadataHookInterface):
    """Adds the README, with relative links made absolute: an index shows it without the files."""

    def update(self, metadata: dict[str, Any]) -> None:
        base = f"{metadata['urls']['Source']}/blob/main/"
        with open(os.path.join(self.root, "README.md"), encoding="utf-8") as file:
            text = _RELATIVE_LINK.sub(base, file.read())
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


class CommandFilesHook(BuildHookInterface[Any]):
    """Adds manual pages and completion scripts to the wheel's data."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        self._folder = tempfile.TemporaryDirectory(prefix="linuxnet-sockets-")
        script = os.path.join(self.root, "packaging", "wheel", "command_files.py")
        # -I: ignore the environment. The subprocess imports the core under its public name.
        subprocess.run([sys.executable, "-IB", script, self._folder.name], check=True)
        build_data["shared_data"][self._folder.name] = "share"

    def finalize(
        self,
        version: str,  # noqa: ARG002
        build_data: dict[str, Any],  # noqa: ARG002
        artifact_path: str,  # noqa: ARG002
    ) -> None:
        self._folder.cleanup()
