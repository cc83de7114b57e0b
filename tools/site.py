# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Build the manual as HTML: .build/docs/index.html.

The source of the site is put together in .build/site/source:

- the pages of docs/docsite/rst, at the top, in the sections that docs/docsite/extra-docs.yml names;
- a page for each module, filter and role, which antsibull-docs makes of their documentation, in
  reference/;
- the home page, the configuration and the style sheet of docs/site.

Any warning of Sphinx, such as a broken reference or a page that no section names, fails the build.
Nothing is fetched over the network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".build/site"
SOURCE = WORK / "source"
OUTPUT = ROOT / ".build/docs"
COLLECTION = "linuxnet.sockets"

# The suffix of a generated page, and the heading under which the navigation lists it.
KINDS = {"module": "Modules", "filter": "Filters", "role": "Roles"}

CONTENTS = re.compile(r"^\.\. contents::\n(?: +.*\n)+", re.MULTILINE)
NOTE = re.compile(r"^\.\. Collection note\n\n\.\. note::\n(?:(?: +.*)?\n)+?(?=\S)", re.MULTILINE)
TITLE = re.compile(
    r"^linuxnet\.sockets\.(?P<name>\S+) (?P<kind>\w+) -- (?P<summary>.+)\n\++\n", re.MULTILINE
)


def generate_reference() -> list[Path]:
    """Write a page for each plugin and role; return the pages."""
    # antsibull-docs reads all that it is given, .venv included: it gets a copy of the checkout.
    collections = WORK / "collections"
    copy = collections / "ansible_collections/linuxnet/sockets"
    subprocess.run([sys.executable, "tools/copy_checkout.py", copy], cwd=ROOT, check=True)
    generated = WORK / "generated"
    for folder in (generated, WORK / "home"):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    environment = dict(
        os.environ,
        ANSIBLE_COLLECTIONS_PATH=str(collections),
        ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"),
        ANSIBLE_HOME=str(ROOT / ".build/ansible"),
        HOME=str(WORK / "home"),
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    )
    command = [
        "antsibull-docs",
        "collection",
        "--use-current",
        "--squash-hierarchy",
        "--fail-on-error",
        "--no-breadcrumbs",
        "--no-add-antsibull-docs-version",
        "--cleanup=everything",
        f"--dest-dir={generated}",
        COLLECTION,
    ]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    pages = [page for kind in KINDS for page in sorted(generated.glob(f"*_{kind}.rst"))]
    for page in pages:
        text = adapt_page(page.read_text())
        write_changed(SOURCE / "reference" / page.name, text.encode())
    return pages


def adapt_page(text: str) -> str:
    """Fit a generated page into the site.

    The title is the short name alone. Left out are the list of the page's sections, which the theme
    shows beside the page, and the note on installation, which is the same on each page.
    """
    text = CONTENTS.sub("", text)
    text = NOTE.sub("", text)
    return TITLE.sub(_short_title, text, count=1)


def _short_title(title: re.Match[str]) -> str:
    name = title["name"].replace("\\", "")
    heading = f"{name} {title['kind']}"
    use = f"``{COLLECTION}.{name}``"
    return f"{heading}\n{'=' * len(heading)}\n\n{use}: {title['summary']}.\n"


def copy_changed(file: Path, copy: Path) -> None:
    """Copy a file unless the copy is the same, so that Sphinx reads again only what changed."""
    write_changed(copy, file.read_bytes())


def write_changed(file: Path, content: bytes) -> None:
    if file.exists() and file.read_bytes() == content:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def toctree(caption: str, entries: list[str]) -> str:
    lines = [".. toctree::", "   :hidden:", "   :maxdepth: 1", f"   :caption: {caption}", ""]
    return "\n".join([*lines, *(f"   {entry}" for entry in entries), ""])


def navigation(reference: list[Path]) -> str:
    """The toctrees of the home page: the sections of the guides; plugins follow the reference."""
    extra_docs = yaml.safe_load((ROOT / "docs/docsite/extra-docs.yml").read_text())
    parts = []
    for section in extra_docs["sections"]:
        parts.append(toctree(section["title"], section["toctree"]))
        if section["title"] == "Reference":
            parts += plugin_toctrees(reference)
    return "\n".join(parts)


def plugin_toctrees(reference: list[Path]) -> list[str]:
    parts = []
    for kind, heading in KINDS.items():
        names = [page.stem for page in reference if page.stem.endswith(f"_{kind}")]
        entries = [f"{name.removesuffix(f'_{kind}')} <reference/{name}>" for name in names]
        parts.append(toctree(heading, entries))
    return parts


def assemble() -> None:
    reference = generate_reference()
    expected = {SOURCE / "reference" / page.name for page in reference}
    for file in sorted((ROOT / "docs/docsite/rst").iterdir()):
        copy_changed(file, SOURCE / file.name)
        expected.add(SOURCE / file.name)
    for file in sorted((ROOT / "docs/site").glob("_static/*")):
        copy_changed(file, SOURCE / "_static" / file.name)
        expected.add(SOURCE / "_static" / file.name)
    index = (ROOT / "docs/site/index.rst").read_text() + "\n" + navigation(reference)
    write_changed(SOURCE / "index.rst", index.encode())
    expected.add(SOURCE / "index.rst")
    for file in SOURCE.rglob("*"):
        if file.is_file() and file not in expected:
            file.unlink()


def build() -> int:
    shutil.rmtree(OUTPUT, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--builder=html", "--quiet", "--fail-on-warning"]
    doctrees = WORK / "doctrees"
    command += ["--keep-going", f"--doctree-dir={doctrees}"]
    command += [f"--conf-dir={ROOT / 'docs/site'}", SOURCE, OUTPUT]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status != 0:
        # Sphinx does not read unchanged pages again, so the next build would not warn of them.
        shutil.rmtree(doctrees, ignore_errors=True)
    return status


def main() -> int:
    SOURCE.mkdir(parents=True, exist_ok=True)
    assemble()
    status = build()
    if status == 0:
        print(f"site: {(OUTPUT / 'index.html').relative_to(ROOT)}")
    return status


if __name__ == "__main__":
    sys.exit(main())
