"""What a GPU waits for: kernels, copies and waits of a training step and of a tiled prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.transforms import Compose
from simulated_cuda.counting import Counts, counted

from unet_med import bundle
from unet_med.data.device_images import DeviceImages
from unet_med.data.entries import DRAWS, LINES
from unet_med.inferers import OverlapTileInferer
from unet_med.networks import unet
from unet_med.transforms import compose

pytestmark = [pytest.mark.gpu, counted]

COUNTED = 3  # the step


def training(cells: Path, output: Path, names: list[str], **ids: Any) -> ConfigParser:
    """A training of the bundle on the GPU, of four steps."""
    root = bundle.find_bundle()
    overrides = [root / "configs" / f"{name}.json" for name in names]
    settings = {
        "images": f"{cells}/images", "labels": f"{cells}/labels", "label_kind": "instances",
        "output_dir": str(output), "bundle_root": str(root), "features": [2, 4, 8],
        "tile_size": 60, "num_workers": 0, "epochs": 1, "tiles_per_epoch": 4 * ids["batch_size"],
        "device": "$torch.device('cuda')", "val_interval": 9, "checkpoint_minutes": 99.0, **ids,
    }  # fmt: skip
    config = bundle.merge_config(root / "configs" / "train.json", overrides, settings)
    parser = ConfigParser(config)
    parser.parse()
    parser.get_parsed_content("initialize")
    return parser


@pytest.mark.parametrize(
    ("names", "batch", "most"),
    [([], 1, 320), (["modern"], 4, 350)],
)
@pytest.mark.parametrize("held", [True, False])
def test_a_training_step_waits_for_nothing(
    held: bool, names: list[str], batch: int, most: int, cells: Path, tmp_path: Path
) -> None:
    """Nor for images, whether these are on the GPU or sent to it, pinned."""
    ids = {} if held else {"cache::device": None}
    parser = training(cells, tmp_path, names, batch_size=batch, **ids)
    trainer = parser.get_parsed_content("train::trainer")
    dataset = parser.get_parsed_content("train::dataset")
    assert (dataset.on_device is not None) == held
    counts = Counts()
    trainer.add_event_handler(Events.ITERATION_STARTED(once=COUNTED), lambda: counts.__enter__())
    trainer.add_event_handler(  # behind all others of the step
        Events.ITERATION_COMPLETED(once=COUNTED), lambda: counts.__exit__(None, None, None)
    )
    trainer.run()
    assert not counts.waits, counts.waits
    assert not counts.to_device, counts.to_device
    assert not counts.to_host, counts.to_host
    # what was drawn, and the lines of each axis, or image and label
    assert sum(counts.behind.values()) == 3, counts.behind
    assert sum(counts.kernels.values()) <= most


@pytest.mark.parametrize("dims", [2, 3])
def test_tiles_are_cut_by_few_kernels(dims: int) -> None:
    items = [{key: torch.ones(1, *[30] * dims) for key in ("image", "label")} for _ in range(4)]
    held = DeviceImages(items, [(1, *[30] * dims)] * 4, "cuda")
    lines = [torch.stack([held.take(k)[0][LINES][axis] for k in range(4)]) for axis in range(dims)]
    with Counts() as counts:
        tiles = held.tiles(lines)
    assert not counts.waits + counts.to_host + counts.to_device, counts.waits
    assert sum(counts.behind.values()) == dims
    # a line an axis is copied, their sums, and all pixels at once
    assert sum(counts.kernels.values()) == dims + (dims - 1) + 1, counts.kernels
    assert all(bool((tile.cpu() == 1).all()) for tile in tiles.values())


@pytest.mark.parametrize(("batch", "share"), [(1, 0.5), (4, 0.15)])
def test_random_transforms_of_a_batch_are_one_resampling(
    batch: int, share: float, cells: Path, tmp_path: Path
) -> None:
    """Half the kernels of MONAI's and our transforms on the device, one by one, or fewer."""
    always = {"augment::rotate::prob": 1.0, "augment::elastic::prob": 1.0}
    parser = training(cells, tmp_path, [], batch_size=batch, **always)
    augmenting = parser.get_parsed_content("augmenting")
    draw = Compose(list(augmenting.in_workers.values())[-3:])
    one_by_one = compose([parser.get_parsed_content("augment")]).transforms[-3:]
    tiles = [{"image": torch.rand(1, 60, 60), "label": torch.ones(1, 60, 60).int()}] * batch
    draws = torch.stack([draw(tile)[DRAWS] for tile in tiles])
    image, label = (torch.stack([t[key] for t in tiles]).cuda() for key in ("image", "label"))
    augmenting.on_batches(image, label, draws)  # tables of the interpolation, once and for all
    with Counts() as counts:
        augmenting.on_batches(image, label, draws)
    assert not counts.waits + counts.to_host + counts.to_device, counts.waits
    with Counts() as before:
        for k in range(batch):
            item = {"image": image[k], "label": label[k]}
            for step in one_by_one:
                item = step(item)
    assert before.waits
    assert sum(counts.kernels.values()) <= share * sum(before.kernels.values())


@pytest.mark.parametrize("preset", ["paper2015", "modern"])
def test_tiles_of_a_prediction_are_not_copied(preset: str) -> None:
    network = unet(preset, features=[2, 4]).cuda().eval()
    image = torch.randn(1, 1, 64, 64, device="cuda")
    size = 64 if preset == "paper2015" else 32
    inferer = OverlapTileInferer(size, statistics="image", tta="flips")
    with Counts() as counts, torch.inference_mode():
        inferer(image, network)
    assert sum(counts.kernels.values()) > 0
    assert not counts.waits + counts.to_host, counts.waits + counts.to_host
    assert sum(counts.to_device.values()) <= 4, counts.to_device  # the mirror, an axis and pass
