"""The widget inside napari, without a screen: `make napari` runs this; elsewhere it skips."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari", reason="napari is no part of the tests' group; make napari")

import unet_med
from unet_med.cli import main
from unet_med.data import load_image

MANIFEST = Path(unet_med.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, trained: Path, cells: Path) -> Path:
    """What `predict` makes of the cells."""
    output = tmp_path_factory.mktemp("results")
    words = ["--bundle", str(trained), "--output", str(output), "--instances"]
    assert main(["predict", str(cells / "images"), *words]) == 0
    return output


@pytest.fixture(scope="module")
def application() -> Any:
    from qtpy.QtWidgets import QApplication

    return QApplication.instance() or QApplication([])


def test_napari_finds_the_widget() -> None:
    import npe2

    manager = npe2.PluginManager.instance()
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    (widget,) = (w for w in manager.iter_widgets() if w.command == "unet-med.segment")
    assert widget.display_name == "U-Net segmentation"
    assert callable(widget.get_callable())


def test_the_widget_adds_labels_that_lie_on_the_image(
    trained: Path, cells: Path, results: Path, application: Any
) -> None:
    from magicgui import magicgui
    from napari.components import ViewerModel
    from napari.layers import Image

    from unet_med.napari_widget import segment_widget

    pixels = load_image(cells / "images/cells_000.tif").numpy()[0].T  # (Y, X)
    place: Any = {"scale": (0.5, 0.25), "translate": (3, 4), "units": ("um", "um")}
    image = Image(pixels, name="cells", **place)
    form = magicgui(segment_widget)
    assert form.bundle.mode.name == "EXISTING_DIRECTORY"
    worker = segment_widget(image, trained)
    returned: list[Any] = []
    counts: list[int] = []
    worker.returned.connect(returned.append)
    worker.yielded.connect(counts.append)
    worker.start()
    deadline = time.monotonic() + 120
    while not returned and time.monotonic() < deadline:
        application.processEvents()
        time.sleep(0.01)
    (data, meta, kind) = returned[0]
    assert counts == list(range(1, len(counts) + 1))
    assert len(counts) >= 8
    viewer = ViewerModel()
    (layer,) = viewer._add_layer_from_data(data, meta, kind)
    assert type(layer).__name__ == "Labels"
    want = load_image(results / "cells_000_instances.tif").numpy()[0].T
    np.testing.assert_array_equal(layer.data, want)
    np.testing.assert_array_equal(layer.scale, image.scale)
    np.testing.assert_array_equal(layer.translate, image.translate)
    assert layer.units == image.units
    np.testing.assert_array_equal(layer.extent.world, image.extent.world)
