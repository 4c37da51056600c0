"""`unet-med demo`: generated cells, a trained U-Net, an image and a volume segmented."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_med import bundle, data
from unet_med.report.table import CASE, MEAN, ScoreRow, ScoreTable, write_scores
from unet_med.scoring.evaluation import Evaluation
from unet_med.scoring.tables import format_table

Pair = tuple[Path, Path]  # files of an image and of its instance labels

SETTINGS: dict[str, Any] = {
    "label_kind": "instances",
    "tile_size": 300,  # -> 260 px out at depth 3 with transposed convolutions
    "network_def::padding": "valid",
    "network_def::norm": None,
    "augment::rotate::prob": 0.5,
    "augment::elastic::prob": 1.0,
    "weigh::border::class_weights": None,
    "batch_size": 1,
    "learning_rate": 0.001,
    "tiles_per_epoch": 24,
    "epochs": 100_000,
    "val_interval": 4,
    "min_size": 30,  # px; specks are no cells
}


@dataclass(frozen=True)
class Scale:
    """How large the demo is: images, sides in px, and channels of the network."""

    train_images: int = 20
    test_images: int = 4
    image_size: tuple[int, ...] = (256, 256)
    volume_size: tuple[int, ...] = (192, 192, 16)
    features: tuple[int, ...] = (16, 32, 64, 128)


FULL = Scale()


def run(args: argparse.Namespace, scale: Scale = FULL) -> None:
    """Generate, train, segment, score, and show."""
    output = Path(args.output)
    folder = bundle.copy_bundle(output / "bundle")
    print("1/4  generating touching cells, in 2-D and 3-D")
    test = generate(output / "data", args.seed, scale)
    print(f"2/4  training a small valid U-Net for {args.minutes:g} minutes", flush=True)
    settings = {"minutes": args.minutes, "seed": args.seed, "features": list(scale.features)}
    train(folder, output / "data", settings)
    print("3/4  segmenting images and a volume that it has not seen", flush=True)
    predict(folder, [image for image, _ in test], output / "results")
    print("4/4  scores on the held-out images")
    _report(test, output)


def generate(folder: Path, seed: int, scale: Scale = FULL) -> list[Pair]:
    """Write training images, and return the held-out images and, last, a volume."""
    size = scale.image_size
    data.SyntheticCells(scale.train_images, size, seed=seed).write(folder / "train")
    _write_planes(_volume(seed, scale), folder / "train")
    test = data.SyntheticCells(scale.test_images, size, seed=seed + 1).write(folder / "test")
    [(image, label)] = _volume(seed + 1, scale).write(folder / "volume")
    volume = [path.rename(path.with_name("volume.nii.gz")) for path in (image, label)]
    return [*test, (volume[0], volume[1])]


def _volume(seed: int, scale: Scale) -> data.SyntheticCells:
    return data.SyntheticCells(1, scale.volume_size, spacing=(1, 1, 2), num_cells=60, seed=seed)


def _write_planes(volume: data.SyntheticCells, folder: Path) -> None:
    """Every other plane of a volume as a training image of its own."""
    item = volume[0]
    for k in range(0, item["image"].shape[-1], 2):
        for part, key in (("images", "image"), ("labels", "label")):
            plane = item[key].numpy()[..., k].astype(np.uint16)  # (1, X, Y)
            data.save_image(folder / part / f"plane_{k:03d}.tif", plane)


def train(folder: Path, images: Path, settings: dict[str, Any]) -> None:
    """Train the bundle in `folder` on generated cells, with some settings changed."""
    modern = bundle.override_file("modern")
    chosen = {**SETTINGS, "features": list(FULL.features), **settings}
    files = [modern] if modern else []
    bundle.write_settings(folder, files, chosen, reason="right for these cells")
    bundle.load_workflow(folder, "train", {"dataset_dir": str(images / "train")}).run()


def predict(folder: Path, images: Sequence[Path], results: Path) -> None:
    """Segment images with the bundle in `folder`."""
    settings = {
        "images": [str(path.absolute()) for path in images],
        "output_dir": str(results.absolute()),
    }
    bundle.load_workflow(folder, "inference", settings).run()


def instance_scores(truth: Path, results: Path) -> dict[str, float]:
    """SEG and DET of one result; a volume plane by plane, as the 2-D network saw it."""
    from unet_med import metrics

    found, expected = instances(truth, results), read(truth)[0]
    if expected.ndim == 2:
        planes, labels = [found], [expected]
    else:
        planes, labels = list(np.moveaxis(found, -1, 0)), list(np.moveaxis(expected, -1, 0))
    return {"SEG": metrics.seg(planes, labels), "DET": metrics.det(planes, labels)}


def instances(truth: Path, results: Path) -> NDArray[Any]:
    """Instances `(X, Y[, Z])` of one result; in a volume those of each plane by itself.

    The file of a volume's instances holds 3-D components: cells that lie above one
    another are one, since a 2-D network has not learned to part them.
    """
    from unet_med.report.case_files import plane_instances

    mask = read(result_of(truth, results, "mask"))[0] > 0
    if mask.ndim == 2:
        return read(result_of(truth, results, "instances"))[0]
    return plane_instances(mask, SETTINGS["min_size"], grow=2)


def result_of(truth: Path, results: Path, kind: str) -> Path:
    """File that `predict` wrote for the image of a label."""
    suffix = ".nii.gz" if truth.name.endswith(".nii.gz") else ".tif"
    return results / f"{data.stem(truth)}_{kind}{suffix}"


def read(path: Path) -> NDArray[Any]:
    """Array `(C, X, Y[, Z])` of a file."""
    array: NDArray[Any] = data.load_image(path).numpy()
    return array


def _report(test: Sequence[Pair], output: Path) -> None:
    from unet_med.report import comparison_figure, html_report

    results = output / "results"
    found = {label: instance_scores(label, results) for _, label in test}
    table = _evaluation(found).documented()
    print(format_table(table))
    print(table.about["interval"])
    write_scores(table, output / "scores.json")
    shown = [test[0], test[-1]]
    picture = comparison_figure(
        [data.load_image(image) for image, _ in shown],
        [read(label) for _, label in shown],
        [instances(label, results)[None] for _, label in shown],
        output / "demo.png",
        names=["image (TIFF)", "volume (NIfTI), middle plane"],
        scores=[found[label] for _, label in shown],
    )
    page = html_report(output, scores=table)
    print(f"\npicture   {picture}\nreport    {page}\nresults   {results}")
    folder = output / "bundle"
    print(f"bundle    {folder}   (configs, weights, learning curve)")
    quoted = shlex.quote(str(folder))
    print(f"next      unet-med predict IMAGE --bundle {quoted} --output RESULTS --instances")


def _evaluation(found: Mapping[Path, Mapping[str, float]]) -> Evaluation:
    """The scores as `unet-med evaluate` would write them, under the names of the images."""
    columns = tuple(next(iter(found.values())))
    rows = [ScoreRow(CASE, data.stem(label), "", scores) for label, scores in found.items()]
    means = {c: float(np.mean([scores[c] for scores in found.values()])) for c in columns}
    about = {
        "label_kind": "instances",
        "interval": "mean of images; a volume counts plane by plane, as the network saw it",
    }
    truths = {data.stem(label): str(label) for label in found}
    table = ScoreTable(columns, (*rows, ScoreRow(MEAN, "", "", means)), about)
    return Evaluation("instances", truths, table)
