"""The package as Python parses it, once for all tests that read it."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def syntax(folder: Path) -> dict[Path, list[ast.AST]]:
    """All nodes of each file in a folder, by its path."""
    files = sorted(folder.rglob("*.py"))
    return {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in files}
