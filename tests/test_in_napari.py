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
from unet_med import bundle
from unet_med.cli import main
from unet_med.data import SyntheticCells, load_image

MANIFEST = Path(unet_med.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was trained for a moment, beside its images."""
    root = tmp_path_factory.mktemp("napari")
    SyntheticCells(2, (72, 60), num_cells=6).write(root)
    folder = bundle.copy_bundle(root / "bundle")
    settings = {"images": f"{root}/images", "labels": f"{root}/labels", "features": [4, 8, 16]}
    settings |= {"label_kind": "instances", "tile_size": 60, "epochs": 3, "num_workers": 0}
    modern = bundle.override_file("modern")
    assert modern is not None
    bundle.write_settings(folder, [modern], {**settings, "tiles_per_epoch": 8})
    bundle.load_workflow(folder, "train").run()
    words = ["--bundle", str(folder), "--output", str(root / "results"), "--instances"]
    assert main(["predict", str(root / "images"), *words]) == 0
    return root


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


def test_the_widget_adds_labels_that_lie_on_the_image(trained: Path, application: Any) -> None:
    from magicgui import magicgui
    from napari.components import ViewerModel
    from napari.layers import Image

    from unet_med.napari_widget import segment_widget

    pixels = load_image(trained / "images/cells_000.tif").numpy()[0].T  # (Y, X)
    place: Any = {"scale": (0.5, 0.25), "translate": (3, 4), "units": ("um", "um")}
    image = Image(pixels, name="cells", **place)
    form = magicgui(segment_widget)
    assert form.bundle.mode.name == "EXISTING_DIRECTORY"
    worker = segment_widget(image, trained / "bundle")
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
    want = load_image(trained / "results/cells_000_instances.tif").numpy()[0].T
    np.testing.assert_array_equal(layer.data, want)
    np.testing.assert_array_equal(layer.scale, image.scale)
    np.testing.assert_array_equal(layer.translate, image.translate)
    assert layer.units == image.units
    np.testing.assert_array_equal(layer.extent.world, image.extent.world)
