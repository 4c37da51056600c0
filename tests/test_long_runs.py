"""Many predictions and training steps in one process; the long version is in benchmarks/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks/long_run.py"


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_files_stay() -> None:
    words = [sys.executable, str(SCRIPT), "--count", "500"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training steps: 500 in all" in done.stdout
    assert "predictions: 500 in all" in done.stdout
