"""The six sets of images on which answers are judged: training and test pairs, and the score.

The splits are fixed. Images are read in place; what has to be put together (the nuclei's masks,
one file each, become one label) or generated is written into a folder of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from skimage.io import imread

from unet_med.data import load_image, load_label
from unet_med.metrics import average_precision, seg, v_scores

Pair = dict[str, str]
Scores = dict[str, float]
DARK = 110.0  # mean grey below which an image of nuclei counts as fluorescence
NUCLEI_TEST = Path("dev", "dsb2018-fluo")


@dataclass(frozen=True)
class ImageSet:
    """A data set with its split.

    Attributes:
        pairs: `(data, folder)` to training and test pairs of image and label.
        result: which file of a prediction is scored: `mask`, `instances` or `probabilities`.
        score: `(results, truths)`, a file each, to scores by name.
        dims: 2 or 3.
        classes: of the network, background included.
    """

    pairs: Callable[[Path, Path], tuple[list[Pair], list[Pair]]]
    result: str
    score: Callable[[Sequence[Path], Sequence[str]], Scores]
    dims: int = 2
    classes: int = 2


def _isbi(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """Slices 0-19 of the ISBI 2012 training stack; 20-23 are the test."""
    root = data / "isbi2012"
    pairs = [_pair(root / f"image/{k}.png", root / f"label/{k}.png") for k in range(24)]
    return pairs[:20], pairs[20:]


def _nuclei(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """The first 30 grey, dark images of the Data Science Bowl 2018; 40 others are the test."""
    return list(islice(bowl_nuclei(data, folder), 30)), _folder(data / NUCLEI_TEST)


def bowl_nuclei(data: Path, folder: Path) -> Iterator[Pair]:
    """Grey, dark images of the Data Science Bowl 2018 by name, each with its nuclei in one label.

    Args:
        data: the shared folder.
        folder: where the pairs are written, one at a time.
    """
    for place in sorted((data / "dsb2018" / "stage1_train").iterdir()):
        image = imread(place / "images" / f"{place.name}.png")[..., :3]  # (Y, X, 3)
        if np.ptp(image, axis=-1).any() or image.mean() >= DARK:
            continue
        label = np.zeros(image.shape[:2], np.uint16)
        for number, mask in enumerate(sorted((place / "masks").glob("*.png")), 1):
            label[imread(mask) > 0] = number
        yield _write(folder, place.name, image[..., 0], label)


def _tissue(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """Stained tissue in colour, 8 images each."""
    root = data / "dev" / "dsb2018-tissue"
    return _folder(root / "train"), _folder(root / "test")


def _usiigaci(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """Phase contrast: 12 images, and 5 others."""
    places = sorted((data / "usiigaci-t98g" / "train").iterdir())
    train = [_pair(place / "raw.tif", place / "instances_ids.png") for place in places]
    return train, _folder(data / "dev" / "usiigaci")


def _hippocampus(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """Twenty volumes of the Medical Segmentation Decathlon, and thirty others."""
    return _folder(data / "msd-hippocampus")[:20], _folder(data / "dev" / "msd-hippocampus")


def _cells_3d(data: Path, folder: Path) -> tuple[list[Pair], list[Pair]]:
    """Generated fluorescent cells, ten volumes of 96 x 96 x 48 px each, 31 to 49 cells in each.

    As many in each would be what classes look like, and `unet-med train` would ask.
    """
    from unet_med.data import SyntheticCells

    pairs = []
    for seed in range(20):
        count = 31 + 2 * (seed % 10)
        cells = SyntheticCells(1, (96, 96, 48), kind="fluorescence", num_cells=count, seed=seed)
        image, label = (np.asarray(cells[0][key][0]).T for key in ("image", "label"))  # (Z, Y, X)
        pairs.append(_write(folder, str(seed), image, label.astype(np.uint16)))
    return pairs[:10], pairs[10:]


def _instance_scores(results: Sequence[Path], truths: Sequence[str]) -> Scores:
    """AP at overlaps of 0.5 and 0.75, pooled over images, and SEG."""
    found, right = arrays(results), arrays(truths)
    scores = {f"AP{100 * t:.0f}": average_precision(found, right, t) for t in (0.5, 0.75)}
    return {**scores, "SEG": seg(found, right)}


def _membrane_scores(results: Sequence[Path], truths: Sequence[str]) -> Scores:
    """V_Rand and V_Info of the probabilities, means over slices."""
    inside = np.stack([np.asarray(load_image(path))[1].T for path in results])  # (S, Y, X)
    v_rand, v_info = v_scores(inside, np.stack([label.T for label in arrays(truths)]) > 0)
    return {"V_Rand": v_rand, "V_Info": v_info}


def _dice(results: Sequence[Path], truths: Sequence[str]) -> Scores:
    """Dice, the mean over volumes and both classes."""
    both = zip(arrays(results), arrays(truths), strict=True)
    return {"Dice": float(np.mean([dice_of(*each) for each in both]))}


def dice_of(found: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Dice of a volume, the mean of both classes."""
    parts = [(found == value, truth == value) for value in (1, 2)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in parts]))


SETS = {
    "isbi": ImageSet(_isbi, "probabilities", _membrane_scores),
    "nuclei": ImageSet(_nuclei, "instances", _instance_scores),
    "tissue": ImageSet(_tissue, "instances", _instance_scores),
    "usiigaci": ImageSet(_usiigaci, "instances", _instance_scores),
    "hippocampus": ImageSet(_hippocampus, "mask", _dice, dims=3, classes=3),
    "cells3d": ImageSet(_cells_3d, "instances", _instance_scores, dims=3),
}


def arrays(files: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """Labels of files, `(X, Y[, Z])`, whatever the format."""
    return [np.asarray(load_label(str(file))).squeeze() for file in files]


def prepared(key: Mapping[str, Any], options: Any) -> tuple[Path, list[Pair], list[Pair]]:
    """A run's folder, and pairs of its set to learn from and to be scored by, named alike.

    Args:
        key: `set`, `minutes` and `seed` of the run.
        options: `data`, `output`, and how many pairs are scored at `most`.
    """
    base = (options.output / f"{key['set']}-{key['minutes']:g}-{key['seed']}").resolve()
    training, test = SETS[key["set"]].pairs(options.data.resolve(), base / "data")
    return base, named(training, base / "train"), named(test, base / "test")[: options.most]


def named(pairs: Sequence[Pair], folder: Path) -> list[Pair]:
    """The same pairs under names that differ, by links: two files `raw.tif` become `0007.tif`."""
    folder.mkdir(parents=True, exist_ok=True)
    return [dict(_links(pair, folder, f"{k:04d}")) for k, pair in enumerate(pairs)]


def _links(pair: Pair, folder: Path, name: str) -> Iterator[tuple[str, str]]:
    for key, file in pair.items():
        link = folder / key / f"{name}{''.join(Path(file).suffixes[-2:])}"
        link.parent.mkdir(exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(Path(file).resolve())
        yield key, str(link)


def _folder(root: Path) -> list[Pair]:
    """Images and labels of one stem, sorted by name."""
    images = sorted((root / "images").iterdir())
    labels = sorted((root / "labels").iterdir())
    return [_pair(*both) for both in zip(images, labels, strict=True)]


def _pair(image: Path, label: Path) -> Pair:
    return {"image": str(image), "label": str(label)}


def _write(folder: Path, name: str, image: np.ndarray[Any, Any], label: Any) -> Pair:
    pair = _pair(folder / "images" / f"{name}.tif", folder / "labels" / f"{name}.tif")
    for array, file in ((image, pair["image"]), (label, pair["label"])):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(file, array, compression="zlib")
    return pair
