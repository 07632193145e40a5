"""The API reference: one page per package, and the public names that lack a docstring."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PAGES = ("ecg_gym", "planners")  # every public module of these has an entry
CHECKED = (*PAGES, "training")


def modules(root: Path, package: str) -> dict[str, Path]:
    """Public modules by dotted name, packages before what they hold."""
    paths = sorted((root / package).rglob("*.py"), key=lambda path: (path.parent, path.name != "__init__.py", path))
    names = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}
    return {name: path for name, path in names.items() if not any(part[0] == "_" for part in name.split("."))}


def api_pages(root: Path) -> dict[str, str]:
    """Markdown by page name: the modules of each package (``ecg_gym.envs``) with what their docstrings say."""
    pages: dict[str, list[str]] = {}
    for package in PAGES:
        for name, path in modules(root, package).items():
            page = name if path.name == "__init__.py" else name.rpartition(".")[0]
            pages.setdefault(page, [f"# {page}", ""])
            if path.stat().st_size:
                options = "\n    options:\n      members: false" if path.name == "__init__.py" else ""
                pages[page] += [f"::: {name}{options}", ""]
    return {name: "\n".join(lines) for name, lines in pages.items()}


def undocumented(root: Path) -> list[str]:
    """Dotted names of public modules, classes, functions and methods without a docstring."""
    missing = []
    for package in CHECKED:
        for name, path in modules(root, package).items():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if tree.body and not ast.get_docstring(tree):
                missing.append(name)
            missing += [f"{name}.{inner}" for inner in _bare(tree)]
    return missing


def _bare(tree: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            if not ast.get_docstring(node) and not _given_elsewhere(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from (f"{node.name}.{inner}" for inner in _bare(node))


def _given_elsewhere(node: ast.ClassDef | ast.FunctionDef) -> bool:
    """Overloads and setters are documented where the function or the property is."""
    return any(ast.unparse(decorator).endswith((".setter", "overload")) for decorator in node.decorator_list)
