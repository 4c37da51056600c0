"""What the experiments share: train a variant, predict, keep a table, draw a picture.

A variant is a dictionary of ids of `configs/train.json` with new values. Each training leaves
a bundle of its own, which `unet-med predict --bundle` takes, and sees the training images
alone: what is held out decides nothing but the scores.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import monai
import numpy as np
import torch
from monai.transforms import Compose, Invertd, LoadImaged
from numpy.typing import NDArray

import unet_med
from unet_med import bundle
from unet_med.data import AutoReader
from unet_med.data.atomic import atomic_write
from unet_med.devices import choose, seen
from unet_med.errors import user_error
from unet_med.transforms import SelectSliced, compose

Item = dict[str, Any]  # of a MONAI data list: paths of image and label
Row = dict[str, Any]

COMMON: dict[str, Any] = {"val_interval": 1_000_000}  # no time for validation
FEATURES = [16, 32, 64, 128, 256]  # of the small networks that learn on two cores


def parser(
    doc: str | None, names: Iterable[str], *, output: str, budget: Budget, seeds: Sequence[int]
) -> argparse.ArgumentParser:
    """The options that all experiments have."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--data", type=Path, default=Path("../shared/data"))
    options.add_argument("--output", type=Path, default=Path(output))
    limit = options.add_mutually_exclusive_group()
    limit.add_argument("--minutes", type=Budget.of_minutes, dest="budget", help="of each training")
    limit.add_argument("--steps", type=Budget.of_steps, dest="budget", help="of each training")
    options.set_defaults(budget=budget)
    options.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    options.add_argument("--only", nargs="+", metavar="NAME", choices=list(names))
    options.add_argument("--features", type=int, nargs="+", default=FEATURES, help="channels")
    options.add_argument("--device", default=str(choose().device))
    options.add_argument("--num-workers", type=int, default=None, help="that load the tiles")
    return options


@dataclass(frozen=True)
class Budget:
    """How long a training lasts.

    Equal minutes ask what a machine's time is best spent on; equal steps ask for the better
    step, and give the same answer on a busy machine.
    """

    amount: float
    unit: str

    @classmethod
    def of_minutes(cls, minutes: float | str) -> Budget:
        """On the wall clock."""
        return cls(float(minutes), "min")

    @classmethod
    def of_steps(cls, steps: int | str) -> Budget:
        """Of the optimiser."""
        return cls(int(steps), "steps")

    def __str__(self) -> str:
        return f"{self.amount:g} {self.unit}"

    def settings(self) -> Row:
        """Ids of `configs/train.json`."""
        if self.unit == "min":
            return {
                "epochs": 1_000_000,  # the minutes end the training
                "tiles_per_epoch": 1024,  # a checkpoint an epoch
                "minutes": self.amount,
            }
        return {
            "epochs": 1,
            "tiles_per_epoch": 1_000_000,  # the steps end the training
            "train::trainer::epoch_length": int(self.amount),
        }


@dataclass(frozen=True)
class Trained:
    """A network after its training.

    Attributes:
        network: the last network.
        inferer: the variant's own, id `validate::inferer`.
        load: the variant's own reading, id `load`: paths to `{"image": (C, X, Y), "label"}`.
        steps: of the optimiser.
        seconds: of training, on the wall clock.
        device: where the network is.
    """

    network: torch.nn.Module
    inferer: Any
    load: Compose
    steps: int
    seconds: float
    device: str = "cpu"

    def logits(self, image: torch.Tensor, averaging: str = "none") -> torch.Tensor:
        """Logits `(K, X, Y)` of an image `(C, X, Y)`, averaged over its flips or rotations."""
        inferer = copy.copy(self.inferer)
        inferer.tta = None if averaging == "none" else averaging
        batch = torch.as_tensor(image)[None].to(self.device)  # (1, C, X, Y)
        self.network.eval()
        with torch.no_grad():
            return inferer(batch, self.network)[0].cpu()

    def foreground(self, image: torch.Tensor, averaging: str = "none") -> NDArray[np.float32]:
        """Probability of foreground on the file's own pixels, `(Y, X)`: not MONAI's order."""
        found = {"image": image, "pred": self.logits(image, averaging).softmax(dim=0)}  # (K, X, Y)
        if getattr(image, "applied_operations", None):  # it was brought to another pixel size
            found = Invertd("pred", self.load, "image", nearest_interp=False)(found)
        return np.asarray(found["pred"][1]).T


def train(
    folder: Path, items: list[Item], variant: Row, *, args: argparse.Namespace, seed: int
) -> Trained | None:
    """Train a variant from scratch and leave its bundle in `folder`.

    Args:
        folder: what is in it is removed.
        items: images and labels to train on.
        variant: ids of `configs/train.json`.
        args: of `parser`; budget, device and workers.
        seed: of the training.

    Returns:
        The trained network, or None where the training diverged.
    """
    shutil.rmtree(folder, ignore_errors=True)  # of a training that was interrupted
    root = bundle.copy_bundle(folder.absolute())
    settings = {**COMMON, **args.budget.settings(), "device": f"$torch.device('{args.device}')"}
    if args.num_workers is not None:
        settings["num_workers"] = args.num_workers
    settings |= {"split": [items, items[:1]], "seed": seed, **variant}
    preset = bundle.override_file(variant.get("preset", ""))
    bundle.write_settings(root, [preset] if preset else [], settings)
    workflow = bundle.load_workflow(root, "train")
    try:
        workflow.run()
    except RuntimeError as error:  # MONAI's, around ours
        if not isinstance(diverged := user_error(error), FloatingPointError):
            raise
        print(f"{folder.name} diverged: {diverged}", flush=True)
        return None
    part = workflow.parser.get_parsed_content
    return Trained(
        network=part("network"),
        inferer=part("validate::inferer"),
        load=compose([part("load")]),
        steps=part("train::trainer").state.iteration,
        seconds=round(60 * part("budget").elapsed_minutes, 1),
        device=args.device,
    )


def pixels(item: Item, key: str) -> NDArray[np.float32]:
    """First channel of a file, or of the slice of it that `item` means, `(Y, X)`.

    What a network gets may have other pixels; see `Trained.load`.
    """
    load = LoadImaged(key, reader=AutoReader, ensure_channel_first=True)
    return np.asarray(SelectSliced(key)(load(item))[key][0]).T


class Table:
    """`table.csv`, `summary.csv` and `table.md`, renewed after every training.

    Columns up to `seed` say what a row is; those behind it are numbers, whose mean and sample
    standard deviation over the seeds make the summary.

    Args:
        folder: where the three files are; rows that a former run left there are kept.
        title: heading of the Markdown page.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title
        self.rows: list[dict[str, str]] = []
        if (folder / "table.csv").is_file():
            with (folder / "table.csv").open(newline="", encoding="utf-8") as file:
                self.rows = list(csv.DictReader(file))

    def has(self, key: Row) -> bool:
        """Whether there is a row of these values already."""
        return any(all(row.get(k) == str(v) for k, v in key.items()) for row in self.rows)

    def add(self, rows: Iterable[Row]) -> None:
        """Append the rows of one training, and renew the files."""
        new = [{k: str(v) for k, v in row.items()} for row in rows]
        self.rows += new
        _write_csv(self.folder / "table.csv", self.rows)
        _write_csv(self.folder / "summary.csv", self.summary())
        with atomic_write(self.folder / "table.md") as page:
            page.write_text(self._markdown(), encoding="utf-8")
        print(_markdown_table(new), flush=True)

    def summary(self) -> list[Row]:
        """A row for all seeds: their number, mean and spread (`sd`, empty for one seed)."""
        columns = list(self.rows[0])
        seed = columns.index("seed")
        names, numbers = columns[:seed], columns[seed + 1 :]
        groups: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in self.rows:
            groups.setdefault(tuple(row[n] for n in names), []).append(row)
        summary = []
        for name, rows in groups.items():
            line: Row = {**dict(zip(names, name, strict=True)), "seeds": len(rows)}
            for n in numbers:
                values = [float(row[n]) for row in rows]
                line |= {n: mean(values), f"{n} sd": stdev(values) if len(values) > 1 else ""}
            summary.append(line)
        return summary

    def _markdown(self) -> str:
        parts = [f"# {self.title}", "Mean and standard deviation over the seeds:"]
        parts += [_markdown_table([_spread(row) for row in self.summary()])]
        parts += ["Every training:", _markdown_table(self.rows), provenance()]
        return "\n\n".join(parts) + "\n"


def jobs(
    table: Table, args: argparse.Namespace, names: Iterable[str], **more: Any
) -> Iterator[tuple[str, Row, Path]]:
    """What is still to be trained: name, the columns that say so, and a folder for it.

    Args:
        table: trainings that it has already are left out.
        args: of `parser`.
        names: variants.
        **more: further columns.
    """
    for seed in args.seeds:
        for name in names:
            key = {"name": name, **more, "device": args.device, "budget": args.budget, "seed": seed}
            if (not args.only or name in args.only) and not table.has(key):
                folder = "-".join(map(str, key.values())).replace(" ", "_")
                yield name, key, args.output / "trainings" / folder


def provenance() -> str:
    """One line: date, machine, versions, command."""
    gpu = "; ".join(seen()) or "no GPU"
    packages = [f"{p.__name__} {p.__version__}" for p in (unet_med, monai, torch, np)]
    machine = f"{os.cpu_count()} cores ({platform.machine()}), {gpu}"
    command = " ".join(["python", *sys.argv])
    return f"{date.today()}; {machine}; {', '.join(packages)}; `{command}`"


def probability_picture(
    image: NDArray[Any], truth: NDArray[Any], probability: NDArray[Any], path: Path
) -> Path:
    """Image, truth, probability, and where they differ, all `(Y, X)`, side by side."""
    from matplotlib.figure import Figure

    from unet_med.report.saving import save

    figure = Figure((16, 4.4), layout="constrained")
    panels = {"image": image, "truth": truth, "probability": probability}
    panels["difference"] = np.abs(probability - truth)
    for axes, (title, panel) in zip(figure.subplots(1, 4), panels.items(), strict=True):
        limits = {} if title == "image" else {"vmin": 0, "vmax": 1}
        colours = "inferno" if title == "difference" else "gray"
        axes.imshow(panel, cmap=colours, interpolation="nearest", **limits)
        axes.set(title=title, xticks=[], yticks=[])
    return save(figure, path)


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with atomic_write(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _spread(row: Row) -> Row:
    """`mean ± sd` in one cell."""
    cells = {}
    for name, value in row.items():
        if not name.endswith(" sd"):
            sd = row.get(f"{name} sd", "")
            cells[name] = f"{_cell(value)} ± {_cell(sd)}" if sd != "" else value
    return cells


def _markdown_table(rows: Sequence[Row]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Scores with four decimals, seconds with one; whole numbers and words as they are."""
    try:
        number = float(value)
    except ValueError:
        return str(value)
    if number.is_integer():
        return f"{number:.0f}"
    return f"{number:.4f}" if abs(number) < 10 else f"{number:.1f}"
