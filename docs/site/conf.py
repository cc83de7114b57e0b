# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sphinx configuration of the manual. tools/site.py builds it: see there for the source tree."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

project = "linuxnet.sockets"
project_copyright = "linuxnet.sockets contributors"
html_title = "linuxnet.sockets"

extensions = ["sphinx_antsibull_ext"]
nitpicky = True
# site.css names the colours, so that they follow the theme's light and dark mode.
antsibull_ext_color_scheme = "none"

highlight_language = "yaml+jinja"
pygments_style = "default"
smartquotes = False
manpages_url = "https://man7.org/linux/man-pages/man{section}/{page}.{section}.html"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_use_index = False
html_domain_indices = False
html_theme_options = {"top_of_page_buttons": []}

ANSIBLE_DOCS = "https://docs.ansible.com/ansible/latest"
ANSIBLE_LABELS = {
    "action_plugins": "plugins/action.html#action-plugins",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
}
PLUGIN_LABEL = re.compile(
    r"ansible_collections\.(?P<namespace>\w+)\.(?P<name>\w+)\.(?P<page>\w+_[a-z]+?)(?:__.*)?"
)


def link_to_ansible_docs(
    _app: Sphinx, _env: BuildEnvironment, node: pending_xref, contnode: nodes.Element
) -> nodes.reference | None:
    """Link references to other collections to the Ansible documentation.

    This replaces intersphinx, which would fetch an inventory at build time. Returns None for
    references to this collection, which Sphinx then reports as broken.
    """
    target = node.get("reftarget", "")
    path = ANSIBLE_LABELS.get(target)
    plugin = PLUGIN_LABEL.fullmatch(target)
    if plugin is not None and plugin["namespace"] != "linuxnet":
        path = f"collections/{plugin['namespace']}/{plugin['name']}/{plugin['page']}.html"
    if path is None:
        return None
    return nodes.reference("", "", contnode, internal=False, refuri=f"{ANSIBLE_DOCS}/{path}")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("missing-reference", link_to_ansible_docs)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
