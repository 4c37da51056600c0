"""Sections of a bundle's model card that are written anew."""

from __future__ import annotations

import os
from pathlib import Path

from unet_med.data.atomic import atomic_write


def has_section(bundle: str | os.PathLike[str], name: str) -> bool:
    """Whether the bundle's model card has a section of this name."""
    path = Path(bundle) / "docs" / "README.md"
    return path.is_file() and f"<!-- {name}: begin -->" in path.read_text(encoding="utf-8")


def write_section(bundle: str | os.PathLike[str], name: str, text: str) -> None:
    """Write a section into the bundle's model card, `docs/README.md`; an old one makes way.

    Args:
        bundle: its folder.
        name: of the section, between whose marks the text stands.
        text: Markdown, with a line's end behind the last line.
    """
    bundle = Path(bundle)
    begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
    path = bundle / "docs" / "README.md"
    old = path.read_text(encoding="utf-8") if path.is_file() else f"# {bundle.absolute().name}\n"
    before, _, rest = old.partition(begin)
    after = rest.partition(end)[2] if rest else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [before.rstrip("\n"), "\n\n", begin, "\n", text, end, after or "\n"]
    with atomic_write(path) as beside:
        beside.write_text("".join(parts), encoding="utf-8")
