"""The form of a session in napari: annotate, train, look, correct, continue."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

import numpy as np
from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    Label,
    ProgressBar,
    PushButton,
    Select,
)
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QPixmap
from qtpy.QtWidgets import QFrame, QSizePolicy

from unet_med.errors import hush_decoder, one_line, user_error
from unet_med.napari_widget.adding import STACKS, add_layers, annotated_in, names_of
from unet_med.napari_widget.fields import in_napari
from unet_med.napari_widget.next_image import NextImage, Suggestion
from unet_med.napari_widget.planes import PREDICTED, plane_digests
from unet_med.napari_widget.segmenting import (
    NOTES,
    Array,
    LayerData,
    place_of_layer,
    segment_steps,
)
from unet_med.napari_widget.session import Session
from unet_med.napari_widget.training import Progress, Training, planned
from unet_med.report.curve import losses_and_scores
from unet_med.segmentation.next_image import RULES

SEGMENTED = "unet_med_segmented"  # of a layer's metadata: the image layer it was predicted from
POLL_MS = 500
PICTURE_PX, LARGE_PX = 380, 1000  # widths: in the form, and under the mouse
EXPANDING = QSizePolicy.Policy.Expanding
KINDS = {"auto": None, "objects": "instances", "classes": "classes", "a mask": "mask"}
NEXT = dict(zip(("at random", "where the bundle is least sure"), RULES, strict=True))


class SessionForm(Container):
    """Choose layers, add them to a session, train, predict, correct and continue.

    Args:
        napari_viewer: whose layers are annotated.
    """

    def __init__(self, napari_viewer: Any) -> None:
        hush_decoder()  # napari would show it on its window
        self.viewer = napari_viewer
        self.session: Session | None = None
        self.training: Training | None = None
        self.suggesting: NextImage | None = None
        self.is_looking = False
        self.workers: set[Any] = set()
        self._make_data_fields()
        self._make_training_fields()
        super().__init__(scrollable=True)  # with its pictures it is higher than most screens
        self.extend(  # not as `widgets`: those get labels of unequal widths
            [
                *(self.folder, self.open, self.image, self.channels, self.painted),
                *(self.stack, self.add, _row("annotated", self.annotated, self.read)),
                *(self.kind, self.minutes, _row("", self.train, self.go_on, self.stop)),
                _row("", self.predict, self.correct),
                *(self.more, self.rule, self.next),
                *(self.bar, self.said, self.planned, self.numbers),
            ]
        )
        inside = super().native.layout()
        for picture in self.pictures:  # over the whole width: no field, which has a label
            inside.addWidget(picture.native)
        inside.addStretch()
        self.native.setFrameShape(QFrame.Shape.NoFrame)
        self.native.setMinimumWidth(PICTURE_PX + 40)  # margins, and the scroll bar
        self.timer = QTimer(self.native)
        self.timer.timeout.connect(self._guarded(self._poll))
        self.native.destroyed.connect(partial(_stop, self.__dict__))
        self._show_state()

    @property
    def native(self) -> Any:
        """What napari docks: the part with the scroll bar, which `Container` keeps apart."""
        return self.root_native_widget

    def _make_data_fields(self) -> None:
        self.folder = FileEdit(mode="d", label="session folder", value="")
        self.open = self._button("Open session", lambda: self._open(self.folder.value))
        self.image = ComboBox(label="image", choices=lambda _: self._layers(Image))
        self.channels = Select(label="more channels", choices=lambda _: self._layers(Image))
        self.channels.native.setMaximumHeight(60)
        self.channels.native.setSizePolicy(EXPANDING, QSizePolicy.Policy.Fixed)
        self.painted = ComboBox(label="its labels", choices=lambda _: self._layers(Labels))
        self.stack = ComboBox(label="a stack is", choices=[*STACKS])
        self.add = self._button("Add to the session", self._add)
        self.annotated = ComboBox(label="annotated", choices=lambda _: self._names())
        self.read = self._button("Show", self._read)

    def _make_training_fields(self) -> None:
        self.kind = ComboBox(label="labels are", choices=[*KINDS])
        self.minutes = FloatSpinBox(label="minutes", value=10, min=0.05, max=10_000, step=1)
        self.train = self._button("Train", partial(self._train, go_on=False))
        self.go_on = self._button("Continue", partial(self._train, go_on=True))
        self.stop = self._button("Stop", self._stop)
        self.predict = self._button("Predict", self._predict)
        self.correct = self._button("Correct", self._correct)
        self.more = FileEdit(mode="d", label="more images", nullable=True)
        self.rule = ComboBox(label="chosen", choices=[*NEXT])
        self.next = self._button("Next image", self._next)
        self.bar = ProgressBar(min=0, max=100, value=0, label="done")
        self.said = Label(value="choose a folder, new or old", label="says")
        self.planned = Label(value="", label="decided")
        self.numbers = Label(value="", label="learned")
        for label in (self.said, self.planned, self.numbers):
            label.native.setWordWrap(True)
            label.native.setSizePolicy(EXPANDING, QSizePolicy.Policy.Preferred)
        self.pictures = [Label(value=""), Label(value="")]

    def _stop(self) -> None:
        if self.training is not None:
            self.training.stop()

    def _button(self, text: str, action: Callable[..., Any]) -> PushButton:
        button = PushButton(text=text)
        button.clicked.connect(lambda: self._guarded(action)())
        return button

    def _guarded(self, action: Callable[..., Any]) -> Callable[..., None]:
        """The same action, which says errors that are meant for the user."""

        def guarded(*args: Any) -> None:
            try:
                action(*args)
            except Exception as error:
                if user_error(error) is None:
                    raise
                self.said.value = in_napari(one_line(error))

        return guarded

    # What can be chosen

    def _layers(self, kind: type) -> list[Any]:
        return [layer for layer in self.viewer.layers if isinstance(layer, kind)]

    def _names(self) -> list[str]:
        return sorted(self.session.pairs()) if self.session else []

    def _chosen(self) -> list[Any]:
        """The Image layers that are channels of the image."""
        first = self.image.value
        if first is None:
            raise ValueError("no image is chosen: open one in napari first")
        return [first, *(layer for layer in self.channels.value if layer is not first)]

    def _opened(self) -> Session:
        if self.session is None:
            raise ValueError("choose a folder for the session first")
        return self.session

    def _show_state(self) -> None:
        """Buttons that can do something."""
        running, session = self.training is not None, self.session
        pairs = self._names()
        trained = session is not None and session.is_trained
        self.annotated.reset_choices()
        self.open.enabled = not running
        self.add.enabled = session is not None and not running
        self.read.enabled = bool(pairs)
        self.train.enabled = bool(pairs) and not running
        self.go_on.enabled = bool(pairs) and trained and not running
        self.stop.enabled = running
        self.predict.enabled = self.correct.enabled = trained
        self.next.enabled = trained and not self.is_looking

    # Annotating

    def _open(self, folder: Any) -> None:
        self.session = Session.open(folder)
        self.suggesting = NextImage(self.session)
        self.kind.value = next(k for k, v in KINDS.items() if v == self.session.label_kind)
        self.planned.value = planned(self.session.bundle)
        self._show_state()
        has = "a trained bundle" if self.session.is_trained else "no bundle yet"
        self.said.value = f"{folder}: {annotated_in(self.session)}, {has}"

    def _add(self) -> None:
        session, layers, point = self._opened(), self._chosen(), self.viewer.dims.point
        said = add_layers(session, layers, self.painted.value, self.stack.value, point)
        self._show_state()
        self.said.value = said

    def _read(self) -> None:
        """Show an annotated image with its labels."""
        layers = [self._add_layer(data) for data in self._opened().read(self.annotated.value)]
        self.image.value, self.painted.value = layers[0], layers[-1]
        self.channels.value = layers[1:-1]

    def _add_layer(self, data: LayerData) -> Any:
        pixels, meta, kind = data
        return getattr(self.viewer, f"add_{kind}")(pixels, **meta)

    # Training

    def _train(self, *, go_on: bool) -> None:
        kind = KINDS[self.kind.value]
        options = [] if kind is None else ["--label-kind", kind]
        self.training = Training(self._opened(), self.minutes.value, go_on=go_on, options=options)
        self.timer.start(POLL_MS)
        self._show_state()

    def _poll(self) -> None:
        if self.training is None:
            return
        if self._is_closed():
            self.training.stop()  # no form would be left that could
        if not self.training.is_running:
            self.timer.stop()
            ended, self.training = self.training, None  # also where its end fails
            try:
                end = ended.finish()  # first: its pictures lie elsewhere then
                self._show(ended.progress(), end)
            finally:
                self._show_state()
            return
        self._show(self.training.progress())

    def _is_closed(self) -> bool:
        """Whether napari has taken the form out of its window, which does not destroy it."""
        return self.native.parent() is None and not self.native.isVisible()

    def _show(self, progress: Progress, end: str | None = None) -> None:
        self.bar.value = round(100 * progress.fraction)
        self.said.value = end or progress.said
        self.planned.value = progress.planned or self.planned.value
        if progress.history:
            first, last = progress.history[0], progress.history[-1]
            names = losses_and_scores([last])[1]
            scores = (f"{name.replace('_', ' ')} {last[name]:.3f}" for name in names)
            losses = f"loss {first['loss']:.3f} at first, {last['loss']:.3f} now"
            self.numbers.value = "; ".join([losses, *scores])
        for label, file in zip(self.pictures, progress.pictures, strict=False):
            label.native.setToolTip(f'<img src="{escape(str(file))}" width="{LARGE_PX}">')
            pixmap = QPixmap(str(file))
            smooth = Qt.TransformationMode.SmoothTransformation
            label.native.setPixmap(pixmap.scaledToWidth(PICTURE_PX, smooth))

    # Looking and correcting

    def _predict(self) -> None:
        session, (layer, *more) = self._opened(), self._chosen()
        self.said.value = f"segmenting {names_of([layer, *more])}"
        steps = partial(segment_steps, channels=more, stack=STACKS[self.stack.value])
        show = partial(self._show_result, layer)
        self._worker(show, self.said.value, steps, layer, session.bundle, session.output()).start()

    def _worker(self, show: Callable[[Any], None], title: str, steps: Any, *of: Any) -> Any:
        """A thread of its own for steps; what they return is shown, and their error said."""
        worker = create_worker(
            steps,
            *of,
            _progress={"total": 0, "desc": title},
            _start_thread=False,
            _ignore_errors=True,  # else napari shows those as well that are said here
        )
        worker.returned.connect(self._guarded(show))
        worker.errored.connect(self._guarded(_raise))
        self.workers.add(worker)
        worker.finished.connect(partial(self.workers.discard, worker))
        return worker

    def _show_result(self, image: Any, data: LayerData) -> None:
        """Add what was predicted in the place of what was before, unless somebody painted on it."""
        for before in self._results_of(image):
            if plane_digests(_as_planes(before.data)) == before.metadata[PREDICTED]:
                self.viewer.layers.remove(before)
        layer = self._add_layer(data)  # napari numbers a name that another layer has
        digests = plane_digests(_as_planes(layer.data))
        layer.metadata.update({SEGMENTED: image.unique_id, PREDICTED: digests})
        count = len(np.unique(layer.data[layer.data > 0]))
        what = "objects" if data[1]["name"].endswith("instances") else "classes"
        notes = data[1].get("metadata", {}).get(NOTES)
        self.said.value = f"{layer.name}: {count} {what}" + (f"; {notes}" if notes else "")

    def _results_of(self, image: Any) -> list[Any]:
        """Layers that were predicted from this layer, not from one that had its name."""
        layers = self._layers(Labels)
        return [each for each in layers if each.metadata.get(SEGMENTED) == image.unique_id]

    def _correct(self) -> None:
        """A copy of the result to paint on, chosen as the labels to add."""
        image = self._chosen()[0]
        results = self._results_of(image)
        if not results:
            raise ValueError(f"{image.name} has no result to correct: predict it first")
        place = place_of_layer(results[-1], results[-1].ndim)
        name = f"{image.name} correction"
        began = {PREDICTED: results[-1].metadata[PREDICTED]}  # also where it was painted on
        layer = self.viewer.add_labels(
            results[-1].data.copy(), name=name, metadata=began, **place
        )  # ([Z,] Y, X)
        results[-1].visible = False
        self.viewer.layers.selection.active = layer
        layer.mode = "paint"
        self.painted.reset_choices()
        self.painted.value = layer
        self.said.value = f"paint on {layer.name}, then add it to the session"

    # The next image

    def _next(self) -> None:
        """Suggest an image to annotate, of the layers and of a folder."""
        if self.suggesting is None:
            raise ValueError("choose a folder for the session first")
        chosen = [] if self.image.value is None else self._chosen()
        others = [layer for layer in self._layers(Image) if layer not in chosen]
        opened = [*([chosen] if chosen else []), *([layer] for layer in others)]
        self.said.value = "looking for the next image"
        rule = NEXT[self.rule.value]
        steps = partial(self.suggesting.steps, stack=STACKS[self.stack.value], rule=rule)
        what = opened, self.more.value
        worker = self._worker(self._show_suggestion, self.said.value, steps, *what)
        worker.yielded.connect(partial(setattr, self.said, "value"))
        worker.finished.connect(partial(self._look, False))
        self._look(True)
        worker.start()

    def _look(self, begins: bool) -> None:
        self.is_looking = begins
        self._show_state()

    def _show_suggestion(self, suggestion: Suggestion) -> None:
        """Show the suggested image alone, and choose it."""
        place = suggestion.place
        if any(layer not in self.viewer.layers for layer in place.layers):
            raise ValueError(f"{place.name} was closed meanwhile: press *Next image* again")
        layers = [*place.layers, *map(self._add_layer, suggestion.new)]
        for layer in self.viewer.layers:
            layer.visible = layer in layers
        self.image.value, self.channels.value = layers[0], layers[1:]
        self.viewer.layers.selection.active = layers[0]
        if place.plane is not None:
            world = layers[0].data_to_world((place.plane, 0, 0))
            self.viewer.dims.set_point(self.viewer.dims.ndim - 3, world[-3])
        self.said.value = suggestion.said


def _row(label: str, *widgets: Any) -> Container:
    row = Container(widgets=widgets, layout="horizontal", labels=False, label=label)
    row.margins = (0, 0, 0, 0)
    return row


def _as_planes(labels: Any) -> Array:
    """Labels `([Z,] Y, X)` as `(X, Y, Z)`."""
    planes: Array = np.atleast_3d(np.asarray(labels).T)
    return planes


def _raise(error: Exception) -> None:
    raise error


def _stop(form: dict[str, Any], *_: Any) -> None:
    """End what a form has begun when it is closed; it holds its parts even then."""
    if form.get("training") is not None:
        form["training"].stop()
    for worker in form.get("workers", ()):
        worker.quit()  # what it finds would be shown in a form that is gone
