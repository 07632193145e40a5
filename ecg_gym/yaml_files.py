"""Tables of the package, read by libyaml where PyYAML was built with it: six times as fast, the same content.

Files of users are read where they come in, with messages of their own.
"""

from __future__ import annotations

from typing import Any, Protocol

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Text(Protocol):
    """A path, or a file in a package."""

    def read_text(self, encoding: str | None = None) -> str:
        """What it holds."""
        ...


def read_yaml(path: Text) -> Any:
    """The content of a YAML file; raises ``yaml.YAMLError`` where it is none."""
    return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
