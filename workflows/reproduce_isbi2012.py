"""ISBI 2012: the presets against MONAI's BasicUNet, at equal time on the wall clock.

    python workflows/reproduce_isbi2012.py --minutes 8 --seeds 0 1 2
    python workflows/reproduce_isbi2012.py --full      # the paper's channels; wants a GPU

Slices 0-19 train, slices 20-23 are scored, and nothing is chosen by them but the threshold,
as the challenge does it. All trainings see the same slices and have the same minutes and the
same learning-rate schedule. `modern` brings the slices to pixels of 8 nm, and its
probabilities back to the challenge's 4 nm. The peer is `BasicUNet` with its own defaults,
`DiceCELoss`, MONAI's augmentation and MONAI's sliding window, as in MONAI's tutorials, at 4
and at 8 nm. Test-time averaging is over the same views for all.

By default all channels are those of a small network, which learns on two cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import experiment
import numpy as np

from unet_med.metrics import pixel_error, rand_error
from unet_med.metrics.isbi import v_scores

TRAINING, HELD_OUT = range(20), range(20, 24)  # slices
FULL = [64, 128, 256, 512, 1024]
BUDGET, SEEDS = experiment.Budget.of_minutes(8), (0,)
AVERAGING = ("none", "flips", "rotations")
TILE = 572  # px, of the valid networks

AT_8_NM = {  # membranes are still 4 px wide, and a step on as much tissue costs a quarter
    "reader::pixel_size": 0.004,  # um, which the PNGs do not say
    "element_size": 0.008,
    "element_unit": "um",
}
TILE_8_NM = 96  # px
BOTH = ["image", "label"]
FOREGROUND = {"_target_": "monai.transforms.AsDiscreted", "keys": "label", "threshold": 0.5}
FALK_WEIGHTS = {  # Falk et al. 2019: weights of the annotation, then the ridge
    "weigh::border": {"_target_": "unet_med.transforms.FalkWeightMapd", "keys": "label"},
    "weigh::separate::kind": "falk",
    "weigh::_after_": {"separate": "border"},
}
MONAI_CROP = 192  # px


def monai_augment(crop: int) -> dict[str, dict[str, Any]]:
    """MONAI's augmentation for crops of so many pixels, in which it is as strong as in 192."""
    zoom = crop / MONAI_CROP
    elastic = {"spacing": [30 * zoom] * 2, "magnitude_range": [zoom, 2 * zoom]}  # px
    ways = {"mode": ["bilinear", "nearest"], "padding_mode": "reflection"}
    affine = {"rotate_range": 0.785, "scale_range": 0.1}
    chain: dict[str, tuple[str, dict[str, Any]]] = {
        "crop": ("RandSpatialCropd", {"keys": BOTH, "roi_size": crop, "random_size": False}),
        "flip_x": ("RandFlipd", {"keys": BOTH, "prob": 0.5, "spatial_axis": 0}),
        "flip_y": ("RandFlipd", {"keys": BOTH, "prob": 0.5, "spatial_axis": 1}),
        "quarter_turn": ("RandRotate90d", {"keys": BOTH, "prob": 0.5}),
        "affine": ("RandAffined", {"keys": BOTH, "prob": 0.3, **affine, **ways}),
        "elastic": ("Rand2DElasticd", {"keys": BOTH, "prob": 0.1, **elastic, **ways}),
        "contrast": ("RandAdjustContrastd", {"keys": "image", "prob": 0.3}),
        "intensity": ("RandScaleIntensityd", {"keys": "image", "factors": 0.1}),
    }
    return {k: {"_target_": f"monai.transforms.{name}", **v} for k, (name, v) in chain.items()}


def basic_unet(features: list[int], crop: int = MONAI_CROP) -> dict[str, Any]:
    """MONAI's network, loss, augmentation and sliding window, for crops of so many pixels."""
    return {
        "network_def": {
            "_target_": "monai.networks.nets.BasicUNet",
            "spatial_dims": 2,
            "in_channels": 1,
            "out_channels": 2,
            "features": [*features, features[0]],
        },
        "loss": {"_target_": "monai.losses.DiceCELoss", "softmax": True, "to_onehot_y": True},
        "optimizer": {
            "_target_": "torch.optim.Adam",
            "params": "$@network.parameters()",
            "lr": 1e-3,
        },
        "batch_size": 4,
        "augment": monai_augment(crop),
        "weigh": {
            "foreground": FOREGROUND,
            "select": {"_target_": "monai.transforms.SelectItemsd", "keys": BOTH},
            "tensors": {
                "_target_": "monai.transforms.EnsureTyped",
                "keys": BOTH,
                "track_meta": False,
            },
        },
        "validate::inferer": {
            "_target_": "monai.inferers.SlidingWindowInferer",
            "roi_size": [crop, crop],
            "sw_batch_size": 4,
            "overlap": 0.5,
            "mode": "gaussian",
        },
    }


def variants(features: list[int], tile: int = TILE) -> dict[str, dict[str, Any]]:
    """What each training changes in `configs/train.json`; `tile` is of the valid networks, px."""
    paper = {"features": features, "tile_size": tile}
    return {
        "paper2015": {**paper, "preset": "paper2015"},
        "release2015": {**paper, "preset": "release2015"},
        "falk2019": {
            **paper,
            "preset": "falk2019",
            **FALK_WEIGHTS,
            "augment::elastic::kernel": "bspline",
            "augment::elastic::grid": 5,  # nodes about 150 px apart
        },
        "modern": {
            "features": features,
            "preset": "modern",
            "tile_size": TILE_8_NM,
            "sigma": 2.5,
            "learning_rate": 0.004,
            **AT_8_NM,
        },
        "BasicUNet": basic_unet(features),
        "BasicUNet-8nm": {**basic_unet(features, TILE_8_NM), **AT_8_NM},
    }


def pairs(data: Path, slices: Sequence[int]) -> list[experiment.Item]:
    """Image and label of slices of the challenge's training stack."""
    root = data.absolute() / "isbi2012"
    return [{"image": f"{root}/image/{k}.png", "label": f"{root}/label/{k}.png"} for k in slices]


def scores(probabilities: Sequence[Any], truths: Sequence[Any]) -> dict[str, float]:
    """The challenge's four scores of a stack of slices `(Y, X)`."""
    prediction, truth = np.stack(probabilities), np.stack(truths)
    rand, info = v_scores(prediction, truth)
    return {
        "V_Rand": rand,
        "V_Info": info,
        "pixel_error": pixel_error(prediction, truth),
        "rand_error": rand_error(prediction, truth),
    }


def main(
    argv: Sequence[str] | None = None,
    *,
    training: Sequence[int] = TRAINING,
    held_out: Sequence[int] = HELD_OUT,
    tile: int = TILE,
    averaging: Sequence[str] = AVERAGING,
) -> None:
    """Run the experiment; slices, tile and averaging are arguments, so that a test can be small."""
    names = variants(experiment.FEATURES)
    parser = experiment.parser(__doc__, names, output="runs/isbi2012", budget=BUDGET, seeds=SEEDS)
    parser.add_argument("--full", action="store_true", help="the paper's channels, 64 to 1024")
    args = parser.parse_args(argv)
    features = FULL if args.full else args.features
    changes, pictured = variants(features, tile), pairs(args.data, held_out)
    truths = [experiment.pixels(item, "label") > 0 for item in pictured]  # (Y, X)
    table = experiment.Table(args.output, "ISBI 2012, slices 20-23")
    channels = f"{features[0]}-{features[-1]}"
    for name, key, folder in experiment.jobs(table, args, changes, features=channels):
        items = pairs(args.data, training)
        trained = experiment.train(folder, items, changes[name], args=args, seed=key["seed"])
        if trained is None:
            continue  # it diverged: it has no row
        items = [trained.load(item) for item in pictured]
        rows = []
        for way in averaging:
            found = [trained.foreground(item["image"], way) for item in items]
            row = {"name": name, "averaging": way, **key, **scores(found, truths)}
            rows.append({**row, "steps": trained.steps, "seconds": trained.seconds})
        picture = args.output / "pictures" / f"{folder.name}.png"
        image = experiment.pixels(pictured[0], "image")
        experiment.probability_picture(image, truths[0], found[0], picture)
        table.add(rows)


if __name__ == "__main__":
    main()
