"""Train and score on real images, end to end through the `unet-med` command.

    python benchmarks/real_data.py isbi          # V_Rand of slices 20-23 (figure: >= 0.95)
    python benchmarks/real_data.py hippocampus   # mean Dice of held-out volumes
    python benchmarks/real_data.py usiigaci      # SEG of a held-out phase-contrast image
    python benchmarks/real_data.py cells         # generated cells with and without border weights

Reads the images in place, from `../shared/data` or `--data`; writes everything
under `--output`. Close other work: the budgets are minutes on the wall clock.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from unet_med.bundle import copy_bundle
from unet_med.cli import demo, main

FEATURES = ["--features", "16", "32", "64", "128", "256"]


def isbi(data: Path, output: Path, options: list[str]) -> None:
    """ISBI 2012: train on slices 0-19, score slices 20-23."""
    root = data / "isbi2012"
    pairs = [
        {"image": f"{root}/image/{k}.png", "label": f"{root}/label/{k}.png"} for k in range(24)
    ]
    train(pairs[:20], output, ["--minutes", "8", *FEATURES, *options])
    predict(pairs[20:], output, ["--probabilities"])
    evaluate(pairs[20:], output)


def hippocampus(data: Path, output: Path, options: list[str]) -> None:
    """MSD hippocampus: 3-D, three classes; every fifth volume is held out."""
    root = data / "msd-hippocampus"
    names = sorted(path.name for path in (root / "images").iterdir())
    pairs = [{"image": f"{root}/images/{n}", "label": f"{root}/labels/{n}"} for n in names]
    held_out = pairs[::5]
    train([p for p in pairs if p not in held_out], output, ["--minutes", "8", *options])
    predict(held_out, output, [])
    evaluate(held_out, output)


def usiigaci(data: Path, output: Path, options: list[str]) -> None:
    """Phase-contrast cells, 16 bit: the last set is held out."""
    folders = sorted((data / "usiigaci-t98g" / "train").iterdir())
    pairs = [{"image": f"{f}/raw.tif", "label": f"{f}/instances_ids.png"} for f in folders]
    train(pairs[:-1], output, ["--minutes", "8", *FEATURES, *options])
    predict(pairs[-1:], output, ["--instances"])
    truth = pairs[-1]["label"]
    run("evaluate", f"{output}/results/raw_instances.tif", truth, "--label-kind", "instances")


def cells(data: Path, output: Path, options: list[str]) -> None:
    """Generated cells as in the demo: mean SEG with the border weights and without them."""
    for w0 in (10.0, 0.0):
        folder = copy_bundle(output / f"w0={w0:g}")
        test = demo.generate(output / "data", seed=0)[:-1]  # the images, not the volume
        demo.train(folder, output / "data", {"minutes": 2.0, "seed": 0, "w0": w0})
        demo.predict(folder, [image for image, _ in test], folder / "results")
        scores = [demo.instance_scores(label, folder / "results")["SEG"] for _, label in test]
        print(f"w0 = {w0:g}: mean SEG {sum(scores) / len(scores):.4f}", flush=True)


def train(pairs: list[dict[str, str]], output: Path, options: list[str]) -> None:
    """Write a data list and run `unet-med train` on it."""
    output.mkdir(parents=True, exist_ok=True)
    listing = output / "train.json"
    listing.write_text(json.dumps({"training": pairs}, indent=2))
    run("train", "--images", str(listing), "--output", str(output / "bundle"), *options)


def predict(pairs: list[dict[str, str]], output: Path, options: list[str]) -> None:
    """Run `unet-med predict` on the images."""
    listing = output / "test.json"
    listing.write_text(json.dumps({"testing": pairs}, indent=2))
    where = ["--bundle", str(output / "bundle"), "--output", str(output / "results")]
    run("predict", str(listing), *where, *options)


def evaluate(pairs: list[dict[str, str]], output: Path) -> None:
    """Run `unet-med evaluate` against the labels."""
    truth = output / "truth.json"
    truth.write_text(json.dumps({"testing": pairs}))
    run("evaluate", str(output / "results"), str(truth), "--output", str(output / "scores.json"))


def run(*words: str) -> None:
    """Run one command and stop at the first that fails."""
    print("$ unet-med " + " ".join(words), flush=True)
    code = main(words)
    if code:
        raise SystemExit(code)


if __name__ == "__main__":
    subjects = {f.__name__: f for f in (isbi, hippocampus, usiigaci, cells)}
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subject", choices=subjects)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path("runs"))
    arguments, rest = parser.parse_known_args()
    subjects[arguments.subject](arguments.data.resolve(), arguments.output, rest)
