"""Score against the number of training images, and what five more would buy.

    python workflows/learning_curve.py --steps 300 --seeds 0 1 2
    python workflows/learning_curve.py --images data/images --labels data/labels

The preset `modern`, equally many steps for each number of images. By default slices 0-19 of
ISBI 2012 train, as in `reproduce_isbi2012.py`, and slices 20-23 are scored; of images of your
own, whose labels must be masks, every fifth is scored. Where a score is s, its error 1 - s mostly
falls as a power of the number of images, a n^-b, which is fitted (`unet_med.metrics.PowerLaw`)
and carried on. For a bundle of your own, with an interval: `unet-med train --learning-curve`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import experiment
import numpy as np
from reproduce_isbi2012 import HELD_OUT, TRAINING, pairs, scores, variants

from unet_med.data import find_pairs, split_validation
from unet_med.metrics import PowerLaw

COUNTS = {"1 image": 1, "2 images": 2, "5 images": 5, "10 images": 10, "20 images": 20}
MORE = 5  # images that one thinks of annotating
LEAST = 1e-6  # of an error that is drawn: 0 has no logarithm
BUDGET, SEEDS = experiment.Budget.of_steps(300), (0, 1, 2)
SCORES = ("V_Rand", "V_Info")
VARIANT: dict[str, Any] = {"preset": "modern", "label_kind": "mask"}


def verdict(name: str, points: dict[int, float], more: int = MORE) -> str:
    """One sentence: what the curve says `more` images would add to a score.

    Args:
        name: of the score.
        points: number of images to mean score.
        more: images.
    """
    counts, errors = list(points), [1 - score for score in points.values()]
    law = PowerLaw.fit(counts, errors)
    last = max(counts)
    gain = law(last) - law(last + more)
    # How far the answer depends on any one size: fits that leave one of them out.
    others = []
    for left_out in range(len(counts)) if len(counts) > 2 else ():
        kept = [k for k in range(len(counts)) if k != left_out]
        law_k = PowerLaw.fit([counts[k] for k in kept], [errors[k] for k in kept])
        others.append(law_k(last) - law_k(last + more))
    spread = f" ({min(others):+.4f} to {max(others):+.4f} with one size left out)" if others else ""
    return (
        f"{name}: error {law.scale:.3f} n^{-law.power:.2f}; "
        f"{more} images more than {last} would add {gain:+.4f}{spread}."
    )


def means(table: experiment.Table, score: str) -> dict[int, float]:
    """Number of images to the mean score over the seeds."""
    return {COUNTS[row["name"]]: row[score] for row in table.summary()}


def curve_picture(table: experiment.Table, path: Path) -> Path:
    """Error against images on two logarithmic axes: trainings, means, and the fit carried on."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullLocator

    from unet_med.report.saving import save

    figure = Figure((5 * len(SCORES), 4), layout="constrained")
    for axes, score in zip(figure.subplots(1, len(SCORES), squeeze=False)[0], SCORES, strict=True):
        points = means(table, score)
        counts = [COUNTS[row["name"]] for row in table.rows]
        axes.plot(counts, [1 - float(row[score]) for row in table.rows], "o", ms=4, alpha=0.4)
        axes.plot(list(points), [1 - s for s in points.values()], "ks", label="mean of seeds")
        law = PowerLaw.fit(list(points), [1 - s for s in points.values()])
        n = np.geomspace(min(points), max(points) + MORE, 50)
        axes.plot(n, np.maximum(law(n), LEAST), "k:", label=f"{law.scale:.2g} n^{-law.power:.2f}")
        axes.set(xscale="log", yscale="log", xlabel="training images", ylabel=f"1 - {score}")
        axes.set_xticks(list(points), [str(n) for n in points])
        axes.xaxis.set_minor_locator(NullLocator())  # y keeps its own: errors span no decade
        axes.legend()
    return save(figure, path)


def main(
    argv: Sequence[str] | None = None,
    *,
    training: Sequence[int] = TRAINING,
    held_out: Sequence[int] = HELD_OUT,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Run the experiment; slices and changes of the training are arguments for a small test."""
    parser = experiment.parser(__doc__, COUNTS, output="runs/curve", budget=BUDGET, seeds=SEEDS)
    parser.add_argument("--images", help="folder of images of your own")
    parser.add_argument("--labels", help="folder of their masks")
    args = parser.parse_args(argv)
    items, scored = pairs(args.data, training), pairs(args.data, held_out)
    variant = {**VARIANT, **variants(args.features)["modern"], **changes}
    if args.images:
        items, scored = split_validation(find_pairs(args.images, args.labels, stacks=True), 0.2)
        variant = {**VARIANT, "features": args.features, **changes}
    table = experiment.Table(args.output, "Score against the number of training images")
    possible = [name for name, count in COUNTS.items() if count <= len(items)]
    for name, key, folder in experiment.jobs(table, args, possible):
        some = items[: COUNTS[name]]
        trained = experiment.train(folder, some, variant, args=args, seed=key["seed"])
        if trained is None:
            continue  # it diverged: it has no row
        truths = [experiment.pixels(item, "label") > 0 for item in scored]  # (Y, X)
        found = [trained.foreground(trained.load(item)["image"]) for item in scored]
        picture = args.output / "pictures" / f"{folder.name}.png"
        image = experiment.pixels(scored[0], "image")
        experiment.probability_picture(image, truths[0], found[0], picture)
        table.add(
            [{**key, **scores(found, truths), "steps": trained.steps, "seconds": trained.seconds}]
        )
    if len(table.summary()) > 1:  # two points make a line
        curve_picture(table, args.output / "learning_curve.png")
        for score in SCORES:
            print(verdict(score, means(table, score)))


if __name__ == "__main__":
    main()
