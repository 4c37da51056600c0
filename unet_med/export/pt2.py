"""PT2: torch's own format for a graph, which `torch.export.load` reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from unet_med.data.atomic import atomic_write
from unet_med.export.card import CARD, card_of
from unet_med.export.graphs import TOLERANCE, Graph, beside, disagreement, graphs_of
from unet_med.export.trained import by_image, load_trained
from unet_med.geometry import PerAxis

# Runs where nothing of the package can be imported, as at whoever is given the file.
_ALONE = """
import sys
sys.modules["unet_med"] = sys.modules["monai"] = None
import torch
torch.set_grad_enabled(False)
run = torch.export.load(sys.argv[1]).module()
cases = torch.load(sys.argv[2], weights_only=True)
found = [run(*case) for case in cases]
torch.save([[x] if torch.is_tensor(x) else list(x) for x in found], sys.argv[3])
"""


def export_pt2(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
    statistics: str | None = None,
) -> Path:
    """Write the network of a trained bundle with `torch.export`, and read it back by itself.

    Args:
        bundle: folder of a trained bundle.
        path: file to write; None: `models/model.pt2` of the bundle.
        trust: run also what unet-med's own bundle does not name.
        statistics: of batch normalisation: `"image"`, `"training"`, or None as the bundle has it.

    Returns:
        The file, which maps standardised images `(B, C, X, Y[, Z])` to logits; other sides than
        the network takes raise. Where batch normalisation has the statistics of each image, its
        further inputs are `mean` and `variance`, which the file `NAME.statistics.pt2` finds.

    Raises:
        ValueError: it is no trained bundle, or a process without this package computes something
            else from the file.
    """
    trained = load_trained(bundle, trust=trust)
    own = by_image(trained, statistics)
    path = trained.file("model.pt2", path)
    card = json.dumps(card_of(trained, by_image=own), indent=1)
    for part, graph in graphs_of(trained, by_image=own).items():
        with atomic_write(beside(path, part)) as unseen:
            _write(
                graph, unseen, card, stride=trained.tiling.stride, smallest=trained.tiling.smallest
            )
            _check(graph, unseen)
    return path


def _write(graph: Graph, path: Path, card: str, *, stride: PerAxis, smallest: PerAxis) -> None:
    shapes = graph.open_sides(stride=stride, smallest=smallest)
    with torch.no_grad():
        program = torch.export.export(graph.module, graph.cases[0], dynamic_shapes=shapes)
    program.example_inputs = None  # with an example torch checks less: it takes illegal sides
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={CARD: card})


def _check(graph: Graph, path: Path) -> None:
    """Compare a file with torch, in a process that has torch and nothing of this package."""
    with tempfile.TemporaryDirectory() as scratch:
        cases, results = Path(scratch) / "cases.pt", Path(scratch) / "results.pt"
        torch.save(graph.cases, cases)
        command = [sys.executable, "-c", _ALONE, *map(str, (path.absolute(), cases, results))]
        done = subprocess.run(
            command, cwd=scratch, capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:]
            raise ValueError(f"a process without unet-med cannot run the file: {''.join(last)}")
        found = torch.load(results, weights_only=True)
    for case, result in zip(graph.cases, found, strict=True):
        error = disagreement(result, graph.expected(case))
        if not error <= TOLERANCE:
            raise ValueError(
                f"the exported file differs from the network by {error:.1e} of the largest value, "
                f"more than {TOLERANCE:g}: try another version of torch"
            )
