"""Thick slices: the planned network, an isotropic one, and nnU-Net's plan, for the same minutes.

    python -m benchmarks.thick_slices                          # 5:1 and 1:1, 5 minutes, three seeds
    python -m benchmarks.thick_slices --sets 5:1 --arms planned --seeds 0
    python -m benchmarks.thick_slices --page                   # write the page anew, train nothing
    python -m benchmarks.thick_slices --cost                   # voxels a second, trains nothing
    python -m benchmarks.thick_slices --picture EMBRYO.tif     # of real nuclei, into docs/images

Generated cells in fluorescence, ten volumes to learn from and ten others, as crowded in space; the
microscope blurs three times as far along its axis. All arms train with `unet-med train`:
`planned` with no option; `isotropic` with its poolings, kernels and lengths alike along all axes;
`nnunet` with MONAI's `DynUNet` of the kernels, strides and depth that nnU-Net's planner takes for
the same patch (Isensee et al. 2021; `get_pool_and_conv_props`), 8 features at the top.

Each finished run is a line of `benchmarks/thick_slices.jsonl`, and is not done again: a benchmark
that was interrupted goes on where it stopped. Minutes are those of the clock: leave the machine
alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.quality_sets import _instance_scores
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, words, write_section
from unet_med.bundle import find_trained
from unet_med.data import SyntheticCells, load_image
from unet_med.planning.objects import decide_grow
from unet_med.planning.sizes import IN_SPACE, in_proportion
from unet_med.planning.thick_slices import halve_the_finest
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
SETS = {"5:1": ((96, 96, 20), (1.0, 1.0, 5.0), 80), "1:1": ((96, 96, 48), (1.0, 1.0, 1.0), 40)}
AXIAL_BLUR = 3.0
SCORES = ("SEG", "AP50", "AP75")
THICKNESS = 2.18  # px: slices of the mouse embryo of Tokuoka et al. 2020
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
PICTURE = ROWS.parents[1] / "docs" / "images" / "embryo.png"
FEATURES = (8, 16, 32, 64)  # what the plan takes on a CPU
FEWEST, MOST_FEATURES, DEEPEST = 4, 320, 5  # of nnU-Net's planner

Levels = list[list[int]]


def main(words: Sequence[str] | None = None) -> None:
    """Run what is missing."""
    options = _parser().parse_args(words)
    if options.picture:
        print(picture(options.picture))
        return
    if options.cost:
        for name, found in cost().items():
            print(f"{name:24} {found:12,.0f} voxels a second")
        return
    if not options.page:
        complete(ROWS, _keys(options), lambda key: measure(key, options))
    write_section(PAGE, "thick-slices", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """One training of an arm, and the scores of the ten volumes that stayed apart."""
    folder = options.output / "-".join(str(value).replace(":", "to") for value in key.values())
    data = {part: volumes(key["set"], part, options) for part in ("train", "test")}
    bundle = folder / "bundle"
    asked = ["--images", str(data["train"] / "images"), "--labels", str(data["train"] / "labels")]
    asked += ["--minutes", f"{key['minutes']:g}", "--seed", str(key["seed"])]
    begun = time.monotonic()
    _run("train", *asked, "--output", str(bundle), *_config(key, folder))
    minutes = (time.monotonic() - begun) / 60
    images = sorted((data["test"] / "images").iterdir())
    place = ["--bundle", str(bundle), "--output", str(folder / "results"), "--instances"]
    _run("predict", *map(str, images), *place, "--trust")
    stems = [image.name.partition(".")[0] for image in images]
    results = [next((folder / "results").glob(f"{stem}_instances.*")) for stem in stems]
    scores = _instance_scores(results, [str(data["test"] / "labels" / i.name) for i in images])
    record = json.loads((bundle / "models" / "training.json").read_text(encoding="utf-8"))
    return {
        "scores": rounded(scores),
        "steps": record.get("iterations"),
        "took": round(minutes, 2),
        "date": date.today().isoformat(),
    }


def volumes(name: str, part: str, options: argparse.Namespace) -> Path:
    """A folder of ten volumes, written once."""
    size, spacing, count = SETS[name]
    folder: Path = options.output / "data" / f"{name.replace(':', 'to')}-{options.volumes}" / part
    if not folder.is_dir():
        beside = folder.with_name(f"{part}.partial")
        SyntheticCells(
            options.volumes,
            size,
            kind="fluorescence",
            num_cells=count,
            spacing=spacing,
            axial_blur=AXIAL_BLUR,
            seed=("train", "test").index(part),
        ).write(beside)
        beside.rename(folder)
    return folder


def nnunet_levels(spacing: Sequence[float], patch: Sequence[int]) -> tuple[Levels, Levels]:
    """Kernels of each stage and strides between them, as nnU-Net's planner chooses them.

    >>> nnunet_levels((1, 1, 5), (112, 112, 20))[1]
    [[2, 2, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]
    """
    size, sides = np.array(spacing, float), np.array(patch)
    kernel, pools = np.ones(len(size), int), np.zeros(len(size), int)
    kernels: Levels = []
    strides: Levels = []
    while True:
        room = sides >= 2 * FEWEST
        if not room.any():
            break
        halved = room & (size < 2 * size[room].min()) & (pools < DEEPEST)
        one_left = halved.sum() == 1 and sides[halved][0] < 3 * FEWEST
        if one_left or not halved.any():
            break
        kernel = np.where(size < 2 * size.min(), 3, kernel)
        kernels.append(kernel.tolist())
        strides.append(np.where(halved, 2, 1).tolist())
        size, sides, pools = size * (1 + halved), -(-sides // (1 + halved)), pools + halved
    return [*kernels, [3] * len(size)], strides


def _config(key: Row, folder: Path) -> list[str]:
    """The option of an arm that names its override file."""
    size, spacing, _ = SETS[key["set"]]
    if key["arm"] == "planned":
        return []
    grow = decide_grow("instances", spacing).get("grow")  # of all arms alike: it is no network's
    alike: Row = {"pool": None, "kernel_size": None, "spacing": None}
    alike |= {"grow": grow.value} if grow else {}
    ids = alike if key["arm"] == "isotropic" else {**alike, **_nnunet(size, spacing)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{key['arm']}.json"
    path.write_text(json.dumps(ids, indent=2), encoding="utf-8")
    return ["--config", str(path)]


def _nnunet(size: Sequence[int], spacing: Sequence[float]) -> Row:
    patch = in_proportion(size, spacing, IN_SPACE)
    kernels, strides = nnunet_levels(spacing, patch)
    steps = np.prod(strides, axis=0)
    widths = [min(FEATURES[0] * 2**level, MOST_FEATURES) for level in range(len(kernels))]
    network = {"_target_": "monai.networks.nets.DynUNet", "spatial_dims": "@spatial_dims"}
    network |= {"in_channels": "@in_channels", "out_channels": "@out_channels"}
    sides = {"kernel_size": kernels, "strides": [[1, 1, 1], *strides]}
    return {
        "network_def": {
            **network, **sides, "upsample_kernel_size": strides, "filters": widths,
        },
        "margin": [0, 0, 0],  # instance normalisation: each image is one pass
        "stride": steps.tolist(),
        "tile_size": [int(-(-n // step) * step) for n, step in zip(patch, steps, strict=True)],
    }  # fmt: skip


def picture(stack: str) -> Path:
    """Segment a real stack by the model of nuclei that comes with the package, and draw it."""
    found = Segmenter(find_trained("nuclei"), planes="joined")(stack)
    image = np.asarray(load_image(stack))[0]  # (X, Y, Z)
    return draw(image, np.asarray(found.instances).T, THICKNESS, PICTURE)


def draw(image: NDArray[Any], objects: NDArray[Any], thickness: float, path: Path) -> Path:
    """A slice along Z and one along Y, `(X, Y, Z)`, plain and with the outlines of objects."""
    from matplotlib.figure import Figure

    from unet_med.report.colours import instance_colours
    from unet_med.report.saving import INK, save
    from unet_med.report.scale_bar import PixelSize, draw_bar

    _, y, z = (int(np.median(places)) for places in np.nonzero(objects))
    grey = np.log(np.maximum(image.astype(float), 1))
    low, high = np.percentile(grey, (1, 99.8))
    colours = instance_colours(objects)
    heights = (image.shape[1], image.shape[2] * thickness)
    figure = Figure((7.6, 7.6 * sum(heights) / (2 * image.shape[0]) + 0.5), layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=heights)
    cuts = {f"slice {z}": ((..., z), 1.0), f"section {y}": ((slice(None), y), thickness)}
    for row, (name, (cut, aspect)) in zip(axes, cuts.items(), strict=True):
        for ax, title in zip(row, (name, _count_of(objects[cut], objects)), strict=True):
            ax.imshow(grey[cut].T, cmap="gray", vmin=low, vmax=high, aspect=aspect)
            ax.set(xticks=[], yticks=[])
            ax.set_title(title, color=INK)
        row[1].imshow(_outlined(objects[cut], colours), aspect=aspect, interpolation="none")
        draw_bar(row[0], PixelSize(1, aspect, "px"))  # the stack does not state it
    return save(figure, path)


def _count_of(cut: NDArray[Any], objects: NDArray[Any]) -> str:
    """How many of all objects a cut shows."""
    here, whole = (np.count_nonzero(np.unique(part)) for part in (cut, objects))
    return f"{here} of {whole} objects"


def _outlined(cut: NDArray[Any], colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Outlines of objects `(X, Y)` in their colours on nothing, RGBA, `(Y, X, 4)`."""
    from skimage.segmentation import find_boundaries

    edges = find_boundaries(cut, mode="inner", background=0)
    return np.concatenate([colours[cut], edges[..., None]], axis=-1).swapaxes(0, 1)


def cost(seconds: float = 5.0, scale: float = 1.0) -> dict[str, float]:
    """Voxels a second of the planned and the isotropic network at 5:1, on one thread.

    Args:
        seconds: of each measurement, at least.
        scale: of the tiles' sides; smaller ones for a test.
    """
    import torch

    from unet_med.networks import unet

    spacing = SETS["5:1"][1]
    shape = [512, 512, 100]
    pool, kernels = halve_the_finest(spacing, shape, len(FEATURES) - 1)
    limit = round(IN_SPACE * scale)
    torch.set_num_threads(1)
    found: dict[str, list[float]] = defaultdict(list)
    arms = {
        "planned": ({"pool": pool, "kernel_size": kernels}, in_proportion(shape, spacing, limit)),
        "isotropic": ({}, [limit] * 3),
    }
    for _ in range(2):  # in turns: other programs slow both
        for name, (levels, sides) in arms.items():
            torch.manual_seed(0)
            net = unet("modern", spatial_dims=3, features=FEATURES, **levels)
            x = torch.randn(1, 1, *net.input_size_for(sides))
            for kind, run in (("training step", _step), ("forward pass", _forward)):
                found[f"{name}, {kind}"].append(x.numel() / _once(partial(run, net, x), seconds))
    return {name: max(values) for name, values in found.items()}


def _step(net: Any, x: Any) -> None:
    net.train()(x).sum().backward()


def _forward(net: Any, x: Any) -> None:
    import torch

    with torch.no_grad():
        net.eval()(x)


def _once(run: Any, seconds: float) -> float:
    """Seconds of processor time of one call, the fastest of those within the time."""
    times, end = [], time.monotonic() + seconds
    while len(times) < 2 or time.monotonic() < end:
        begun = time.process_time()
        run()
        times.append(time.process_time() - begun)
    return min(times)


def table(found: Sequence[Row]) -> str:
    """Markdown: a row for each set, arm and budget, means over the seeds."""
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in found:
        groups[row["set"], row["arm"], row["minutes"]].append(row)
    lines = [
        [name, f"{arm}, {len(runs)} seeds", f"{minutes:g}",
         *(words([run["scores"][score] for run in runs]) for score in SCORES)]
        for (name, arm, minutes), runs in sorted(groups.items())
    ]  # fmt: skip
    return markdown(["voxels", "network", "minutes", *SCORES], lines)


def _keys(options: argparse.Namespace) -> list[Row]:
    return [
        {"set": name, "arm": arm, "minutes": options.minutes, "seed": seed,
         "volumes": options.volumes}
        for seed in options.seeds
        for name in options.sets
        for arm in options.arms
    ]  # fmt: skip


def _run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "unet_med", *words], check=True)


def _parser() -> argparse.ArgumentParser:
    arms = ("planned", "isotropic", "nnunet")
    parser = parser_of("thick_slices", __doc__, minutes=5.0, seeds=(0, 1, 2))
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--arms", nargs="+", choices=arms, default=list(arms))
    parser.add_argument("--volumes", type=int, default=10, help="to learn from, and to score")
    parser.add_argument("--picture", metavar="IMAGE", help="segment a stack, and draw it")
    parser.add_argument("--cost", action="store_true", help="measure voxels a second alone")
    return parser


if __name__ == "__main__":
    sys.exit(main())
