"""Whether painted labels are those of their image: names do not say it, and shapes agree often."""

from __future__ import annotations

from typing import Any

import numpy as np

from unet_med.data.digest import digest
from unet_med.napari_widget.segmenting import Array, steps_of

ADDED = "unet_med_added"  # of a layer's metadata: its labels then, and the image they were added to


def require_place(painted: Any, image: Any) -> None:
    """Refuse labels that lie half a pixel or more beside their image.

    Raises:
        ValueError: says where both lie.
    """
    count = min(painted.ndim, image.ndim)
    places = [
        np.asarray(layer.data_to_world([0] * layer.ndim))[-count:] for layer in (painted, image)
    ]
    if (np.abs(places[0] - places[1]) < 0.5 * np.asarray(steps_of(image)[-count:])).all():
        return
    there, here = (" ".join(f"{value:g}" for value in place) for place in places)
    raise ValueError(
        f"{painted.name} begins elsewhere ({there}) than {image.name} ({here}): choose the "
        "labels that were painted on it, or give both one place"
    )


def without_channels(labels: Array, name: str) -> Array:
    """Labels `(X, Y)` of an image whose layer has channels, over which napari makes labels as well.

    Args:
        labels: `(X, Y)`, or `(X, Y, C)`, painted on one of the channels.
        name: of their layer.

    Raises:
        ValueError: several channels have labels.
    """
    if labels.ndim == 2:
        return labels
    painted = [c for c in range(labels.shape[2]) if labels[..., c].any()]
    if len(painted) > 1:
        raise ValueError(
            f"{name} has labels on {len(painted)} channels of one image, which has one label each "
            "pixel: paint on one of them"
        )
    return labels[..., painted[0] if painted else 0]


def labels_of_another(painted: Any, labels: Array, image: Any) -> str:
    """What to say of labels that were added to another image and have not changed since.

    Args:
        painted: Labels layer, which keeps what it is added to.
        labels: its values.
        image: Image layer to which they are added.

    Returns:
        The end of a sentence; empty of labels that were not.
    """
    now = digest(labels)
    before, other, name = painted.metadata.get(ADDED, (now, image.unique_id, ""))
    painted.metadata[ADDED] = (now, image.unique_id, image.name)
    if before != now or other == image.unique_id or not labels.any():
        return ""
    return (
        f"; the same labels were added to {name}: if they are not those of {image.name}, choose "
        "its own, and add it again"
    )
