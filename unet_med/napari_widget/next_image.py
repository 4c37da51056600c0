"""The image to annotate next, among what is open in napari and what lies in a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor

from unet_med.data import load_image
from unet_med.data.cases import Files, files_of, names_apart
from unet_med.data.checksum import sha256
from unet_med.data.datalist import look_for_images
from unet_med.data.orientation import axis_of
from unet_med.data.pixel_size import states_size
from unet_med.errors import one_line, user_error
from unet_med.napari_widget.fields import in_napari
from unet_med.napari_widget.first_axis import PLANES, Stack, require_planes
from unet_med.napari_widget.layers import image_layers, orientation_in
from unet_med.napari_widget.segmenting import (
    LayerData,
    from_layers,
    image_of,
    orientation_of,
    stated_spacing,
)
from unet_med.napari_widget.session import Session, pixel_digest
from unet_med.segmentation import Segmenter
from unet_med.segmentation.arrays import from_array
from unet_med.segmentation.next_image import RULES, Candidate, Choice, choose_next, look, unknown

AHEAD = 5  # as many kinds of images as `unet-med next` sorts them into


@dataclass(frozen=True)
class Place:
    """Where an image is.

    Attributes:
        name: of its layer, or file.
        layers: of napari, its channels; empty: it is not open.
        files: where it is not open.
        plane: of the stack; None: all of it.
    """

    name: str
    layers: tuple[Any, ...] = ()
    files: Files = ()
    plane: int | None = None


@dataclass
class Passed:
    """Images that are passed over.

    Attributes:
        counts: how many, by the reason.
        faults: of images that cannot be looked at, what is wrong, by their names.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Pass an image over where something is wrong with it that a user can mend."""
        try:
            yield
        except Exception as error:
            if user_error(error) is None:
                raise
            self.faults[name] = in_napari(one_line(error))

    def about_faults(self) -> str:
        """How many cannot be looked at, and why the first; empty: all can."""
        if not self.faults:
            return ""
        name, reason = next(iter(self.faults.items()))
        return f"{len(self.faults)} cannot be looked at, such as {name}: {reason}"


@dataclass(frozen=True)
class Suggestion:
    """An image to annotate next.

    Attributes:
        place: where it is.
        new: layers that show it, where it is not open.
        said: one sentence: which, and why.
    """

    place: Place
    new: tuple[LayerData, ...]
    said: str


class NextImage:
    """Suggests images to annotate, one after the other, by the rules of `unet-med next`.

    An image is known by its pixels, and what
    the session holds is not suggested. What was suggested comes again when all others were; a new
    bundle begins anew. Each image is segmented once a bundle.

    Args:
        session: which has a trained bundle.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._weights = ""
        self._looks: dict[str, Candidate] = {}  # by what the pixels are
        self._suggested: list[str] = []

    def steps(
        self,
        opened: Sequence[Sequence[Any]],
        folder: Path | None,
        *,
        stack: Stack = "as it says",
        rule: str = RULES[0],
    ) -> Generator[str, None, Suggestion]:
        """Look at images that the bundle has not seen; yields what is done, returns the choice.

        Args:
            opened: Image layers, those together that are channels of one image.
            folder: with further images; None: there are none.
            stack: what somebody says that a stack is one of; of planes each is an image, but for
                a network of volumes.
            rule: see `choose_next`.

        Raises:
            ValueError: nothing is left to suggest; or the bundle does not say how sure it is.
        """
        segmenter = Segmenter(self.session.bundle)
        segmenter.require_confidence()  # else each image would be at fault
        self._begin(segmenter)
        planes = stack == PLANES and segmenter.spatial_dims == 2
        here: dict[str, Place] = {}
        passed = Passed()
        annotated = self._annotated(segmenter, planes, passed)
        for place, image in self._images(segmenter, opened, folder, passed, stack):
            for z, part in _parts(image, planes, segmenter.orientation):
                if (key := pixel_digest(part.numpy())) in annotated:
                    passed.counts["annotated"] += 1
                elif key not in here:
                    own = replace(place, plane=z)
                    if key not in self._looks:
                        yield f"looking at {_named(own)}"
                        with passed.noting(_named(own)):
                            self._looks[key] = look(segmenter, key, part)
                    if key in self._looks:
                        here[key] = own
        choice = self._choose(here, passed, rule)
        self._suggested.append(choice.candidate.name)
        return _suggestion(here[choice.candidate.name], choice.reason, passed, segmenter)

    def _begin(self, segmenter: Segmenter) -> None:
        """Forget what another network said."""
        if (weights := sha256(segmenter.weights)) != self._weights:
            self._weights = weights
            self._looks.clear()
            self._suggested.clear()

    def _annotated(self, segmenter: Segmenter, planes: bool, passed: Passed) -> set[str]:
        found: set[str] = set()
        for name, (file, _) in self.session.pairs().items():
            with passed.noting(name):
                parts = _parts(load_image(file), planes, segmenter.orientation)
                found |= {pixel_digest(part.numpy()) for _, part in parts}
        return found

    def _images(
        self,
        segmenter: Segmenter,
        opened: Sequence[Sequence[Any]],
        folder: Path | None,
        passed: Passed,
        stack: Stack,
    ) -> Iterator[tuple[Place, MetaTensor]]:
        """Images that fit the network, one at a time; what is open first."""
        for layers in opened:
            image = None
            with passed.noting(layers[0].name):
                image = _of_layers(layers, segmenter, stack)
                passed.counts["unfit"] += image is None
            if image is not None:
                yield Place(layers[0].name, layers=tuple(layers)), image
        if folder is None:
            return
        listed = [item["image"] for item in look_for_images(folder, segmenter.in_channels).items]
        new = unknown(self.session.bundle, listed)
        passed.counts["annotated"] += len(listed) - len(new)
        for name, files in zip(names_apart(new), new, strict=True):
            image = None
            with passed.noting(name):
                image = load_image(files_of(files), **segmenter.choice)
            if image is not None:
                yield Place(name, files=files), image

    def _choose(self, here: dict[str, Place], passed: Passed, rule: str) -> Choice:
        """Which image; those that were suggested stay among their kinds."""
        found = [key for key in here if self._looks[key].confidence is not None]
        passed.counts["empty"] = len(here) - len(found)
        if not found:
            raise ValueError(_nothing_left(passed))
        if set(found) <= set(self._suggested):
            self._suggested.clear()
        fresh = set(found) - set(self._suggested)
        if rule == RULES[0]:  # the draws of one session differ, those of two do not
            left = [self._looks[key] for key in found if key in fresh]
            return choose_next(left, 1, rule=rule, seed=len(self._suggested))[0]
        pool = {key: self._looks[key] for key in [*self._suggested, *here]}
        free: list[Choice] = []
        while not free:
            chosen = choose_next(list(pool.values()), AHEAD, rule=rule)
            free = [choice for choice in chosen if choice.candidate.name in fresh]
            for choice in chosen:
                del pool[choice.candidate.name]
        return free[0]


def _of_layers(
    layers: Sequence[Any], segmenter: Segmenter, stack: Stack = "as it says"
) -> MetaTensor | None:
    """Layers as an image of the network's channels and axes; None: they are not.

    Args:
        layers: of one image.
        segmenter: which has the network.
        stack: what somebody says that a stack is one of.

    Raises:
        ValueError: a stack may be one of channels.
    """
    try:
        pixels = from_layers(layers, stack)
    except ValueError:  # times, or channels of several shapes
        return None
    if len(pixels) != segmenter.in_channels or pixels.ndim <= segmenter.spatial_dims:
        return None
    require_planes(layers, stack, volume=segmenter.spatial_dims == 3)
    spacing = stated_spacing(layers[0], pixels.ndim - 1)
    image: MetaTensor = image_of(segmenter, pixels, spacing, orientation_of(layers[0]))
    return image


def _parts(
    image: MetaTensor, planes: bool, orientation: str | None = None
) -> Iterator[tuple[int | None, MetaTensor]]:
    """An image `(C, X, Y[, Z])`, or each plane of it, as a session would write it.

    Args:
        image: as it is read.
        planes: a plane of a stack is an image.
        orientation: of the network: a stack that lies otherwise has other planes than it sees,
            and is one image.
    """
    word = orientation_in(image)
    if word and orientation and axis_of(word[2]) != axis_of(orientation[2]):
        planes = False
    count = image.shape[3] if image.ndim == 4 else 1
    if image.ndim == 3 or (count > 1 and not planes):
        yield None, image
        return
    sizes = np.linalg.norm(np.asarray(image.affine)[:3, :2], axis=0).tolist()
    spacing = sizes if states_size(image.meta) else None
    unit = image.meta["spatial_unit"]
    for z in range(count):
        plane = image.as_tensor()[..., z]  # (C, X, Y)
        yield z if count > 1 else None, from_array(plane, "CXY", spacing, unit, word)[0]


def _named(place: Place) -> str:
    return place.name if place.plane is None else f"{place.name}, plane {place.plane},"


def _suggestion(place: Place, reason: str, passed: Passed, segmenter: Segmenter) -> Suggestion:
    new: Sequence[LayerData] = ()
    if not place.layers:
        new = image_layers(load_image(files_of(place.files), **segmenter.choice), place.name)
    empty, faults = passed.counts["empty"], passed.about_faults()
    others = f"; nothing is found in {empty} other(s)" if empty else ""
    others += f"; {faults}" if faults else ""
    return Suggestion(place, tuple(new), f"annotate {_named(place)} next: {reason}{others}")


def _nothing_left(passed: Passed) -> str:
    about = {
        "annotated": "annotated or learned from already",
        "empty": "without anything found in them",
        "unfit": "not of the network's channels or axes",
    }
    counts = [f"{passed.counts[key]} {words}" for key, words in about.items() if passed.counts[key]]
    counts += [passed.about_faults()] if passed.faults else []
    seen = f" ({', '.join(counts)})" if counts else ""
    return f"no image is left to suggest{seen}: open others, or name a folder of them"
