"""What each ingredient is worth: the default training on ISBI 2012, one change at a time.

    python workflows/ablate.py --steps 300 --seeds 0 1 2
    python workflows/ablate.py --only default no-border-weights

The default is the paper, `configs/train.json`, with the channels of a small network and Adam:
with momentum 0.99, the row `sgd`, several of these networks do not begin to learn in so few
steps. Slices 0-15 train and 16-19 are scored, so that 20-23 stay untouched. All trainings have
equally many steps, and tiles of at least the same output. The row `zero-border` is the network
of `default`, applied with zeros (the image's mean grey) in place of the mirror beyond the
image's border.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import experiment
import torch
from monai.bundle import ConfigParser
from reproduce_isbi2012 import pairs, scores

from unet_med.bundle import find_bundle, merge_config

TRAINING, HELD_OUT = range(16), range(16, 20)  # slices
BUDGET, SEEDS = experiment.Budget.of_steps(300), (0, 1, 2)
ADAM = {"_target_": "torch.optim.Adam", "params": "$@network.parameters()", "lr": "@learning_rate"}
COMMON = {"features": experiment.FEATURES, "optimizer": ADAM, "learning_rate": 1e-3}
OUTPUT_SIDE = 196  # px of a tile's output; the paper's is 388

TRAIN_JSON = find_bundle() / "configs" / "train.json"
DEFAULT = json.loads(TRAIN_JSON.read_text(encoding="utf-8"))


def with_weight(transform: dict[str, Any]) -> dict[str, Any]:
    """A transform of the labels that moves the weights as well."""
    if "label" not in transform.get("keys", []):
        return transform
    modes = {"mode": [*transform["mode"], "bilinear"]} if "mode" in transform else {}
    return {**transform, "keys": [*transform["keys"], "weight"], **modes}


CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "sgd": {name: DEFAULT[name] for name in ("optimizer", "learning_rate")},
    "no-border-weights": {"w0": 0.0},
    "no-class-weights": {"weigh::border::class_weights": [1.0, 1.0]},
    "no-elastic": {"augment::elastic::prob": 0.0},
    "b-spline": {"augment::elastic::kernel": "bspline"},
    "same-padding": {"network_def::padding": "same"},  # with zeros, in every convolution
    "no-skip": {"network_def::skip": "none"},
    "up-bilinear": {"network_def::upsample": "bilinear"},
    "up-unpool": {"network_def::upsample": "unpool"},
    "up-pixelshuffle": {"network_def::upsample": "pixelshuffle"},
    "no-dropout": {"network_def::dropout": 0.0},
    "weights-before": {  # of the whole image, then deformed
        "train::preprocessing::chains": ["@load", "@weigh", "@augment"],
        "augment": {
            **{name: with_weight(transform) for name, transform in DEFAULT["augment"].items()},
            "drop_metadata": DEFAULT["weigh"]["tensors"],
        },
    },
}


def tile_size(variant: dict[str, Any], output: int = OUTPUT_SIDE) -> int:
    """Input side of a variant's network for so large an output, px."""
    with torch.device("meta"):
        parser = ConfigParser(merge_config(TRAIN_JSON, [], variant))
        return int(parser.get_parsed_content("network_def").input_size_for(output))


def zero_border(inferer: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """The inferer on an image that lies in zeros, as wide as the network sees."""

    def infer(image: torch.Tensor, network: Any) -> torch.Tensor:
        around = -(-network.margin // network.stride) * network.stride  # keeps the pooling's grid
        padded = torch.nn.functional.pad(image, [around] * 4)  # (B, C, X + 2 p, Y + 2 p)
        return inferer(padded, network)[..., around:-around, around:-around]

    return infer


def main(
    argv: Sequence[str] | None = None,
    *,
    training: Sequence[int] = TRAINING,
    held_out: Sequence[int] = HELD_OUT,
    output_side: int = OUTPUT_SIDE,
) -> None:
    """Run the experiment; slices and the side of a tile's output are arguments for a small test."""
    parser = experiment.parser(__doc__, CHANGES, output="runs/ablation", budget=BUDGET, seeds=SEEDS)
    args = parser.parse_args(argv)
    table = experiment.Table(args.output, "One change at a time, ISBI 2012, slices 16-19")
    for name, key, folder in experiment.jobs(table, args, CHANGES):
        variant = {**COMMON, **CHANGES[name], "features": args.features}
        variant["tile_size"] = tile_size(variant, output_side)
        items = pairs(args.data, training)
        trained = experiment.train(folder, items, variant, args=args, seed=key["seed"])
        if trained is None:
            continue  # it diverged: it has no row
        items = [trained.load(item) for item in pairs(args.data, held_out)]
        truths = [item["label"][0].numpy().T > 0 for item in items]  # (Y, X)
        ways = {name: trained}
        if name == "default":
            ways["zero-border"] = dataclasses.replace(trained, inferer=zero_border(trained.inferer))
        rows = []
        for row_name, way in ways.items():
            found = [way.foreground(item["image"]) for item in items]
            row = {**key, "name": row_name, **scores(found, truths)}
            rows.append({**row, "steps": trained.steps, "seconds": trained.seconds})
            picture = args.output / "pictures" / f"{row_name}-{key['seed']}.png"
            image = items[0]["image"][0].numpy().T
            experiment.probability_picture(image, truths[0], found[0], picture)
        table.add(rows)


if __name__ == "__main__":
    main()
