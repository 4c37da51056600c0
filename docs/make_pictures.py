"""Make docs/images/report.png: an image of the page of `unet-med report`, with known errors.

    python -m docs.make_pictures

Nothing is trained: two cells are merged, one is split, one is lost and one invented by hand.
Needs Chromium (`chromium` or `google-chrome`) for the screenshot.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from unet_med import data
from unet_med.instances import ridge
from unet_med.report import html_report
from unet_med.report.prediction import PredictionRecord
from unet_med.scoring import evaluate

IMAGES = Path(__file__).resolve().parent / "images"
SIZE = (1120, 920)  # px
FIRST = """<style>
  main > :not(:has(#image-1)), section > :not(#image-1) { display: none }
  body, section { background: white; border: 0; padding: 0; margin: 0 }
  main, article { border: 0; padding: 4px; margin: 0 }
</style>"""


def spoiled(truth: np.ndarray) -> np.ndarray:
    """Instances `(X, Y)` with one error of each kind."""
    result = truth.copy()
    pairs = np.argwhere(ridge(truth))
    x, y = pairs[len(pairs) // 2]  # between two cells that touch
    near = np.unique(truth[x - 2 : x + 3, y - 2 : y + 3])
    first, second = near[near > 0][:2]
    result[result == second] = first
    whole = [n for n in range(1, truth.max() + 1) if n not in (first, second)]
    middle = int(np.median(np.argwhere(truth == whole[3])[:, 0]))
    result[:middle][result[:middle] == whole[3]] = truth.max() + 1
    result[truth == whole[7]] = 0
    free = np.argwhere(truth == 0)
    x, y = free[len(free) // 3]
    result[x - 7 : x + 8, y - 7 : y + 8][truth[x - 7 : x + 8, y - 7 : y + 8] == 0] = truth.max() + 2
    return result


def make_results(folder: Path) -> Path:
    """Six generated images, as many as an interval needs, and what a network might make of them."""
    pairs = data.SyntheticCells(6, (256, 256), num_cells=36, seed=4).write(folder / "cells")
    results = folder / "cells" / "results"
    weights = folder / "bundle" / "models" / "model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"no network: the errors are made by hand")
    record = PredictionRecord(results, weights, {"label_kind": "instances"})
    state = SimpleNamespace(device="cpu", output=None)
    engine: Any = SimpleNamespace(state=state)
    record._start(engine)
    for image, label in pairs:
        truth = data.load_image(label)
        found = spoiled(truth.numpy()[0].astype(np.int32))
        data.save_image(results / f"{data.stem(image)}_instances.tif", found[None], truth.affine)
        state.output = [{"image": data.load_image(image)}]
        record._keep(engine)
    record._write(engine)
    return results


def first_image(page: Path) -> Path:
    """The same page with nothing but the image that it shows first."""
    alone = page.with_name("first.html")
    text = page.read_text(encoding="utf-8").replace("</head>", f"{FIRST}</head>")
    alone.write_text(text, encoding="utf-8")
    return alone


def screenshot(page: Path, picture: Path, size: tuple[int, int]) -> None:
    """What a headless browser shows of a page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise FileNotFoundError("no chromium or google-chrome: install one to make this picture")
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    window = f"--window-size={size[0]},{size[1]}"
    target = [f"--screenshot={picture}", page.absolute().as_uri()]
    subprocess.run([browser, *options, window, *target], check=True, capture_output=True)


def main() -> None:
    """Write the pictures and name them."""
    with tempfile.TemporaryDirectory() as folder:
        results = make_results(Path(folder))
        scores = evaluate(results, f"{folder}/cells/labels").documented()
        page = html_report(results, scores=scores)
        screenshot(first_image(page), IMAGES / "report.png", SIZE)
        print("written  docs/images/report.png")


if __name__ == "__main__":
    main()
