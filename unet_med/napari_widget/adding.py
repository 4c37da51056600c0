"""What of the chosen layers is written into a session, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_med.napari_widget.first_axis import Stack, finest, holds_channels, require_planes
from unet_med.napari_widget.painted import labels_of_another, require_place, without_channels
from unet_med.napari_widget.planes import PREDICTED, labelled_planes, without_labels
from unet_med.napari_widget.segmenting import from_layers, lost_scale, orientation_of, spacing_of
from unet_med.napari_widget.session import SAVED_AS, Session

VOLUME, PLANES, PLANE = "a volume", "planes, those with labels", "planes, the one that is shown"
CHANNELS = "channels of one image"
STACKS: dict[str, Stack] = {  # what *a stack is*, and so what its first axis is one of
    VOLUME: "as it says",
    PLANES: "planes",
    PLANE: "planes",
    CHANNELS: "channels",
}


def add_layers(
    session: Session, layers: Sequence[Any], painted: Any, a_stack_is: str, point: Sequence[float]
) -> str:
    """Write layers into a session, as an annotated image, or as one for each plane.

    Args:
        session: which gets them.
        layers: Image layers, the channels of one image.
        painted: Labels layer; None: none is chosen.
        a_stack_is: one of `STACKS`.
        point: which the viewer shows, in the world.

    Returns:
        What was written, and what a user should know of it.

    Raises:
        ValueError: the labels are not those of the image, no plane has labels or is shown, or
            nobody says what a stack is.
    """
    if painted is None:
        raise ValueError("no labels are chosen: paint some in a Labels layer first")
    first, stack = layers[0], STACKS[a_stack_is]
    require_planes(layers, stack, volume=a_stack_is == VOLUME)
    require_place(painted, first)
    image, labels = from_layers(layers, stack), np.asarray(finest(painted)).T  # (X, Y[, Z])
    if holds_channels(first, stack):
        labels = without_channels(labels, painted.name)
    name, planes = first.metadata.get(SAVED_AS, first.name), None
    if a_stack_is == PLANE and image.ndim == 4:
        z = _shown_plane(first, image.shape[3], point)
        image, labels = image[..., z], labels[..., z] if labels.ndim == 3 else labels
        name = f"{name}-z{z:03}"
    elif a_stack_is == PLANES and image.ndim == labels.ndim + 1 == 4:
        planes = labelled_planes(labels, painted.metadata.get(PREDICTED))
    dims = 3 if planes is None and image.ndim == 4 and image.shape[3] > 1 else 2  # as written
    spacing, word = spacing_of(first, dims), orientation_of(first)
    written = session.add(name, image, labels, spacing=spacing, planes=planes, orientation=word)
    notes = without_labels(labels) if planes is None else ""
    notes += lost_scale(first, dims) + labels_of_another(painted, labels, first)
    notes += f"; its channels are {names_of(layers)}" if len(layers) > 1 else ""
    return f"added {', '.join(written)}; {annotated_in(session)}{notes}"


def _shown_plane(layer: Any, planes: int, point: Sequence[float]) -> int:
    """Which plane of a layer the viewer shows."""
    z = round(float(layer.world_to_data(point)[-3]))
    if not 0 <= z < planes:
        raise ValueError(f"no plane of {layer.name} is shown: move the slider onto it")
    return z


def annotated_in(session: Session) -> str:
    """How many images are annotated, in words."""
    count = len(session.pairs())
    return f"{count} annotated image{'s' * (count != 1)}"


def names_of(layers: Sequence[Any]) -> str:
    """Channels in the order in which the network sees them: that of the list, after the first."""
    return ", ".join(layer.name for layer in layers)
