"""The page's module for Lightning, run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("lightning", reason="make clients")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-loop.md"


def test_the_block_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(
        r"^```python title=\"Lightning\"\n(.*?)^```$", PAGE.read_text(), re.M | re.S
    )
    assert len(block.splitlines()) <= 40
    exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})
