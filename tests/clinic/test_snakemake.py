"""The pipeline of docs/how-to/scripted-pipelines.md, as it stands there: killed twice, run again.

`make ci` installs Snakemake beside the package; SNAKEMAKE names another one.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import nibabel
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "scripted-pipelines.md"
SNAKEMAKE = os.environ.get("SNAKEMAKE", str(ROOT / ".venv-clinic" / "bin" / "snakemake"))
SMALL = "--features 2 4 --tile-size 8 --epochs 4 --device cpu --config quick.json"
GROUPS = "--group '(sub-[0-9]+)' --fold 0/3"
CASES = [f"case-{k}" for k in range(5)]
BAD = "case-3"

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]


def write_case(folder: Path, name: str, seed: int) -> None:
    """A bright ball in noise, and its mask."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, (24, 20, 8)), indexing="ij"), -1)
    ball = (((grid - rng.uniform(6, 9, 3) * (1, 1, 0.5)) * (1, 1, 2)) ** 2).sum(-1) < 30
    for part, pixels in (
        ("images", (120 * ball + rng.normal(60, 15, ball.shape)).astype(np.int16)),
        ("labels", ball.astype(np.uint8)),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        image = nibabel.Nifti1Image(pixels, np.diag([1.0, 1.0, 2.0, 1.0]))
        nibabel.save(image, folder / part / f"{name}.nii.gz")


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three patients with two sessions to learn from, five new cases, and the page's Snakefile."""
    for patient in range(3):
        for session in range(2):
            name = f"sub-{patient}_ses-{session}"
            write_case(tmp_path / "train", name, 10 * patient + session)
    for k, name in enumerate(CASES):
        write_case(tmp_path / "new", name, 100 + k)
    image = tmp_path / f"new/images/{BAD}.nii.gz"
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes())[:2000]))
    (tmp_path / "quick.json").write_text('{"checkpoint_minutes": 0.0}')
    found = re.search(r"```snakemake\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) <= 25
    (tmp_path / "Snakefile").write_text(found[1], encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def snakemake(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    options = ["--cores", "2", "--keep-going", "--rerun-incomplete", *words]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            [SNAKEMAKE, *options, "--config", f"train={SMALL} {GROUPS}"],
            cwd=folder,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def finish(folder: Path, *words: str) -> str:
    """Run it to its end; what it said."""
    process = snakemake(folder, *words)
    code = process.wait(timeout=600)
    said = (folder / "said").read_text(encoding="utf-8")
    assert code == 0, said
    return said


def kill_when(folder: Path, reached: Callable[[], bool]) -> None:
    """Run it, and kill it with all its jobs as soon as something is reached."""
    process = snakemake(folder)
    try:
        until = time.monotonic() + 300
        while not reached():
            assert process.poll() is None, (folder / "said").read_text(encoding="utf-8")
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run([SNAKEMAKE, "--unlock"], cwd=folder, check=True, capture_output=True)


def masks(folder: Path) -> dict[str, int]:
    """Names of the cases that have a mask, and when that was written."""
    files = (folder / "results").glob("*_mask.nii.gz")
    return {path.name.removesuffix("_mask.nii.gz"): path.stat().st_mtime_ns for path in files}


def rows(folder: Path) -> dict[str, str]:
    """What the table says of each case: that it has scores, or why not."""
    with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
        return {row["case"]: row["row"] for row in csv.DictReader(file) if row["case"]}


def test_the_pipeline_of_the_page(cohort: Path) -> None:
    models, done = cohort / "bundle/models", cohort / "done"
    kill_when(cohort, lambda: (models / "resume/checkpoint.pt").is_file())  # in the training
    assert not (models / "model.pt").is_file() or not done.is_dir()
    kill_when(cohort, lambda: done.is_dir() and len(list(done.iterdir())) >= 2)
    early = masks(cohort)
    assert early
    assert len(early) < len(CASES) - 1 or not (cohort / "table.csv").is_file()
    weights = (models / "model.pt").read_bytes()
    finish(cohort)

    # what failed says so, the others are there, nothing was done twice
    good = [name for name in CASES if name != BAD]
    failed = json.loads((cohort / "results/failed.json").read_text(encoding="utf-8"))["failed"]
    assert [Path(fault["image"]).name for fault in failed] == [f"{BAD}.nii.gz"]
    first = masks(cohort)
    assert sorted(first) == good
    assert {name: first[name] for name in early} == early
    assert (models / "model.pt").read_bytes() == weights
    record = json.loads((cohort / "results/record.json").read_text(encoding="utf-8"))
    assert sorted(record["images"]) == good
    with (models / "learning_curve.csv").open(newline="", encoding="utf-8") as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    split = json.loads((cohort / "bundle/configs/split.json").read_text(encoding="utf-8"))
    assert [entry["image"] for entry in split["validation"]] == [
        f"images/sub-0_ses-{k}.nii.gz" for k in range(2)
    ]
    assert rows(cohort) == {**dict.fromkeys(good, "case"), BAD: "missing"}
    assert "Nothing to be done" in finish(cohort)

    # the corrupt case arrives anew
    write_case(cohort / "new", BAD, 103)
    finish(cohort)
    assert not (cohort / "results/failed.json").exists()
    second = masks(cohort)
    assert sorted(second) == CASES
    assert {name: second[name] for name in good} == first
    assert rows(cohort) == dict.fromkeys(CASES, "case")
