"""What MkDocs asks while it builds: generated pages and tables, and a refusal where a public name has no docstring."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import tables
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File
from reference import api_pages, undocumented

from training.evaluation import pages

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "studies" / "results"
ONE_WEIGHTS = ("stability.md", "leaderboard.md")  # pages whose tables name the weights they are of
OPTIONAL = ("leads.md", "real_data.md")  # in the navigation where they exist
MARK = re.compile(r"<!-- generated: (?P<name>\w+) -->")
STUDY = re.compile(r"<!-- study: (?P<name>[\w-]+) -->")
SHA256 = re.compile(r"(?:SHA-256|Learned model \|) `(?P<sha>[0-9a-f]{12,64})")
STALE = """!!! warning "Measured on other weights"
    The weights `{sha}` named on this page are not those that ship; its figures are of an earlier version.

"""
OUTSIDE = re.compile(r"\[(?P<words>[^\]]+)\]\((?P<path>\.\./[^)#\s]+)\)")
READING = re.compile(r"<!-- reading: (?P<sha>[0-9a-f]{12}) -->\n(?P<text>.*?)<!-- end -->", re.DOTALL)


def on_config(config: Any) -> Any:
    """The navigation without the optional pages that are not there, and with the API's own pages."""
    config.nav = _pruned(config.nav)
    for section in config.nav:
        if "Reference" in section:
            api = {"API": ["api/index.md", *(f"api/{name}.md" for name in api_pages(ROOT))]}
            section["Reference"] = [api if "API" in entry else entry for entry in section["Reference"]]
    return config


def on_pre_build(config: Any) -> None:
    """PluginError with the names of public modules, classes, functions and methods that have no docstring."""
    if missing := undocumented(ROOT):
        raise PluginError(f"{len(missing)} public names without a docstring: {', '.join(missing[:20])}")


def on_files(files: Any, config: Any) -> Any:
    """The pages and data that no file holds: API, changelog, contributing, and each study's metrics as CSV."""
    texts = {f"api/{name}.md": text for name, text in api_pages(ROOT).items()}
    texts["api/index.md"] = tables.api_index(ROOT)
    texts["weights.md"] = tables.weights(ROOT)
    texts["changelog.md"] = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    texts["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").replace("](docs/", "](")
    for name, document in pages.documents(RESULTS).items():
        if pages.shipped(document):
            texts[f"studies/results/{name}.metrics.csv"] = pages.metrics_csv(document)
    for path, text in texts.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page with its generated tables and, on a study's page, the study's figures."""
    markdown = OUTSIDE.sub(lambda match: outside(match, Path(page.file.src_uri).parent), markdown)
    markdown = MARK.sub(lambda match: tables.table(match["name"]), markdown)
    documents = pages.documents(RESULTS)
    rows = page.meta.get("rows", {})
    beside = page.meta.get("beside", {})

    def study(match: re.Match[str]) -> str:
        picture = RESULTS / f"{match['name']}.png"
        link = f"results/{picture.name}" if picture.is_file() else None
        return pages.section(match["name"], documents.get(match["name"]), rows, beside, link)

    markdown = STUDY.sub(study, markdown)
    weights = {sha256[:12] for sha256 in pages.manifest().values()}
    markdown = READING.sub(lambda match: match["text"] if match["sha"] in weights else "", markdown)
    others = {match["sha"][:12] for match in SHA256.finditer(markdown)} - weights
    if page.file.src_uri in ONE_WEIGHTS and others:
        title, _, rest = markdown.partition("\n")
        markdown = f"{title}\n\n{STALE.format(sha=', '.join(sorted(others)))}{rest}"
    return markdown


def outside(link: re.Match[str], folder: Path) -> str:
    """The words alone of a link to a file of the repository that is no page; other links as they are."""
    target = (ROOT / "docs" / folder / link["path"]).resolve()
    inside = target.is_relative_to(ROOT / "docs") or not target.is_relative_to(ROOT)
    return link[0] if inside or not target.exists() else link["words"]


def _pruned(nav: Any) -> Any:
    if isinstance(nav, list):
        return [part for entry in nav if (part := _pruned(entry)) is not None]
    if isinstance(nav, dict):
        pages = {title: inner for title, entry in nav.items() if (inner := _pruned(entry)) is not None}
        return pages or None
    return None if nav in OPTIONAL and not (ROOT / "docs" / nav).is_file() else nav
