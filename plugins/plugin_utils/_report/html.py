# Copyright: linuxnet.sockets contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Private to linuxnet.sockets: elements of HTML. What is not an element is text, and is escaped."""

from __future__ import annotations

import html
from typing import Union

from .finding import clean


class Element(str):
    """HTML that was made here."""

    __slots__ = ()


Child = Union[Element, str, int, None]

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})


def text(value: object) -> Element:
    """Whatever it is, it is shown and does nothing."""
    return Element(html.escape(clean(value, 10_000), quote=True))


def element(tag: str, /, *children: Child, **attributes: str | int | bool | None) -> Element:
    """An element with these children; None is no child.

    Attributes: class_ and for_ lose the underscore at the end, others become hyphens. None and
    False leave an attribute out, True gives it without a value.
    """
    opened = [tag]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        spelled = key.rstrip("_").replace("_", "-")
        opened.append(spelled if value is True else f'{spelled}="{text(value)}"')
    start = f"<{' '.join(opened)}>"
    if tag in _VOID:
        return Element(start)
    return Element(f"{start}{join(*children)}</{tag}>")


def join(*children: Child) -> Element:
    return Element(
        "".join(
            each if isinstance(each, Element) else text(each)
            for each in children
            if each is not None
        )
    )


def name(value: object) -> Element:
    """A name that somebody else gave: whichever way it is written, its neighbours stay in place."""
    return element("bdi", text(value))
