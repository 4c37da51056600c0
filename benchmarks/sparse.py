"""Two annotated slices of each volume against all of them, for equal minutes.

    python -m benchmarks.sparse                       # 5 minutes, three seeds
    python -m benchmarks.sparse --minutes 1 --seeds 0 --labels "all slices" "two slices"
    python -m benchmarks.sparse --page                # write the page anew, train nothing

Twenty volumes of the hippocampus are learned from, thirty others are scored. The two slices lie
elsewhere in each volume, one in its lower half and one in its upper half, so that some of them show
where the object ends; 255 elsewhere. *inside* has them a third and two thirds along the object,
where none shows that. Rows are kept in `benchmarks/sparse.jsonl` and not measured again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import mean

import nibabel
import numpy as np

from benchmarks.quality_methods import UnetMed
from benchmarks.quality_sets import SETS, named
from benchmarks.rows import Row, complete, markdown, parser_of, read, rounded, words, write_section
from unet_med.instances import IGNORED

ROWS = Path(__file__).with_suffix(".jsonl")
PAGE = ROWS.parents[1] / "docs" / "how-to" / "partly-annotated.md"
IMAGES = SETS["hippocampus"]
ALL, TWO, INSIDE = "all slices", "two slices", "two slices inside"
GOLDEN = 0.618  # of a turn: shares that are spread over all, however many there are
WANTED = 0.9  # of the Dice of full annotation
Label = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    parser = parser_of("sparse", __doc__, minutes=5.0, seeds=(0, 1, 2))
    kinds = (ALL, TWO, INSIDE)
    parser.add_argument("--labels", nargs="+", choices=kinds, default=kinds)
    options = parser.parse_args(argv)
    if not options.page:
        complete(ROWS, _keys(options), lambda key: measure(key, options))
    write_section(PAGE, "sparse", table(read(ROWS)))


def measure(key: Row, options: argparse.Namespace) -> Row:
    """Train on labels of one kind, and score the volumes that were kept out."""
    base = (options.output / f"{key['labels']}-{key['minutes']:g}-{key['seed']}").resolve()
    folder = Path(str(base).replace(" ", "-"))
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
    learned, kept_out = IMAGES.pairs(options.data.resolve(), folder / "data")
    learned = named(learned, folder / "pairs")
    if key["labels"] != ALL:
        planes = inside if key["labels"] == INSIDE else spread_out
        for number, pair in enumerate(learned):
            label = in_part(pair["label"], folder / "part", lambda at, k=number: planes(at, k))
            learned[number] = {**pair, "label": label}
    method, begun = UnetMed(["--label-kind", "classes"]), time.monotonic()
    method.train(IMAGES, learned, folder, minutes=key["minutes"], seed=key["seed"])
    took = round((time.monotonic() - begun) / 60, 2)
    results = method.predict(IMAGES, [pair["image"] for pair in kept_out], folder)
    scores = rounded(IMAGES.score(results, [pair["label"] for pair in kept_out]))
    return {"scores": scores, "took": took, "date": date.today().isoformat()}


def in_part(label: str, folder: Path, planes: Callable[[Label], list[int]]) -> str:
    """The same label with the planes that are chosen, and 255 elsewhere."""
    file = nibabel.load(label)
    values = np.asarray(file.dataobj)
    part = np.full(values.shape, IGNORED, np.uint8)
    part[..., planes(values)] = values[..., planes(values)]
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(label).name
    nibabel.save(nibabel.Nifti1Image(part, file.affine), target)
    return str(target)


def spread_out(label: Label, number: int) -> list[int]:
    """A plane of the lower and one of the upper half, others in each volume.

    >>> [spread_out(np.zeros((1, 1, 20)), k) for k in range(4)]
    [[0, 10], [6, 16], [2, 12], [8, 18]]
    """
    half, share = label.shape[2] / 2, (number * GOLDEN) % 1
    return [int(share * half), int((1 + share) * half)]


def inside(label: Label, number: int) -> list[int]:
    """A third and two thirds along the planes that hold the object.

    >>> inside(np.repeat([0, 1, 0], [3, 7, 5])[None, None], 0)
    [5, 7]
    """
    held = np.flatnonzero((np.asarray(label) > 0).any(axis=(0, 1)))
    return [int(held[round(share * (len(held) - 1))]) for share in (1 / 3, 2 / 3)]


def table(found: Sequence[Row]) -> str:
    """Markdown: the Dice of each, over seeds, and the share of the first that others reach."""
    head = ["minutes", "labels", "seeds", "Dice", f"of {ALL}", f"at least {WANTED:.0%}"]
    lines = []
    for minutes in sorted({row["minutes"] for row in found}):
        dice = {
            kind: [row["scores"]["Dice"] for row in found if _is(row, kind, minutes)]
            for kind in (ALL, TWO, INSIDE)
        }
        for kind, values in dice.items():
            if values and dice[ALL]:
                share = mean(values) / mean(dice[ALL])
                said = "yes" if share >= WANTED else "**no**"
                compared = ["", ""] if kind == ALL else [f"{share:.1%}", said]
                cells = [str(len(values)), words(values), *compared]
                lines.append([f"{minutes:g}", kind, *cells])
    return markdown(head, lines)


def _is(row: Mapping[str, object], kind: str, minutes: float) -> bool:
    return row["labels"] == kind and row["minutes"] == minutes


def _keys(options: argparse.Namespace) -> Iterator[Row]:
    for seed in options.seeds:
        for kind in options.labels:
            yield {"labels": kind, "minutes": options.minutes, "seed": seed}


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
