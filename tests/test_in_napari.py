"""The widget inside napari, without a screen: `make napari` runs this; elsewhere it skips."""

from __future__ import annotations

import os
import shutil
import time
import warnings
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from skimage.io import imsave

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("napari", reason="napari is no part of the tests' group; make napari")

import unet_med
from unet_med.cli import main
from unet_med.data import SyntheticCells, load_image

MANIFEST = Path(unet_med.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def application() -> Any:
    from qtpy.QtWidgets import QApplication

    return QApplication.instance() or QApplication([])


def test_napari_finds_the_widget() -> None:
    import npe2

    manager = npe2.PluginManager.instance()
    manager.register(npe2.PluginManifest.from_file(MANIFEST))
    names = {"unet-med.segment": "U-Net segmentation", "unet-med.session": "U-Net training"}
    for command, name in names.items():
        (widget,) = (w for w in manager.iter_widgets() if w.command == command)
        assert widget.display_name == name
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


def pair(k: int) -> tuple[np.ndarray, np.ndarray]:
    """Generated image and instances, `(Y, X)`."""
    item = SyntheticCells(8, (128, 128), num_cells=10, seed=0)[k]
    image, label = (item[part].numpy()[0].T for part in ("image", "label"))
    return image, label.astype(np.int32)


def test_buttons_do_what_can_be_done(tmp_path: Path) -> None:
    from docs.record_napari import annotate, new_form, open_session

    form = new_form()
    assert not any(button.enabled for button in (form.add, form.train, form.stop, form.predict))
    open_session(form, tmp_path / "session")
    assert form.add.enabled
    assert not form.train.enabled
    place: Any = {"scale": (0.5, 0.25), "units": ("um", "um")}
    annotate(form, "day 1", pair(0), **place)
    assert form.said.value == "added day-1; 1 annotated image"
    assert form.train.enabled
    assert not form.go_on.enabled
    form.close()

    again = new_form()  # closed and reopened
    open_session(again, tmp_path / "session")
    assert again.annotated.value == "day-1"
    again.read.native.click()
    image, labels = again.viewer.layers
    np.testing.assert_allclose(image.data, pair(0)[0])
    np.testing.assert_array_equal(labels.data, pair(0)[1])
    np.testing.assert_allclose(image.scale, place["scale"])
    assert (again.image.value, again.painted.value) == (image, labels)
    labels.data[:] = 0
    again.add.native.click()
    assert list(again.session.pairs()) == ["day-1"]
    assert not load_image(again.session.pairs()["day-1"][1]).numpy().any()
    image.data = image.data[:50]
    again.add.native.click()
    assert "choose the labels that were painted on it" in again.said.value
    again.close()


def test_a_decoder_that_nobody_asked_for_is_not_missed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """napari shows warnings on its window, as MONAI's where pydicom is installed."""
    from docs.record_napari import annotate, click, new_form, open_session

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        form = new_form()
        open_session(form, tmp_path / "session")
        annotate(form, "day 1", pair(0))
        click(form.read)
        form.close()
    assert [str(each.message) for each in seen if "Codec" in str(each.message)] == []
    assert "Codec" not in capfd.readouterr().err


def test_what_labels_are_is_said_to_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docs.record_napari import annotate, click, new_form, open_session
    from unet_med.napari_widget import form as module
    from unet_med.napari_widget.training import Progress

    given: list[Any] = []

    class Running:
        is_running = True

        def __init__(self, session: Any, minutes: float, *, go_on: bool, options: Any) -> None:
            given.append(list(options))

        def progress(self) -> Progress:
            return Progress(0.5, "step 1", [], (), "labels are classes: as asked; 1 held out")

        def stop(self) -> None:
            self.is_running = False

        def finish(self) -> str:
            return "ended"

    monkeypatch.setattr(module, "Training", Running)
    (tmp_path / "session/images").mkdir(parents=True)
    (tmp_path / "session/images/.DS_Store").touch()  # as Finder leaves it
    form = new_form()
    open_session(form, tmp_path / "session")
    assert form.add.enabled
    annotate(form, "day 1", pair(0))
    for kind, words in (("auto", []), ("classes", ["--label-kind", "classes"])):
        form.kind.value = kind
        click(form.train)
        assert given[-1] == words
        form._poll()
        assert form.planned.value == "labels are classes: as asked; 1 held out"
        form.training = None
        form._show_state()
    click(form.train)
    form._poll()
    running = form.training
    assert running.is_running
    form.native.hide()  # as napari's own x does, which destroys nothing
    form._poll()
    assert not running.is_running
    assert form.said.value == "ended"
    form.close()


def test_planes_of_a_stack(tmp_path: Path) -> None:
    from docs.record_napari import annotate, new_form, open_session
    from unet_med.napari_widget.adding import PLANE, PLANES

    form = new_form()
    open_session(form, tmp_path / "session")
    image, truth = np.random.default_rng(0).random((3, 9, 8)), np.ones((3, 9, 8), np.int32)
    truth[0] = 0
    form.stack.value = PLANES
    annotate(form, "s", (image, truth))
    assert sorted(form.session.pairs()) == ["s-z001", "s-z002"]
    form.viewer.dims.set_current_step(0, 0)
    form.stack.value = PLANE
    form.add.native.click()
    assert sorted(form.session.pairs()) == ["s-z000", "s-z001", "s-z002"]
    file = form.session.pairs()["s-z000"][0]
    np.testing.assert_allclose(load_image(file).numpy()[0].T, image[0], rtol=1e-6)
    form.close()


def test_a_correction_adds_the_planes_that_were_corrected(tmp_path: Path) -> None:
    from docs.record_napari import annotate, click, new_form, open_session
    from unet_med.napari_widget.adding import PLANES

    form = new_form()
    models = tmp_path / "session/bundle/models"
    models.mkdir(parents=True)
    (models / "model.pt").touch()
    open_session(form, tmp_path / "session")
    image, found = np.random.default_rng(0).random((3, 9, 8)), np.ones((3, 9, 8), np.int32)
    annotate(form, "s", (image, found), scale=(5, 1, 1))
    assert "scale 5 x 1 x 1 (pixel, pixel, pixel) is not kept: pixel is no unit" in form.said.value
    predict(form, found)
    click(form.correct)
    form.stack.value = PLANES
    click(form.add)
    assert form.said.value.startswith("no plane was corrected")
    form.viewer.layers["s correction"].data[2] = 0
    click(form.add)
    assert form.said.value == "added s-z002; 2 annotated images"
    form.viewer.layers["s instances"].data[1, 0, 0] = 0  # painted on the result itself
    click(form.correct)
    click(form.add)
    assert form.said.value == "added s-z001; 3 annotated images"
    form.close()


def predict(form: Any, found: np.ndarray) -> None:
    """What a worker returns, for the chosen image."""
    from unet_med.napari_widget import to_layer

    image = form.image.value
    form._show_result(image, to_layer(found.T, image, "instances"))
    form._show_state()


def test_a_prediction_replaces_its_own_kind_alone(tmp_path: Path) -> None:
    """Not what somebody painted on, nor a layer of that name, nor another image's of that name."""
    from docs.record_napari import new_form, open_session

    form = new_form()
    open_session(form, tmp_path / "session")
    layers = form.viewer.layers
    first = form.viewer.add_image(np.zeros((9, 8)), name="a")
    form.viewer.add_labels(np.full((9, 8), 7, np.int32), name="a instances")
    form.image.value = first
    predict(form, np.full((9, 8), 1, np.int32))
    predict(form, np.full((9, 8), 2, np.int32))  # in the place of 1
    assert [int(each.data.max()) for each in layers[1:]] == [7, 2]
    layers[-1].data[0, 0] = 9  # painted on
    predict(form, np.full((9, 8), 3, np.int32))
    predict(form, np.full((9, 8), 4, np.int32))
    assert [int(each.data.max()) for each in layers[1:]] == [7, 9, 4]
    layers.remove(first)
    form.image.value = form.viewer.add_image(np.ones((9, 8)), name="a")  # another file
    form._guarded(form._correct)()
    assert form.said.value == "a has no result to correct: predict it first"
    predict(form, np.full((9, 8), 5, np.int32))
    form._correct()
    assert int(form.painted.value.data.max()) == 5
    assert [int(each.data.max()) for each in layers if each.name != "a"] == [7, 9, 4, 5, 5]
    form.close()


def test_channels_are_added_as_one_image(tmp_path: Path) -> None:
    from docs.record_napari import annotate, click, new_form, open_session
    from unet_med.napari_widget.adding import CHANNELS

    form = new_form()
    open_session(form, tmp_path / "session")
    image = np.random.default_rng(0).random((3, 9, 8)).astype(np.float32)
    labels = np.zeros((3, 9, 8), np.int32)
    labels[1, 2, 3] = 1  # painted on one channel of a layer that lies over all
    annotate(form, "s", (image, labels))
    assert 'Choose which for "a stack is"' in form.said.value
    form.stack.value = CHANNELS
    click(form.add)
    assert form.said.value == "added s; 1 annotated image"
    (file, label) = form.session.pairs()["s"]
    np.testing.assert_array_equal(load_image(file).numpy(), image.swapaxes(1, 2))
    np.testing.assert_array_equal(load_image(label).numpy()[0], labels[1].T)
    form.close()


def test_a_result_lies_on_its_channels(tmp_path: Path) -> None:
    from napari.layers import Image, Labels

    from unet_med.napari_widget import to_layer

    place: Any = {"scale": (1, 0.5, 0.25), "translate": (0, 3, 4), "units": ("pixel", "um", "um")}
    turn = np.eye(3)
    turn[1:, 1:] = [[0.8, -0.6], [0.6, 0.8]]
    shear, affine = np.array([0, 0, 0.5]), np.diag([1, 2, 3, 1])
    image = Image(np.zeros((3, 9, 8)), name="s", rotate=turn, shear=shear, affine=affine, **place)
    data, meta, _ = to_layer(np.zeros((8, 9), np.int32), image, "mask")
    found = Labels(data, **meta)
    for corner in ((0, 0), (8, 7), (0, 7)):
        np.testing.assert_allclose(
            found.data_to_world(corner), image.data_to_world((0, *corner))[1:], atol=1e-9
        )
    assert [str(unit) for unit in found.units] == ["micrometer"] * 2


def test_of_a_pyramid_of_labels_the_finest_level_is_added(tmp_path: Path) -> None:
    from docs.record_napari import click, new_form, open_session

    form = new_form()
    open_session(form, tmp_path / "session")
    image, truth = pair(0)
    form.image.value = form.viewer.add_image([image, image[::2, ::2]], name="p")
    form.painted.value = form.viewer.add_labels([truth, truth[::2, ::2]], name="p labels")
    click(form.add)
    assert form.said.value == "added p; 1 annotated image"
    np.testing.assert_array_equal(load_image(form.session.pairs()["p"][1]).numpy()[0].T, truth)
    form.close()


def test_what_is_found_for_a_closed_form_or_layer_is_not_shown(
    tmp_path: Path, application: Any
) -> None:
    from docs.record_napari import new_form, open_session, wait_until
    from unet_med.napari_widget.form import _stop
    from unet_med.napari_widget.next_image import Place, Suggestion

    form = new_form()
    open_session(form, tmp_path / "session")
    kept, gone = (form.viewer.add_image(np.zeros((9, 8)), name=name) for name in "ab")
    form.viewer.layers.remove(gone)
    form._guarded(form._show_suggestion)(Suggestion(Place("b", layers=(gone,)), (), "annotate b"))
    assert form.said.value == "b was closed meanwhile: press *Next image* again"
    assert kept.visible
    go_on, shown, ended = Event(), [], []

    def steps() -> Any:
        go_on.wait(60)
        yield 1
        return "found"

    worker = form._worker(shown.append, "looking", steps)
    worker.finished.connect(partial(ended.append, True))
    worker.start()
    assert form.workers == {worker}
    _stop(form.__dict__)  # as when its window is closed
    go_on.set()
    wait_until(lambda: ended)
    assert shown == []
    assert form.workers == set()
    form.close()


@pytest.mark.parametrize("unit", ["second", "pixel"])
def test_planes_keep_their_pixel_size_whatever_lies_between_them(tmp_path: Path, unit: str) -> None:
    from docs.record_napari import annotate, new_form, open_session
    from unet_med.napari_widget.adding import PLANE, PLANES, VOLUME

    form = new_form()
    open_session(form, tmp_path / "session")
    image, truth = np.random.default_rng(0).random((2, 9, 8)), np.ones((2, 9, 8), np.int32)
    place: Any = {"scale": (1, 0.5, 0.25), "units": (unit, "um", "um")}
    form.stack.value = PLANES
    annotate(form, "s", (image, truth), **place)
    assert form.said.value == "added s-z000, s-z001; 2 annotated images"
    form.stack.value = PLANE
    form.viewer.dims.set_current_step(0, 1)
    form.add.native.click()
    assert form.said.value == "added s-z001; 2 annotated images"
    for file, _ in form.session.pairs().values():
        np.testing.assert_allclose(np.diag(load_image(file).affine)[:2], (0.25, 0.5))
    form.stack.value = VOLUME
    form.add.native.click()
    refused = {"second": "one of times, which make no volume", "pixel": "planes or channels"}
    assert refused[unit] in form.said.value
    assert sorted(form.session.pairs()) == ["s-z000", "s-z001"]
    form.viewer.layers["s"].axis_labels = ("z", "y", "x")  # said in the console
    form.add.native.click()
    assert f"its scale 1 x 0.5 x 0.25 ({unit}, " in form.said.value
    assert f"is not kept: {unit} is no unit of length" in form.said.value
    form.close()


def test_labels_of_another_image_are_noticed(tmp_path: Path) -> None:
    from docs.record_napari import annotate, click, new_form, open_session

    form = new_form()
    open_session(form, tmp_path / "session")
    image, truth = pair(0)
    annotate(form, "a", (image, truth))
    form.image.value = form.viewer.add_image(image[::-1], name="b")  # and the labels are forgotten
    click(form.add)
    assert form.said.value == (
        "added b; 2 annotated images; the same labels were added to a: if they are not those of b, "
        "choose its own, and add it again"
    )
    form.painted.value.data[:9, :9] = 1  # painted on
    click(form.add)
    assert form.said.value == "added b; 2 annotated images"
    form.image.value.translate = (0, 128)  # the next tile of the slide
    click(form.add)
    assert form.said.value.startswith("a labels begins elsewhere (0 0) than b (0 128)")
    form.image.value.translate = (0, 0.4)
    form.channels.value = [form.viewer.layers["a"]]
    click(form.add)
    assert form.said.value == "added b-2; 3 annotated images; its channels are b, a"
    form.close()


def test_the_pixel_size_is_that_of_scale_and_affine() -> None:
    from napari.layers import Image

    from unet_med.napari_widget import spacing_of

    data, um = np.zeros((4, 9, 8)), ("um",) * 3
    assert spacing_of(Image(data, scale=(2, -0.5, 0.25), units=um), 3) == (0.25, 0.5, 2)
    affine = np.diag([2, 0.5, 0.25, 1])  # as a reader of NIfTI gives it, beside a scale of 1
    assert spacing_of(Image(data, affine=affine, units=um), 3) == (0.25, 0.5, 2)
    turned = Image(data[0], scale=(0.5, 0.25), rotate=30, units=um[:2])
    np.testing.assert_allclose(spacing_of(turned, 2), (0.25, 0.5))


def test_the_form_scrolls_where_the_screen_is_low(application: Any) -> None:
    from docs.record_napari import new_form

    form = new_form()
    form.native.resize(420, 300)
    application.processEvents()
    assert form.native.height() == 300
    assert form.native.verticalScrollBar().maximum() > 100
    rows = [form.said, form.numbers, form.image, form.minutes]
    assert (
        len(
            {
                row.native.mapTo(form.native.widget(), row.native.rect().topLeft()).x()
                for row in rows
            }
        )
        == 1
    )
    form.close()


def test_how_an_image_is_unlike_the_training_is_said(tmp_path: Path) -> None:
    from docs.record_napari import new_form, open_session
    from unet_med.napari_widget.segmenting import NOTES

    form = new_form()
    open_session(form, tmp_path / "session")
    image = form.viewer.add_image(np.zeros((9, 8)), name="a")
    about = {"name": "a mask", "metadata": {NOTES: "all its pixels are 0"}}
    form._show_result(image, (np.eye(9, 8, dtype=np.int32), about, "labels"))
    assert form.said.value == "a mask: 1 classes; all its pixels are 0"
    form.close()


def test_the_next_image_is_the_command_lines(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from docs.record_napari import annotate, click, new_form, open_session, wait_until

    SyntheticCells(4, (48, 40), num_cells=4, seed=3).write(tmp_path / "new")
    folder = tmp_path / "new/images"
    words = ["--bundle", str(trained), "--device", "cpu"]
    assert main(["next", str(folder), *words]) == 0
    file, reason = capsys.readouterr().out.splitlines()[0].split(": ")
    shutil.copytree(trained, tmp_path / "session/bundle")
    form = new_form()
    open_session(form, tmp_path / "session")
    annotated, labels = (
        load_image(cells / f"{part}/cells_000.tif").numpy()[0].T for part in ("images", "labels")
    )
    annotate(form, "known", (annotated, labels.astype(np.int32)))
    form.more.value = folder
    click(form.next)
    assert not form.next.enabled  # it is busy, and the window is not
    wait_until(lambda: form.next.enabled)
    assert form.said.value.startswith(f"annotate {Path(file).stem} next: {reason[:16]}")
    assert form.image.value.name == Path(file).stem
    np.testing.assert_allclose(form.image.value.data, load_image(file).numpy()[0].T)
    shown = [layer.name for layer in form.viewer.layers if layer.visible]
    assert shown == [Path(file).stem]
    annotate(form, "blank", (np.zeros((40, 48)), np.zeros((40, 48), np.int32)))
    form.more.value = None
    form.viewer.layers.remove(form.viewer.layers[Path(file).stem])
    click(form.next)
    wait_until(lambda: form.next.enabled)
    assert form.said.value.startswith("no image is left to suggest (2 annotated or learned from")
    form.close()


def test_pictures_of_the_end_are_shown(tmp_path: Path) -> None:
    """They move with the bundle, from where it grew to where it stays."""
    from qtpy.QtWidgets import QApplication

    from docs.record_napari import new_form
    from unet_med.napari_widget.training import Progress

    grew, stays = tmp_path / "training.png", tmp_path / "bundle.png"
    imsave(grew, np.full((40, 60, 3), 200, np.uint8))

    class Ended:
        is_running = False

        def progress(self) -> Progress:
            file = grew if grew.exists() else stays
            return Progress(1.0, "last line", [], (file, file))

        def finish(self) -> str:
            grew.rename(stays)
            return "trained"

    form = new_form()
    form.training = Ended()
    form._poll()
    assert form.said.value == "trained"
    assert all(label.native.pixmap().width() > 0 for label in form.pictures)
    form.native.resize(form.native.minimumWidth(), 2000)
    QApplication.processEvents()
    assert form.native.horizontalScrollBar().maximum() == 0  # nothing is cut off at the right
    form.close()


@pytest.mark.long
def test_a_session_gets_better(tmp_path: Path) -> None:
    from docs.record_napari import record

    pairs = [pair(k) for k in range(8)]
    # After two minutes all of these cells are found.
    first, second = record(tmp_path / "session", pairs[:4], pairs[4:], minutes=(0.5, 1))
    assert second > first, (first, second)
