# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that Ansible's argument specs would refuse, given by Python."""

from __future__ import annotations

from typing import Any

import pytest

from linuxnet_sockets import api
from linuxnet_sockets.errors import InputError
from tests.unit.api.conftest import Target

WRONG: list[tuple[str, dict[str, Any], tuple[Any, ...]]] = [
    ("find", {"namespaces": "current"}, ("namespaces",)),
    ("find", {"namespaces": 7}, ("namespaces",)),
    ("find", {"namespaces": []}, ("namespaces",)),
    ("find", {"details": "info"}, ("details",)),
    ("find", {"details": ["infos"]}, ("details",)),
    ("find", {"group_by": "colour"}, ("group_by",)),
    ("find", {"group_by": ["state"]}, ("group_by",)),
    ("find", {"limit": "many"}, ("limit",)),
    ("find", {"limit": True}, ("limit",)),
    ("find", {"limit": -1}, ("limit",)),
    ("find", {"match": []}, ()),
    ("facts", {"limit": 201}, ("limit",)),
    ("destroy", {"match": {}}, ()),
    ("destroy", {"match": {"state": "all"}, "pace": "fast"}, ("pace",)),
    ("destroy", {"match": {"state": "all"}, "max_sockets": "a few"}, ("max_sockets",)),
    ("destroy", {"match": {"state": "all"}, "protect": {"all": True}}, ("protect", "all")),
    ("drain", {"match": {"state": "all"}, "until": "done"}, ("until",)),
    ("drain", {"match": {"state": "all"}, "arrivals": "welcome"}, ("arrivals",)),
    ("drain", {"match": {"state": "all"}, "grace": "soon"}, ("grace",)),
    ("drain", {"match": {"state": "all"}, "step": "1ms"}, ("step",)),
    ("enforce_policy", {"policy": {}, "limit": -1}, ("limit",)),
]


@pytest.mark.parametrize(("operation", "options", "path"), WRONG)
def test_wrong_option_is_named(
    target: Target, operation: str, options: dict[str, Any], path: tuple[Any, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        getattr(api, operation)(**options, host=target.host)
    assert caught.value.path[-len(path) :] == path if path else True
    assert api.describe(caught.value)
