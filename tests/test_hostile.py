"""What a stranger's file may not do: take time, memory, other files, or run a program."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hostile import hostile_files
from limited import in_child

from unet_med.data.protection import limits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All hostile files, beside a secret that some of them ask for."""
    root = tmp_path_factory.mktemp("stranger")
    tifffile.imwrite(root / "secret.tif", np.full((16, 16), 42, np.uint8))
    (root / "files").mkdir()
    for name, (write, _) in hostile_files(root / "marker").items():
        write(root / "files" / name)
    return root


@pytest.fixture(scope="module")
def verdicts(folder: Path) -> dict[str, Any]:
    """Each read in a process of its own, within 20 s of CPU and 2 GB above the imports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNET_MED_MAX_BYTES", "1G")
        return {path.name: in_child(path) for path in sorted((folder / "files").iterdir())}


@pytest.mark.parametrize(("name", "match"), [(n, m) for n, (_, m) in hostile_files(Path()).items()])
def test_each_is_refused_in_one_sentence(name: str, match: str, verdicts: dict[str, Any]) -> None:
    found = verdicts[name]
    assert found["kind"] == "ValueError", found
    assert name in found["said"]
    assert re.search(match, found["said"]), found["said"]
    assert "\n" not in found["said"]
    assert len(found["said"]) < 600
    assert found["seconds"] < 5  # of the 20 that are allowed
    assert found["bytes"] < 500e6  # of 2 GB


def test_no_payload_ran(folder: Path, verdicts: dict[str, Any]) -> None:
    import pickle

    assert len(verdicts) == len(list((folder / "files").iterdir())) > 40
    assert not (folder / "marker").exists()
    assert sorted(path.name for path in folder.iterdir()) == ["files", "secret.tif"]
    pickle.loads((folder / "files" / "pickle.npy").read_bytes())
    assert (folder / "marker").exists()  # it would have worked
    (folder / "marker").unlink()
    np.load(folder / "files" / "pickled.npy", allow_pickle=True)
    assert (folder / "marker").exists()
    (folder / "marker").unlink()


# --- the budget


@pytest.mark.parametrize(
    ("text", "count"),
    [("7", 7), ("2K", 2048), ("1.5M", 3 << 19), ("2GiB", 2 << 30), (" 1 tb", 1 << 40)],
)
def test_numbers_of_bytes(text: str, count: int) -> None:
    assert limits.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "0", "-5", "many", "1e9", "5X", "G"])
def test_what_is_no_number_of_bytes(text: str) -> None:
    with pytest.raises(ValueError, match="is no number of bytes: write 8000000, 500M or 2G"):
        limits.parse_bytes(text)


def test_the_budget_is_what_was_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNET_MED_MAX_BYTES", raising=False)
    monkeypatch.setattr(limits, "available_bytes", lambda: 1000)
    assert limits.byte_budget() == 500
    monkeypatch.setenv("UNET_MED_MAX_BYTES", "300")
    assert limits.byte_budget() == 300
    assert limits.byte_budget(200) == 200
    with limits.budget("1K"):
        assert limits.byte_budget() == 1024
    assert limits.byte_budget() == 300
    monkeypatch.delenv("UNET_MED_MAX_BYTES")
    with limits.budget("2K"):
        assert limits.byte_budget() == 2048
    assert "UNET_MED_MAX_BYTES" not in os.environ


# --- the package


def test_the_protection_is_light_until_a_file_comes() -> None:
    code = "import sys, unet_med.data.protection; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "monai", "numpy", "tifffile", "zarr", "nibabel", "SimpleITK", "PIL"}
    assert not heavy & set(done.stdout.split())
