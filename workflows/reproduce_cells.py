"""Instances of touching cells, with the paper's border weights and without them.

    python workflows/reproduce_cells.py --steps 300 --seeds 0 1 2
    python workflows/reproduce_cells.py --folder PhC-C2DH-U373

The two trainings differ in w0 alone, 10 or 0: both put background between touching cells, and
their instances grow back into it. Scored are SEG, DET (of the annotated masks) and AP at an
intersection over union of 0.5.

* `usiigaci-t98g`, phase contrast: every third set is held out.
* `dsb2018`, fluorescence: every fifth image is held out; the colour images are left out.
* `--folder`, a 2-D folder of the Cell Tracking Challenge: trained on one sequence's `01_ST/SEG`
  (or `01_GT/SEG`) and scored on `02_GT/SEG` (or `02_ST/SEG`), then the other way round; of a
  single sequence the last fifth is held out. Gold truth that marks some cells only makes SEG
  right and DET and AP too low.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import experiment
import numpy as np

from unet_med.data import instance_sizes, load_image, save_image
from unet_med.metrics import average_precision, det, seg
from unet_med.report import comparison_figure
from unet_med.transforms import InstancesFromLogits

BUDGET, SEEDS = experiment.Budget.of_steps(300), (0, 1, 2)
AVERAGING = "flips"
GROW = 2  # px into the background between two cells
SMALLEST = 0.1  # of the median training cell: what is smaller is no cell
PICTURED = 3  # held-out images
COMMON = {"preset": "modern", "label_kind": "instances"}
VARIANTS: dict[str, dict[str, Any]] = {
    "border-weights": {**COMMON, "w0": 10.0},
    "no-border-weights": {**COMMON, "w0": 0.0},
}

Items = list[experiment.Item]
Fold = tuple[str, Items, Items]  # what it is called, training, held out


def usiigaci(root: Path, _: Path) -> list[Fold]:
    """Phase contrast; every third set is held out, 281 cells of which 89 touch another."""
    sets = sorted((root / "train").iterdir())
    items = [{"image": f"{s}/raw.tif", "label": f"{s}/instances_ids.png"} for s in sets]
    return [_every(3, "third", items)]


def dsb2018(root: Path, scratch: Path) -> list[Fold]:
    """Fluorescence; a file of instances is written from the files of single nuclei."""
    with (root / "index.csv").open(newline="", encoding="utf-8") as file:
        names = sorted(row["image_id"] for row in csv.DictReader(file) if row["kind"] == "fluo")
    items = []
    for name in names:
        item = {key: str(scratch / f"{name}_{key}.tif") for key in ("image", "label")}
        folder = root / "stage1_train" / name
        if not Path(item["label"]).is_file():
            image = load_image(folder / "images" / f"{name}.png")  # (4, X, Y): grey as RGBA
            label = np.zeros(image.shape[1:], np.uint16)
            for number, mask in enumerate(sorted((folder / "masks").glob("*.png")), start=1):
                label[load_image(mask)[0].numpy() > 0] = number
            save_image(item["image"], image[:1].numpy().astype(np.uint8), None, None)
            save_image(item["label"], label[None], None, None)
        items.append(item)
    return [_every(5, "fifth", items)]


def _every(nth: int, name: str, items: Items) -> Fold:
    return f"test every {name}", [i for i in items if i not in items[::nth]], items[::nth]


def challenge(root: Path, _: Path) -> list[Fold]:
    """A folder in the Cell Tracking Challenge's layout: two folds of two sequences."""
    sequences = sorted(p.name for p in root.iterdir() if re.fullmatch(r"\d\d", p.name))
    training = {name: frames(root, name, ("ST", "GT")) for name in sequences}
    held_out = {name: frames(root, name, ("GT", "ST")) for name in sequences}
    if len(sequences) == 1:
        [name] = sequences
        cut = max(1, len(training[name]) // 5)
        return [("test last fifth", training[name][:-cut], training[name][-cut:])]
    return [
        (f"test {test}", [i for s in sequences if s != test for i in training[s]], held_out[test])
        for test in sequences
    ]


def frames(root: Path, sequence: str, kinds: Sequence[str]) -> Items:
    """The annotated frames of a sequence, from the first kind of truth that there is."""
    for folder in (root / f"{sequence}_{kind}" / "SEG" for kind in kinds):
        found = {re.fullmatch(r"man_seg(\d+)\.tif", p.name): p for p in sorted(folder.glob("*"))}
        items = [
            {"image": str(root / sequence / f"t{match[1]}.tif"), "label": str(path)}
            for match, path in found.items()
            if match
        ]
        if items:
            return items
    raise ValueError(
        f"no {sequence}_ST/SEG/man_segNNN.tif nor {sequence}_GT/SEG/man_segNNN.tif in {root}: "
        "give a 2-D data set of the Cell Tracking Challenge, as it is downloaded"
    )


def folds(args: Any) -> Iterator[tuple[str, Fold]]:
    """Every data set's name and folds."""
    sets = {"usiigaci-t98g": usiigaci, "dsb2018": dsb2018}
    roots = {args.data / name: read for name, read in sets.items() if (args.data / name).is_dir()}
    if args.folder:
        roots = {args.folder: challenge}
    for root, read in roots.items():
        scratch = args.output.absolute() / "data" / root.name
        yield from ((root.name, fold) for fold in read(root.absolute(), scratch))


def median_area(trained: experiment.Trained, items: Items) -> float:
    """Of the cells in the training images, px."""
    labels = (trained.load(item)["label"][0].numpy() for item in items)
    return float(np.median(np.concatenate([instance_sizes(label, 2) for label in labels])))


def main(argv: Sequence[str] | None = None) -> None:
    parser = experiment.parser(__doc__, VARIANTS, output="runs/cells", budget=BUDGET, seeds=SEEDS)
    parser.add_argument("--folder", type=Path, help="one data set of the Cell Tracking Challenge")
    args = parser.parse_args(argv)
    table = experiment.Table(args.output, "Instances with and without border weights")
    for data, (fold, training, held_out) in folds(args):
        for name, key, folder in experiment.jobs(table, args, VARIANTS, data=data, fold=fold):
            variant = {**VARIANTS[name], "features": args.features}
            trained = experiment.train(folder, training, variant, args=args, seed=key["seed"])
            if trained is None:
                continue  # it diverged: it has no row
            smallest = SMALLEST * median_area(trained, training)
            cells = InstancesFromLogits(int(smallest), grow=GROW)
            items = [trained.load(item) for item in held_out]
            found = [cells(trained.logits(i["image"], AVERAGING)).numpy() for i in items]
            truth = [item["label"].numpy() for item in items]  # (1, X, Y)
            scores = {
                "SEG": seg(found, truth),
                "DET": det(found, truth),
                "AP50": average_precision(found, truth),
            }
            comparison_figure(
                [item["image"] for item in items[:PICTURED]],
                truth[:PICTURED],
                found[:PICTURED],
                args.output / "pictures" / f"{folder.name}.png",
            )
            table.add([{**key, **scores, "steps": trained.steps, "seconds": trained.seconds}])


if __name__ == "__main__":
    main()
