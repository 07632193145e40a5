"""What the tests of pages share: a reader of HTML, and a real headless Chromium where there is one."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, field
from functools import lru_cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "input", "br", "img", "link", "hr"}


@dataclass
class Element:
    """One element of a document."""

    tag: str
    attributes: dict[str, str]
    children: list[Element | str] = field(default_factory=list)

    def all(self, tag: str = "", class_: str = "") -> list[Element]:
        """The elements below with this name and class, in order."""
        result = []
        for child in self.children:
            if isinstance(child, Element):
                classes = child.attributes.get("class", "").split()
                if (not tag or child.tag == tag) and (not class_ or class_ in classes):
                    result.append(child)
                result += child.all(tag, class_)
        return result

    @property
    def text(self) -> str:
        """All text below."""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def id(self, name: str) -> Element:
        """The element of that id."""
        return next(e for e in self.all() if e.attributes.get("id") == name)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("", {})]

    def handle_starttag(self, tag, attrs) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs) -> None:
        self.open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag) -> None:
        if tag in VOID:
            return
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data) -> None:
        self.open[-1].children.append(data)


def parsed(text: str) -> Element:
    """The document as a tree; fails where a tag is closed that is not open."""
    reader = _Reader()
    reader.feed(text)
    assert len(reader.open) == 1, f"<{reader.open[-1].tag}> is never closed"
    return reader.open[0]


@lru_cache(maxsize=1)
def chromium() -> str | None:
    """The browser, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def browse(path: Path, fragment: str = "", *words: str) -> tuple[str, list[str]]:
    """The document after its scripts ran, and what went to the console; the test skips without a browser."""
    if (program := chromium()) is None:
        pytest.skip("no Chromium on this machine; install one (apt-get install chromium) to check pages in it")
    done = subprocess.run(
        [program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         f"--user-data-dir={path.parent / 'chromium'}", "--enable-logging=stderr", "--virtual-time-budget=5000",
         *words, "--dump-dom", f"{path.as_uri()}{fragment}"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
