"""How good: ISBI and DSB nuclei, one seed, 90 seconds each, by the scripts of `workflows/`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from benchmarks.gpu.notes import ROOT, Notes
from unet_med.cli import main
from unet_med.data import SyntheticCells


def isbi(notes: Notes) -> None:
    """Membranes of ISBI 2012 by the paper's recipe."""
    _run(notes, "ISBI 2012", "reproduce_isbi2012.py", "paper2015", "isbi2012")


def nuclei(notes: Notes) -> None:
    """Nuclei of DSB 2018."""
    _run(notes, "DSB 2018", "reproduce_cells.py", "border-weights", "dsb2018")


def _run(notes: Notes, name: str, script: str, only: str, folder: str) -> None:
    output = notes.folder / folder
    if notes.tiny:
        SyntheticCells(3, (72, 64), num_cells=6).write(output)
        words = ["--images", f"{output}/images", "--labels", f"{output}/labels", "--epochs", "1"]
        words += ["--features", "2", "4", "8", "--tile-size", "60", "--device", "cuda"]
        words += ["--config", str(_without_workers(output))]
        notes.note(name, status=main(["train", *words, "--output", f"{output}/bundle"]))
        return
    if not (notes.data / folder).is_dir():
        notes.note(name, skipped=f"{notes.data / folder} is not here")
        return
    alone = output / "only"  # this set; scripts write into `data`
    alone.mkdir(parents=True)
    (alone / folder).symlink_to(notes.data / folder)
    words = ["--data", alone, "--only", only, "--minutes", 1.5, "--seeds", 0, "--device", "cuda"]
    words += ["--features", *notes.features, "--output", output]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    program = [sys.executable, str(ROOT / "workflows" / script)]
    notes.command(
        folder, [*program, *map(str, words)], seconds=max(60.0, notes.left), PYTHONPATH=path
    )
    scores = [path.read_text(encoding="utf-8").splitlines() for path in output.glob("table.csv")]
    notes.note(name, scores=scores[0] if scores else f"none: see {folder}.txt")


def _without_workers(folder: Path) -> Path:
    config = folder / "tiny.json"
    config.write_text('{"num_workers": 0}', encoding="utf-8")
    return config
