"""HTML and SVG as values: ``tag("p", words, id="x")`` escapes everything that is not already markup.

A record's name, a patient's file, a treatment of your own: whatever text arrives is text on the page, never markup.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

from planners.plan import jsonable

VOID = frozenset({"br", "meta", "input", "img"})


class Markup(str):
    """Text that is markup already; made by :func:`tag` and :func:`join` only."""

    __slots__ = ()


Piece = Any  # Markup, or anything whose ``str`` is text; None is nothing; lists are their items


def escape(piece: Piece) -> Markup:
    """The piece as markup: escaped, unless it is markup."""
    if isinstance(piece, Markup):
        return piece
    if piece is None:
        return Markup("")
    if isinstance(piece, Iterable) and not isinstance(piece, str):
        return join(piece)
    return Markup(html.escape(str(piece), quote=True))


def join(pieces: Iterable[Piece], between: str = "") -> Markup:
    """Pieces one after the other."""
    return Markup(between.join(map(escape, pieces)))


def tag(name: str, /, *pieces: Piece, **attributes: Any) -> Markup:
    """``<name attributes>pieces</name>``. ``class_`` is class, ``data_x`` is data-x; None and False leave one out.

    Inline styles and scripts are not possible on these pages (their content security policy forbids them), so
    ``style`` and ``on...`` are refused with a ``ValueError``.
    """
    words = [name]
    for key, value in attributes.items():
        key = key.rstrip("_").replace("_", "-")
        if key == "style" or key.startswith("on"):
            raise ValueError(f"attribute is {key!r}; expected no inline style or script; use a class and page.css")
        if value is True:
            words.append(key)
        elif value is not None and value is not False:
            words.append(f'{key}="{escape(value)}"')
    opened = f"<{' '.join(words)}>"
    return Markup(opened if name in VOID else f"{opened}{join(pieces)}</{name}>")


def page(title: str, body: Piece, data: Any = None) -> str:
    """A whole self-contained document: no network, no other file; ``data`` is JSON for the page's own script.

    The content security policy allows exactly the style and the script that are in it, by their hashes.
    """
    style, script = (
        files("planners.report.html").joinpath(n).read_text(encoding="utf-8") for n in ("page.css", "page.js")
    )
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = [
        tag("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        Markup(f"<style>{style}</style>"),
    ]
    stored = Markup(f'<script type="application/json" id="data">{embedded(data)}</script>')
    closing = f"{stored}\n<script>{script}</script></body></html>\n"
    return f'<!DOCTYPE html>\n<html lang="en"><head>{join(head)}</head>\n<body>{escape(body)}\n{closing}'


def embedded(data: Any) -> str:
    """JSON that no sequence of characters can break out of a script element."""
    text = json.dumps(jsonable(data), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
