"""Two toy experiments on generated shapes, about ten minutes on two cores.

    python workflows/shapes_and_ellipses.py

1. `ellipses` are to be found among triangles, circles, squares, crosses and rings, with skip
   connections and (`ellipses-no-skip`) without: what the lower levels know must come back to
   full resolution through the up-convolutions alone.
2. `six-channels`: all six kinds at once. Shapes overlap, so a pixel may belong to several: a
   sigmoid for each channel, as in the well-known PyTorch tutorial, not one softmax over
   exclusive classes.

Every training image is a new one. IoU is that of all held-out pixels together, the mean over
the channels in the second experiment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import experiment
import torch

from unet_med.data import SyntheticShapes
from unet_med.data.synthetic import SHAPES
from unet_med.report import comparison_figure

BUDGET, SEEDS = experiment.Budget.of_steps(1500), (0,)
FEATURES = [8, 16, 32, 64]
SIZE, NOISE = 96, 0.1  # px; deviation, shapes being 0.5 to 1 bright
HELD_OUT = 32  # images
PICTURED = 3
HELD_OUT_SEED = 1_000_000  # no training's

ELLIPSE = list(SHAPES).index("ellipse")
BOTH = ["image", "label"]
STANDARDIZE = {"_target_": "unet_med.transforms.Standardized", "keys": "image"}
TENSORS = {
    "_target_": "monai.transforms.EnsureTyped",
    "keys": BOTH,
    "dtype": "$torch.float32",
    "track_meta": False,
}
SHAPES_DATA = {"_target_": "unet_med.data.SyntheticShapes", "size": SIZE, "noise": NOISE}
COMMON: dict[str, Any] = {
    "preset": "modern",
    "features": FEATURES,
    "batch_size": 8,
    "learning_rate": 0.002,
    "label_kind": "classes",
    "augment": {},
    "weigh": {"tensors": TENSORS},  # no weight: the loss takes every pixel alike
    "train::dataset": {
        "_target_": "monai.data.Dataset",
        "data": {**SHAPES_DATA, "num_images": 1_000_000, "seed": "@seed"},
        "transform": "@train::preprocessing",
    },
    "validate::dataset": {
        "_target_": "monai.data.Dataset",
        "data": {**SHAPES_DATA, "num_images": 2, "seed": "@seed"},
        "transform": "@validate::preprocessing",
    },
}
ELLIPSES = {
    **COMMON,
    "loss": {
        "_target_": "monai.losses.DiceCELoss",
        "softmax": True,
        "to_onehot_y": True,
        "include_background": False,  # an ellipse covers one pixel of thirty
    },
    "load": {
        "standardize": STANDARDIZE,
        "ellipse": {
            "_target_": "monai.transforms.LabelToMaskd",
            "keys": "label",
            "select_labels": [ELLIPSE],
        },
        "tensors": TENSORS,
    },
}
VARIANTS: dict[str, dict[str, Any]] = {
    "ellipses": ELLIPSES,
    "ellipses-no-skip": {**ELLIPSES, "network_def::skip": "none"},
    "six-channels": {
        **COMMON,
        "out_channels": len(SHAPES),
        "load": {"standardize": STANDARDIZE, "tensors": TENSORS},
        "loss": {"_target_": "monai.losses.DiceCELoss", "sigmoid": True},
        "validate::finish": {
            "threshold": {
                "_target_": "monai.transforms.AsDiscreted",
                "keys": "pred",
                "threshold": 0.0,
            }
        },
    },
}


def iou(found: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean over channels of the intersection over union of all pixels, `(N, C, X, Y)`."""
    both = (found & truth).sum(dim=(0, 2, 3))
    either = (found | truth).sum(dim=(0, 2, 3))
    return float((both / either).mean())


def picture(items: list[Any], found: torch.Tensor, path: Path) -> None:
    """A row an image, or where there are channels, a row a channel of the first image."""
    if found.shape[1] == 1:
        rows = [(item["image"], item["label"], f) for item, f in zip(items, found, strict=True)]
        rows, names = rows[:PICTURED], None
    else:
        first = zip(items[0]["label"].split(1), found[0].split(1), strict=True)
        rows, names = [(items[0]["image"], truth, f) for truth, f in first], list(SHAPES)
    images, truths, results = zip(*rows, strict=True)
    truths, results = ([label.int().numpy() for label in labels] for labels in (truths, results))
    comparison_figure(
        [i.numpy() for i in images], truths, results, path, names=names, kind="classes"
    )


def main(argv: Sequence[str] | None = None, *, held_out: int = HELD_OUT) -> None:
    """Run the experiment, and score it on so many images."""
    parser = experiment.parser(__doc__, VARIANTS, output="runs/shapes", budget=BUDGET, seeds=SEEDS)
    parser.set_defaults(features=FEATURES)
    args = parser.parse_args(argv)
    table = experiment.Table(args.output, "Ellipses among shapes, and six kinds of shape")
    for name, key, folder in experiment.jobs(table, args, VARIANTS):
        variant = {**VARIANTS[name], "features": args.features}
        trained = experiment.train(folder, [], variant, args=args, seed=key["seed"])
        if trained is None:
            continue  # it diverged: it has no row
        shapes = SyntheticShapes(held_out, SIZE, noise=NOISE, seed=HELD_OUT_SEED)
        items = [trained.load(shape) for shape in shapes]
        logits = torch.stack([trained.logits(item["image"]) for item in items])  # (N, K, X, Y)
        exclusive = logits.shape[1] == 2  # background and ellipse
        found = logits[:, 1:] > logits[:, :1] if exclusive else logits > 0
        truth = torch.stack([item["label"] for item in items]) > 0
        picture(items, found, args.output / "pictures" / f"{folder.name}.png")
        row = {**key, "IoU": iou(found, truth)}
        table.add([{**row, "steps": trained.steps, "seconds": trained.seconds}])


if __name__ == "__main__":
    main()
