"""What is trained on a GPU: complete, the CPU's, and of use where there is none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from simulated_cuda import is_simulated

from unet_med.cli import main
from unet_med.handlers.training_state import on_cpu

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--features", "2", "4", "8", "--tile-size", "60")


def train(output: Path, cells: Path, *words: str, device: str = "cuda", **ids: Any) -> Path:
    config = output.with_suffix(".json")
    config.write_text(json.dumps({"num_workers": 0, **ids}), encoding="utf-8")
    folders = ("--images", f"{cells}/images", "--labels", f"{cells}/labels")
    chosen = ("--device", device, "--config", str(config), "--output", str(output))
    assert main(["train", *folders, *chosen, *SMALL, *words]) == 0
    return output


@pytest.fixture(scope="module")
def trained_there(tmp_path_factory: pytest.TempPathFactory, cells: Path) -> Path:
    return train(tmp_path_factory.mktemp("gpu") / "out", cells, "--epochs", "2")


def test_no_file_holds_a_tensor_of_the_gpu(trained_there: Path) -> None:
    def devices(state: Any) -> set[str]:
        if isinstance(state, torch.Tensor):
            return {state.device.type}
        values = state.values() if isinstance(state, dict) else state
        nested = isinstance(state, dict | list | tuple)
        return set().union(*map(devices, values)) if nested else set()

    for name in ("model.pt", "resume/checkpoint.pt"):
        state = torch.load(trained_there / "models" / name, weights_only=True)
        assert devices(state) == {"cpu"}, name


@pytest.mark.parametrize("ids", [{"cache::device": None}, {"num_workers": 2}])
def test_images_on_the_gpu_change_no_weight(
    ids: dict[str, Any], trained_there: Path, cells: Path, tmp_path: Path
) -> None:
    """Whether they are there or are sent, and whoever draws."""
    other = train(tmp_path / "out", cells, "--epochs", "2", **ids)
    one, two = (
        torch.load(folder / "models/model.pt", weights_only=True)
        for folder in (trained_there, other)
    )
    assert one.keys() == two.keys()
    near = [torch.isclose(two[name], one[name], rtol=0, atol=1e-3).flatten() for name in one]
    if is_simulated():
        assert all(torch.equal(two[name], value) for name, value in one.items())
    else:
        # Sums of a real one have no order, and bfloat16 has 8 bits. Adam steps by 2e-3 whatever
        # the size of a gradient, so a weight of which rounding alone decides goes either way.
        assert torch.cat(near).double().mean() > 0.9


DOORS = """
import sys, torch
from importlib.util import find_spec
from pathlib import Path
from unet_med.cli import main
from unet_med.handlers.training_state import on_cpu
from unet_med.networks import read_weights
from unet_med.segmentation import Segmenter

def run(*words):
    code = main([str(word) for word in words])
    assert code in (0, 3), words

bundle, cells, here = map(Path, sys.argv[1:])
assert not torch.cuda.is_available()
weights = bundle / "models/model.pt"
plain = torch.load(weights, weights_only=True)  # torch's own door
assert all(value.device.type == "cpu" for value in plain.values())
assert read_weights(weights).keys() == plain.keys()
image = next((cells / "images").iterdir())
assert Segmenter(bundle)(image).mask.shape
run("predict", cells / "images", "--bundle", bundle, "--output", here / "results")
if find_spec("zarr"):  # which may be missing beside a GPU
    run("predict", image, "--bundle", bundle, "--output", here / "out.ome.zarr", "--workers", 1)
run("export", bundle, "--format", "torchscript", "--statistics", "training",
    "--output", here / "network.ts")
folders = "--images", cells / "images", "--labels", cells / "labels"
run("train", *folders, "--output", bundle, "--resume", "--epochs", 3, "--device", "cpu")
from monai.bundle import run as run_bundle
run_bundle(
    config_file=str(bundle / "configs/evaluate.json"),
    meta_file=str(bundle / "configs/metadata.json"),
    bundle_root=str(bundle), logging_file=False,
    images=str(cells / "images"), labels=str(cells / "labels"),
)
print("all doors open")
"""


def test_what_was_trained_there_opens_without_a_gpu(
    trained_there: Path, cells: Path, tmp_path: Path
) -> None:
    bundle = shutil.copytree(trained_there, tmp_path / "bundle")
    hidden = {"CUDA_VISIBLE_DEVICES": "", "SIMULATED_CUDA": ""}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-c", DOORS, *map(str, (bundle, cells, tmp_path))],
        env={**os.environ, "PYTHONPATH": path, **hidden},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "all doors open" in done.stdout


def test_a_state_is_read_when_its_own_gpu_has_copied_it(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append(device))
    state = {"weights": [torch.ones(2, device="cuda:0")], "epoch": torch.ones(1)}
    assert on_cpu(state)["weights"][0].tolist() == [1, 1]
    assert waited == [torch.device("cuda:0")]  # not the current one, whichever that is
    on_cpu({"epoch": torch.ones(1)})
    assert len(waited) == 1  # no GPU is touched where nothing lies on one


def test_prediction_there_is_the_cpus(trained_there: Path, cells: Path) -> None:
    from unet_med.segmentation import Segmenter

    image = next((cells / "images").iterdir())
    there, here = (Segmenter(trained_there, device=device)(image) for device in ("cuda", "cpu"))
    # float32 without TF32, which would be 1e-3 off
    np.testing.assert_allclose(there.probabilities, here.probabilities, rtol=0, atol=1e-4)


def test_workers_on_one_gpu_share_its_memory(
    trained_there: Path, cells: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("zarr", reason="blocks are written to OME-Zarr")
    from unet_med.inferers import tile_size
    from unet_med.volumes import BlockJob

    monkeypatch.setattr(tile_size, "free_bytes", lambda device: 2 << 20)
    image = next((cells / "images").iterdir())
    tiles = {}
    for workers in (1, 2, 4):
        output = tmp_path / f"{workers}.ome.zarr"
        job = BlockJob.create(image, output, trained_there, device="cuda", workers=workers)
        tiles[workers] = np.prod(job.tile)
    assert tiles[1] > tiles[2] > tiles[4]


@pytest.mark.parametrize("dims", [2, 3])
def test_strict_determinism_takes_planes_and_refuses_volumes(
    dims: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `docs/how-to/resume-training.md` says; the simulated device has nothing to refuse."""
    if is_simulated():
        pytest.skip("kernels of the CPU are deterministic")
    from unet_med.networks import unet

    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    network = unet("modern", spatial_dims=dims, features=[2, 4]).cuda()
    image = torch.randn(1, 1, *[32] * dims, device="cuda")
    torch.use_deterministic_algorithms(True)
    try:
        loss = network(image).square().mean()
        if dims == 2:
            loss.backward()
        else:
            with pytest.raises(RuntimeError, match=r"max_pool3d.* does not have a deterministic"):
                loss.backward()
    finally:
        torch.use_deterministic_algorithms(False)
