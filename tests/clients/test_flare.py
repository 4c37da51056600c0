"""The page's NVFlare job, run as it stands there: two sites, three rounds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unet_med import bundle
from unet_med.data import SyntheticCells
from unet_med.networks import UNet

pytest.importorskip("nvflare", reason="make clients")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "federated.md"


@pytest.mark.timeout(1800)
def test_the_job_of_the_page(tmp_path: Path) -> None:
    for name, block in re.findall(
        r"^```python title=\"(.*?)\"\n(.*?)^```$", PAGE.read_text(), re.M | re.S
    ):
        (tmp_path / name).write_text(block)
    ids = {"features": [2, 4, 8], "tile_size": 84, "label_kind": "instances", "num_workers": 0}
    for seed, site in enumerate(("site-1", "site-2")):
        folder = bundle.copy_bundle(tmp_path / site / "bundle")
        bundle.write_settings(folder, [], {**ids, "validation_fraction": 0.25})
        SyntheticCells(4, (72, 64), num_cells=6, seed=seed).write(tmp_path / site / "data")
    words = [sys.executable, "job.py", str(tmp_path)]
    run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    [server] = tmp_path.rglob("FL_global_model.pt")
    weights = torch.load(server, weights_only=False)["model"]
    network = UNet(features=(2, 4, 8))
    network.load_state_dict({name: torch.as_tensor(value) for name, value in weights.items()})
    for site in ("site-1", "site-2"):
        assert (tmp_path / site / "bundle/models/model_final.pt").is_file()
        rows = (tmp_path / site / "bundle/models/learning_curve.csv").read_text().splitlines()
        print(f"{site}: {rows[-1]}")
        assert rows[-1].startswith("6,")  # three rounds of two epochs
