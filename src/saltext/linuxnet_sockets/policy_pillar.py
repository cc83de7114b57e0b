# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The policy of a minion: as given, or from its pillar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import salt.utils.data

from saltext.linuxnet_sockets.operations import plain

# The key of the policy in the pillar.
KEY = "linuxnet_sockets:policy"


def policy(given: Any, key: str | None, pillar: Mapping[str, Any]) -> Any:
    """The policy that was given, else that of the pillar; None if there is neither.

    key: of the pillar; None: KEY. pillar: ``__pillar__``, or ``__opts__["pillar"]``. The function
    ``pillar.get`` does not fit: since Salt 3008 it masks the values.
    """
    if given is not None:
        return given
    return plain(salt.utils.data.traverse_dict_and_list(pillar, key or KEY, None)) or None


def missing(key: str | None) -> str:
    """The sentence for a pillar without a policy."""
    return f"There is no policy: the pillar {key or KEY} is missing or empty."
