"""Whether results show where the tiles were: a trained network in tiles against one whole pass.

    python -m benchmarks.seams BUNDLE IMAGE ...                # print the table
    python -m benchmarks.seams BUNDLE IMAGE ... --name nuclei  # keep the rows, write the page

The same network, with the same statistics and without test-time averaging, sees each image in one
pass, in our tiles, in our tiles at other offsets (box by box, as an image larger than memory is
segmented), and under MONAI's sliding window. What follows the network is the same for all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from torch.nn.functional import pad

from benchmarks.rows import Row, complete, markdown, read, write_section
from unet_med import bundle
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import batch_norms, use_statistics
from unet_med.inferers.pixels import Box, in_memory
from unet_med.metrics.contingency import contingency_table
from unet_med.segmentation import Segmenter

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "explanation" / "how-good.md"
SIDES = {2: 192, 3: 48}  # px of a window, by axes: those of the training
FIRST = 37  # px of the first box where offsets are others: a multiple of nothing
WHOLE = "one pass"
MONAI = {
    "MONAI, overlap 0.25, constant": {"overlap": 0.25, "mode": "constant"},
    "MONAI, overlap 0.5, gaussian": {"overlap": 0.5, "mode": "gaussian"},
}
WAYS = ["ours", "ours, other offsets", *MONAI]

Labels = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Count:
    """Of some images: what one pass finds, what is other in tiles, and how far logits differ.

    Attributes:
        all: objects; of classes, pixels that either calls foreground.
        changed: of these, those of which a pixel differs.
        lost: objects without one that overlaps them by more than half.
        logits: largest difference.
    """

    all: int = 0
    changed: int = 0
    lost: int = 0
    logits: float = 0.0

    def __add__(self, other: Count) -> Count:
        sums = (self.all + other.all, self.changed + other.changed, self.lost + other.lost)
        return Count(*sums, max(self.logits, other.logits))


def main(words: Sequence[str] | None = None) -> None:
    """Audit a bundle."""
    options = _parser().parse_args(words)
    audit = Audit(options.bundle, options.tile)
    if options.name is None:
        print(table([{"data": "", **row} for row in audit.rows(options.images)]))
        return
    found = {row["way"]: row for row in audit.rows(options.images)}
    keys = [{"data": options.name, "tile": audit.side, "way": way} for way in found]
    complete(ROWS, keys, lambda key: found[key["way"]])
    write_section(PAGE, "seams", table(read(ROWS)))


class Audit:
    """A trained bundle, and the ways in which its network sees an image.

    Args:
        folder: of the bundle.
        side: of a window, px; None: as in `SIDES`.
    """

    def __init__(self, folder: str | Path, side: int | None = None) -> None:
        self.segmenter = Segmenter(folder, tta=None, trust=True)
        self.tiling = self.segmenter.tiling
        dims = self.tiling.spatial_dims
        self.side = side or SIDES[dims]
        self.own = max(self.side, *self.tiling.stepping_sides())  # ours keep what is exact
        config = bundle.load_config(Path(folder) / "configs" / "inference.json")
        self.unit = "objects" if config["label_kind"] == "instances" else "pixels"

    def rows(self, files: Sequence[str]) -> Iterator[Row]:
        """What changes in each way, over all images."""
        counts: dict[str, Count] = {}
        for file in files:
            for way, count in self.compare(file).items():
                counts[way] = counts.get(way, Count()) + count
        for way, count in counts.items():
            found = {"changed": count.changed, "lost": count.lost, "all": count.all}
            logits = float(f"{count.logits:.2g}")
            yield {"way": way, "unit": self.unit, **found, "logits": logits, "images": len(files)}

    @torch.no_grad()
    def compare(self, file: str) -> dict[str, Count]:
        """Each way against the whole pass, of one image."""
        segmenter = self.segmenter
        item = segmenter.preprocessing({"image": [file]})
        image = item["image"][None].as_tensor().to(segmenter.device)  # (1, C, *S)
        inferer: OverlapTileInferer = segmenter.inferer
        reading, shape = in_memory(image), tuple(image.shape[2:])
        statistics = inferer.image_statistics(reading, shape, segmenter.network)
        layers = batch_norms(segmenter.network) if statistics else []
        with use_statistics(layers, statistics):
            logits = dict(self._ways(image))
        whole = logits.pop(WHOLE)
        right = self._finish(item, whole)
        return {
            way: count(right, self._finish(item, one), (one - whole).abs().max().item(), self.unit)
            for way, one in logits.items()
        }

    def _ways(self, image: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        """Logits `(1, K, *S)` by way."""
        network, shape = self.segmenter.network, tuple(image.shape[2:])
        inferer = copy(self.segmenter.inferer)
        inferer.statistics = None  # they are set already
        inferer.roi_size = 0  # the whole axis
        yield WHOLE, inferer(image, network)
        inferer.roi_size = self.own
        yield "ours", inferer(image, network)
        region = partial(inferer.region, in_memory(image), shape, network=network)
        yield "ours, other offsets", by_boxes(region, boxes(shape, self.own))
        if self.tiling.padding == "same":  # of a valid network it would shrink the result
            padded = self._to_stride(image)
            window = partial(sliding_window_inference, padded, [self.side] * len(shape), 4)
            for way, options in MONAI.items():
                yield way, window(network, **options)[(..., *(slice(n) for n in shape))]

    def _to_stride(self, image: torch.Tensor) -> torch.Tensor:
        """Mirrored at the far ends, as in the whole pass: what remains are seams."""
        missing = [-n % a.stride for n, a in zip(image.shape[2:], self.tiling.axes, strict=True)]
        return pad(image, [n for m in reversed(missing) for n in (0, m)], mode="reflect")

    def _finish(self, item: Mapping[str, Any], logits: torch.Tensor) -> Labels:
        kind = "mask" if self.unit == "pixels" else "instances"
        pred = MetaTensor(logits[0]).copy_meta_from(item["image"], copy_attr=False)
        found = self.segmenter.finish({**item, "pred": pred}, [kind])
        return np.asarray(found[kind])[0]


def boxes(shape: Sequence[int], side: int) -> list[Box]:
    """Boxes that cover an image, the first of `FIRST` px and the others of a window's side."""
    cuts = [[0, *range(min(FIRST, n), n, side), n] for n in shape]
    spans = [[*pairwise(cut)] for cut in cuts]
    return [*product(*spans)]


def by_boxes(region: Any, places: Sequence[Box]) -> torch.Tensor:
    """One tensor of the logits of boxes."""
    parts = [region(box=box) for box in places]
    shape = [max(box[axis][1] for box in places) for axis in range(len(places[0]))]
    whole = parts[0].new_empty((*parts[0].shape[:2], *shape))
    for box, part in zip(places, parts, strict=True):
        whole[(..., *(slice(start, stop) for start, stop in box))] = part
    return whole


def count(whole: Labels, other: Labels, logits: float, unit: str) -> Count:
    """What is other than in one whole pass."""
    if unit == "pixels":
        foreground = (whole > 0) | (other > 0)
        changed = int((whole != other).sum())
        return Count(int(foreground.sum()), changed, 0, logits)
    best = overlaps(whole, other)
    return Count(len(best), int((best < 1).sum()), int((best <= 0.5).sum()), logits)


def overlaps(whole: Labels, other: Labels) -> np.ndarray[Any, Any]:
    """Intersection over union of each object with the one of the other labels nearest to it."""
    shared = contingency_table(whole, other).toarray()
    sizes, others = shared.sum(axis=1), shared.sum(axis=0)
    union = sizes[1:, None] + others[None, 1:] - shared[1:, 1:]
    best = (shared[1:, 1:] / np.maximum(union, 1)).max(axis=1, initial=0.0)
    return best[sizes[1:] > 0]


def table(found: Sequence[Row]) -> str:
    """Markdown: a row for each way."""
    head = ["data", "tiles", "that change", "without a counterpart", "logits differ by at most"]
    lines = []
    for row in found:
        share = row["changed"] / max(row["all"], 1)
        changed = f"{row['changed']} of {row['all']} {row['unit']}, {share:.2%}"
        lost = f"{row['lost']}" if row["unit"] == "objects" else ""
        lines.append([row["data"], row["way"], changed, lost, f"{row['logits']:.1g}"])
    return markdown(head, lines)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__)
    parser.add_argument("bundle", type=Path, help="trained")
    parser.add_argument("images", nargs="+", help="files")
    parser.add_argument("--tile", type=int, help="side of a window, px (192; 48 in volumes)")
    parser.add_argument("--name", help="of the data: keep the rows, and write the page")
    return parser


if __name__ == "__main__":
    sys.exit(main())
