"""Docstrings as Markdown: tables between lines of ``====`` become code blocks, roles such as ``:func:`` are dropped."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension

TABLE = re.compile(r"^(?P<table>(?P<rule>=+(?: +=+)+)\n.*\n(?P=rule))$", re.DOTALL | re.MULTILINE)
ROLE = re.compile(r":(?:func|class|mod|meth|attr|data):`~?([^`]+)`")


class RstDocstrings(Extension):
    """Rewrites each docstring as it is read."""

    def on_object(self, *, obj: Any, **kwargs: Any) -> None:
        """Called once per module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    """The docstring with its tables fenced and its roles as plain code."""
    fenced = TABLE.sub(lambda match: f"```text\n{match['table']}\n```", docstring)
    return ROLE.sub(r"`\1`", fenced).replace("::\n", ":\n")
