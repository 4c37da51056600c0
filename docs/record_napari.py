"""Play a session in napari by clicks, score it on other images, and keep pictures of the form.

    QT_QPA_PLATFORM=offscreen python -m docs.record_napari NUCLEI

NUCLEI is the folder in which `benchmarks.quality_sets` finds the Data Science Bowl 2018. Three
images are annotated, one that the network has not seen is corrected, and 12 others are scored.
The annotator is the truth. Qt has no OpenGL without a screen: what napari's canvas would show
is drawn here, with napari's own colours, to the left of the form.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.components import ViewerModel
from qtpy.QtCore import QRect, Qt
from qtpy.QtGui import QImage, QPainter, QPixmap
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from unet_med.data import load_image
from unet_med.metrics import average_precision
from unet_med.napari_widget import segment_array
from unet_med.napari_widget.form import SessionForm

IMAGES = Path(__file__).resolve().parent / "images"
CANVAS_PX = 640
WIDTH_PX = 420  # of the form
Arrays = tuple[np.ndarray, np.ndarray]  # image and truth, (Y, X)


def new_form() -> SessionForm:
    """A form beside the layers of a viewer, connected as napari connects its docks."""
    application = QApplication.instance() or QApplication([])
    viewer = ViewerModel()
    form = SessionForm(viewer)
    form.application = application
    for event in ("inserted", "removed", "reordered"):
        getattr(viewer.layers.events, event).connect(form.reset_choices)
    form.native.resize(WIDTH_PX, 1040)
    form.show()
    return form


def click(button: Any) -> None:
    """Press a button with the mouse."""
    assert button.enabled, button.text
    QTest.mouseClick(button.native, Qt.MouseButton.LeftButton)
    QApplication.processEvents()


def wait_until(fact: Callable[[], Any], seconds: float = 600) -> None:
    """Let Qt work until something holds."""
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s")
        QApplication.processEvents()
        time.sleep(0.02)


def open_session(form: SessionForm, folder: Path) -> None:
    """Choose a folder, as the file dialog would."""
    form.folder.value = folder
    click(form.open)


def annotate(form: SessionForm, name: str, pair: Arrays, **place: Any) -> None:
    """Open an image, paint its labels, add both."""
    image, truth = pair
    form.image.value = form.viewer.add_image(image, name=name, **place)
    form.painted.value = form.viewer.add_labels(truth, name=f"{name} labels", **place)
    click(form.add)


def train(form: SessionForm, button: Any, minutes: float) -> str:
    """Press *Train* or *Continue*, and wait for the end."""
    form.minutes.value = minutes
    click(button)
    wait_until(lambda: form.training is None)
    return str(form.said.value)


def correct(form: SessionForm, pair: Arrays, name: str) -> None:
    """Predict an image, and correct the result to its truth."""
    form.image.value = form.viewer.add_image(pair[0], name=name)
    click(form.predict)
    wait_until(lambda: f"{name} instances" in form.viewer.layers)
    click(form.correct)
    form.viewer.layers[f"{name} correction"].data = pair[1]


def scored(form: SessionForm, others: Sequence[Arrays]) -> float:
    """Average precision at an overlap of 0.5, pooled over images that the session has not seen."""
    bundle = form.session.bundle
    found = [segment_array(image.T[None], bundle).T for image, _ in others]
    return float(average_precision(found, [truth for _, truth in others], 0.5))


def picture(form: SessionForm, file: Path) -> None:
    """What is visible of the layers, as large as the form is high, and the form."""
    QApplication.processEvents()
    inside = form.native.widget()
    height = max(CANVAS_PX, inside.layout().totalHeightForWidth(WIDTH_PX))
    form.native.resize(WIDTH_PX, height)
    QApplication.processEvents()
    panel = form.native.grab()
    whole = QPixmap(CANVAS_PX + panel.width(), height)
    painter = QPainter(whole)
    for layer in (layer for layer in form.viewer.layers if layer.visible):
        rgba = np.ascontiguousarray(255 * _colours(layer), dtype=np.uint8)
        down, across = rgba.shape[:2]
        drawn = QImage(rgba.data, across, down, 4 * across, QImage.Format.Format_RGBA8888)
        scale = max(CANVAS_PX / across, height / down)  # it fills the canvas, as after a zoom
        sides = round(across * scale), round(down * scale)
        corner = (CANVAS_PX - sides[0]) // 2, (height - sides[1]) // 2
        painter.drawImage(QRect(*corner, *sides), drawn)
    painter.drawPixmap(CANVAS_PX, 0, panel)
    painter.end()
    whole.save(str(file))


def _colours(layer: Any) -> np.ndarray:
    """RGBA of a layer, 0 to 1."""
    data = np.asarray(layer.data)
    if hasattr(layer, "contrast_limits"):
        low, high = layer.contrast_limits
        shown = np.clip((data - low) / (high - low), 0, 1) ** 0.5  # dim nuclei, seen on paper
        colours: np.ndarray = layer.colormap.map(shown)
        return colours.reshape(*data.shape, 4)
    colours = layer.colormap.map(data) * (data > 0)[..., None]
    return colours * [1, 1, 1, 0.6]


def record(
    folder: Path,
    pool: Sequence[Arrays],
    others: Sequence[Arrays],
    *,
    minutes: tuple[float, float] = (2, 1),
    pictures: Path | None = None,
) -> tuple[float, float]:
    """Annotate three images, train, correct a fourth, continue.

    Returns:
        Scores on the other images after the training, and after it went on.
    """
    form = new_form()
    open_session(form, folder)
    form.folder.line_edit.value = folder.name  # it is open; pictures show no machine's paths
    for number in range(3):
        annotate(form, f"nuclei {number}", pool[number])
    if pictures:
        picture(form, pictures / "napari-annotate.png")
    print(train(form, form.train, minutes[0]), form.numbers.value, flush=True)
    first = scored(form, others)
    form.viewer.layers.clear()
    correct(form, pool[3], "nuclei 3")
    if pictures:
        picture(form, pictures / "napari-correct.png")
    click(form.add)
    print(form.said.value, flush=True)
    print(train(form, form.go_on, minutes[1]), form.numbers.value, flush=True)
    second = scored(form, others)
    if pictures:
        picture(form, pictures / "napari-continue.png")
    print(f"AP50 on {len(others)} other images: {first:.3f}, then {second:.3f}", flush=True)
    form.close()
    return first, second


def nuclei(data: Path, folder: Path, seed: int = 0) -> tuple[list[Arrays], list[Arrays]]:
    """Four of the 30 training images of the benchmark, drawn, and the first 12 of its test's."""
    from benchmarks.quality_sets import SETS

    train_pairs, test_pairs = SETS["nuclei"].pairs(data, folder)
    drawn = np.random.default_rng(seed).choice(len(train_pairs), 4, replace=False)
    sides = [train_pairs[k] for k in drawn], test_pairs[:12]
    pool, others = ([_arrays(pair) for pair in side] for side in sides)
    return pool, others


def _arrays(pair: dict[str, str]) -> Arrays:
    image, label = (load_image(pair[part]).numpy()[0].T for part in ("image", "label"))
    return image, label.astype(np.int32)


def main() -> None:
    """Write the pictures, and say the scores."""
    data = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        pool, others = nuclei(data, Path(folder))
        record(Path(folder, "session"), pool, others, pictures=IMAGES)


if __name__ == "__main__":
    main()
