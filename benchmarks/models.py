"""Make the model that comes with the wheel: train it by the plan, pack it, score it, describe it.

    python -m benchmarks.models --data ../shared/data --minutes 50

The network of a CPU's plan has 1.9 million weights, 7.8 MB as they were trained, in 32 bits: so
they are packed as they are, and predict to the bit what the trained bundle does. What is written
replaces `unet_med/models/nuclei`, once all of it is there: configs, weights, and the model card
with the scores of the packed weights on images that nothing was trained on or chosen by.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.model_card import model_card
from benchmarks.quality_sets import NUCLEI_TEST, bowl_nuclei
from unet_med import bundle
from unet_med.bundle.models import MODELS
from unet_med.cli import main as unet_med
from unet_med.networks import read_weights

NAME = "nuclei"
MOST_BYTES = 10_000_000  # of the weights, which are tracked and part of every wheel
CONFIGS = ("metadata", "train", "inference", "evaluate", "plan", "split")
IN_BUNDLE = "$@bundle_root + '/models/model.safetensors'"


def main(words: Sequence[str] | None = None) -> None:
    """Make the model anew, and say where it is."""
    options = _parser().parse_args(words)
    data, work = options.data.resolve(), options.work
    begun = time.monotonic()
    shutil.rmtree(work, ignore_errors=True)
    prepare(data, work / "data")
    places = ["--images", f"{work}/data/images", "--labels", f"{work}/data/labels"]
    budget = ["--minutes", f"{options.minutes:g}", "--device", "cpu", "--label-kind", "instances"]
    _run("train", *places, *budget, "--output", f"{work}/trained")
    packed = pack(work / "trained", work / NAME)
    test = data / NUCLEI_TEST
    place = ["--bundle", str(packed), "--output", f"{work}/results", "--device", "cpu"]
    _run("predict", str(test / "images"), *place, "--instances")
    card = model_card(packed, work / "results", test)
    (packed / "docs" / "README.md").write_text(card, encoding="utf-8")
    install(packed, options.output)
    minutes = (time.monotonic() - begun) / 60
    print(f"{card}\n{options.output}: made in {minutes:.1f} minutes")


def prepare(data: Path, folder: Path) -> None:
    """Write images and labels to train on: all that are not kept for the score."""
    kept = {path.stem for path in (data / NUCLEI_TEST / "images").iterdir()}
    for pair in bowl_nuclei(data, folder):
        if Path(pair["image"]).stem in kept:
            Path(pair["image"]).unlink()
            Path(pair["label"]).unlink()


def pack(trained: Path, folder: Path) -> Path:
    """What a prediction, a report and `--from` need of a trained bundle, and no more.

    Raises:
        ValueError: the weights are too large for a wheel.
    """
    for part in ("configs", "models", "docs"):
        (folder / part).mkdir(parents=True)
    for name in CONFIGS:
        shutil.copy(trained / "configs" / f"{name}.json", folder / "configs")
    shutil.copy(trained / "configs" / "logging.conf", folder / "configs")
    for name in ("training.json", "learning_curve.csv"):
        shutil.copy(trained / "models" / name, folder / "models")
    shutil.copy(trained / "LICENSE", folder)
    weights = folder / "models" / "model.safetensors"
    save_file(read_weights(bundle.find_weights(trained)), weights)
    weights.chmod(0o644)  # safetensors makes it its owner's alone
    if (size := weights.stat().st_size) > MOST_BYTES:
        raise ValueError(
            f"{weights} has {size} bytes, and a wheel takes {MOST_BYTES}: train the network of a "
            "CPU's plan (--device cpu)"
        )
    bundle.write_settings(folder, [], {"checkpoint": IN_BUNDLE}, reason="where its weights lie")
    for name in ("plan", "split"):  # a line, not fifty an image
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content, separators=(",", ":")) + "\n", encoding="utf-8")
    return folder


def install(packed: Path, output: Path) -> None:
    """Put a packed bundle in the place of the one that is there."""
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    shutil.copytree(packed, beside)
    shutil.rmtree(output, ignore_errors=True)
    beside.rename(output)


def _run(*words: str) -> None:
    if code := unet_med(words):
        raise RuntimeError(f"unet-med {words[0]} ended with {code}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--work", type=Path, default=Path("runs/models"))
    parser.add_argument("--output", type=Path, default=MODELS / NAME)
    return parser


if __name__ == "__main__":
    os.environ.setdefault("MPLBACKEND", "agg")
    sys.exit(main())
