"""Tests for a GPU need what its machine has at least: `tests/bare` says what it may lack."""

from __future__ import annotations

import importlib
import runpy
import sys
from pathlib import Path

import pytest
from processes import finish, redirected, start

from benchmarks.gpu.correct import files_of_tests

ROOT = Path(__file__).resolve().parents[1]


def import_bare(files: list[Path]) -> None:
    """Import test files, and all of this repository that they import, where much is absent."""
    absent = runpy.run_path(str(ROOT / "tests" / "bare" / "sitecustomize.py"))["ABSENT"]
    for name, module in list(sys.modules.items()):
        ours = str(getattr(module, "__file__", None)).startswith(f"{ROOT}/")
        if (ours and ".venv" not in str(module.__file__)) or name.partition(".")[0] in absent:
            del sys.modules[name]
    for file in files:
        sys.path.insert(0, str(file.parent))
        importlib.import_module(file.stem)
        print(file.stem)


def imported(files: list[Path], folder: Path) -> tuple[int | None, list[str], str]:
    """Status, names of what was imported, and what else was said."""
    status = finish(start(redirected, lambda: import_bare(files), folder))
    return status, (folder / "stdout").read_text().split(), (folder / "stderr").read_text()


def test_files_for_a_gpu_import_nothing_that_its_machine_may_lack(tmp_path: Path) -> None:
    """Nor are they skipped as a whole for want of it."""
    files = files_of_tests()
    assert {"test_gpu", "test_precision"} <= {file.stem for file in files}
    status, names, said = imported(files, tmp_path)
    assert status == 0, said[-3000:]
    assert names == [file.stem for file in files]


@pytest.mark.parametrize("name", ["SimpleITK", "imagecodecs"])
def test_what_is_absent_is_not_found(name: str, tmp_path: Path) -> None:
    importlib.import_module(name)
    file = tmp_path / "test_of_a_format.py"
    file.write_text(f"import {name}\n")
    status, names, said = imported([file], tmp_path)
    assert (status, names) == (1, [])
    assert said.endswith(f"ModuleNotFoundError: No module named '{name}'\n")
