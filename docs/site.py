"""What turns the Markdown of this folder into a site: `make docs` runs mkdocs with these hooks.

The pages are the ones that are read in the repository. Only here do the README and the
changes join them, and docstrings become tables instead of plain text.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
ADDED = {  # page of the site: file of the repository
    "index.md": ROOT / "README.md",
    "model-card.md": DOCS / "README.md",
    "changes.md": ROOT / "CHANGELOG.md",
    "contributing.md": ROOT / "CONTRIBUTING.md",
}
SHOWN = """    options:
      heading_level: 3
      show_root_heading: true
      show_root_full_path: false
      show_root_toc_entry: true"""
LICENCE = "https://www.apache.org/licenses/LICENSE-2.0"
MOVED = {  # links of those files: where they lead on the site
    "docs/README.md": "model-card.md",
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "../LICENSE": LICENCE,
    "LICENSE": LICENCE,
}


def on_config(config: Any) -> Any:
    """Order the pages: what to learn, to do, to understand, to look up."""
    config.nav = [
        {"unet-med": ["index.md", "model-card.md", "changes.md", "contributing.md"]},
        {"Tutorials": _pages("tutorials")},
        {"How to": _how_to()},
        {"Explanation": [*_pages("explanation"), {"Decisions": _pages("explanation/decisions")}]},
        {"Reference": _pages("reference")},
    ]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie outside this folder."""
    files.remove(files.src_uris["README.md"])
    for name, source in ADDED.items():
        text = re.sub(r"\]\(([^)\s]+)\)", _relinked, source.read_text(encoding="utf-8"))
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let mkdocstrings write the reference of the code."""
    if page.file.src_uri != "reference/api.md":
        return markdown
    return "\n\n".join(_reference(_generator()))


def _how_to() -> list[dict[str, list[str]]]:
    """Pages in the groups and the order of the README's last table."""
    table = ADDED["index.md"].read_text(encoding="utf-8").split("\n## More\n")[1]
    rows = re.findall(r"^\| ([\w ]+) \| (.+) \|$", table, re.MULTILINE)
    found = {name: re.findall(r"\]\(docs/(how-to/[^)]+)\)", links) for name, links in rows}
    return [{name.capitalize(): pages} for name, pages in found.items() if pages]


def _pages(folder: str) -> list[str]:
    return [str(p.relative_to(DOCS)) for p in sorted((DOCS / folder).glob("*.md"))]


def _relinked(link: re.Match[str]) -> str:
    target = MOVED.get(link[1], link[1])
    return f"]({target.removeprefix('docs/')})"


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("make_reference", DOCS / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _reference(generator: Any) -> Iterator[str]:
    """The names and anchors of the plain page, with signatures and whole docstrings."""
    yield "# Python"
    for module in generator.modules():
        yield f"## {module.__name__}"
        yield f"::: {module.__name__}\n    options:\n      members: false"
        for name, value, aliases in generator.public_names(module):
            if not callable(value):
                yield generator.entry(module, name, value, aliases)
                continue
            yield f'<a id="{name}"></a>'
            yield f"::: {value.__module__}.{value.__qualname__}\n{SHOWN}"
            if aliases:
                yield "Also " + ", ".join(f"`{alias}`" for alias in aliases) + "."
