"""What a pip user gets: the wheel, its copy of the bundle, and `init`."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unet_med.data import SyntheticCells

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip would fill it, from a wheel built here."""
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = built.glob("*.whl")
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def run(site: Path, cwd: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_wheel_carries_the_bundle(site: Path) -> None:
    bundle = site / "unet_med" / "_bundle"
    ours = {path.name for path in (ROOT / "configs").iterdir()}
    assert {path.name for path in (bundle / "configs").iterdir()} == ours
    assert {path.name for path in (bundle / "workflows").iterdir()} == {"train.py", "predict.py"}
    for name in ("LICENSE", "docs/README.md", "workflows/train.py", "workflows/predict.py"):
        assert (bundle / name).read_bytes() == (ROOT / name).read_bytes()
    assert (site / "unet_med" / "py.typed").is_file()
    for name in ("napari.yaml", "report/page.css", "report/page.html.jinja"):
        assert (site / "unet_med" / name).is_file()
    (entry_points,) = site.glob("*.dist-info/entry_points.txt")
    assert "unet-med = unet_med:napari.yaml" in entry_points.read_text(encoding="utf-8")


@pytest.mark.long
def test_monai_trains_and_predicts_with_an_initialised_copy(site: Path, tmp_path: Path) -> None:
    SyntheticCells(2, (64, 64), num_cells=4).write(tmp_path / "data")
    run(site, tmp_path, "unet_med", "init", "mine")
    small = ["--bundle_root", "mine", "--features", "[2,4,8]", "--images", "data/images"]
    configs = ["--meta_file", "mine/configs/metadata.json"]
    train = ["--config_file", "mine/configs/train.json", "--labels", "data/labels"]
    train += ["--label_kind", "instances", "--tile_size", "84", "--epochs", "1"]
    run(site, tmp_path, "monai.bundle", "run", *train, *configs, *small)
    assert (tmp_path / "mine/models/model.pt").is_file()
    infer = ["--config_file", "mine/configs/inference.json", "--output_dir", "results"]
    run(site, tmp_path, "monai.bundle", "run", *infer, *configs, *small)
    assert (tmp_path / "results/cells_001_mask.tif").is_file()
