"""What the first axis of a stack is one of: planes, times or channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PLANES, TIMES, CHANNELS = "planes", "times", "channels"
NAMES = {
    **dict.fromkeys(("z", "plane", "slice", "depth"), PLANES),
    **dict.fromkeys(("t", "time", "frame"), TIMES),
    **dict.fromkeys(("c", "ch", "channel"), CHANNELS),
}
OF_TIME = ("second", "minute", "hour", "day")  # ends of the names that napari's units have
FEW = 5  # channels, as of Cell Painting: a stack of more that says nothing is one of planes
SPLIT = "*Split Stack* in the layer's menu"


def first_axis(layer: Any) -> str | None:
    """What a layer of three axes says of its first: `"planes"`, `"times"` or `"channels"`.

    The axis has a name, a unit of time or length, or a step other than 1. None: it has none of
    them, as in napari's own reader of TIFFs.
    """
    from unet_med.data.pixel_size import unit_um

    name, unit = (str(_first(layer, key)).strip().lower() for key in ("axis_labels", "units"))
    if what := NAMES.get(name) or NAMES.get(name.removesuffix("s")):
        return what
    if unit.endswith(OF_TIME):
        return TIMES
    return PLANES if unit_um(unit) or abs(_first(layer, "scale") or 1) != 1 else None


def require_planes(layers: Sequence[Any], *, asked: bool, volume: bool) -> None:
    """Refuse a stack whose first axis is one of channels, or may be: pixels do not say it.

    Args:
        layers: the channels of an image; a stack has three axes besides colours.
        asked: somebody has said that it is one of planes.
        volume: the planes are to make one volume, which times do not.

    Raises:
        ValueError: says what to do.
    """
    for layer in layers:
        shape = (layer.data[0] if layer.multiscale else layer.data).shape
        if len(shape) - bool(layer.rgb) != 3 or shape[0] == 1:
            continue
        what = first_axis(layer)
        if what == CHANNELS:
            raise ValueError(
                f"the first axis of {layer.name} is one of channels: {SPLIT} parts them; choose "
                "those that belong to the image"
            )
        if what == TIMES and volume:
            raise ValueError(
                f"the first axis of {layer.name} is one of times, which make no volume: take each "
                "by itself"
            )
        if what is None and not (asked or layer.rgb) and shape[0] <= FEW:
            raise ValueError(
                f"{layer.name} does not say whether its {shape[0]} are planes or channels. Of "
                f"channels {SPLIT} makes layers: choose those that belong to the image. If they "
                'are planes, choose that for "a stack is", or write layer.axis_labels = '
                '("z", "y", "x") in napari\'s console'
            )


def _first(layer: Any, key: str) -> Any:
    """What a layer says of the first of three axes; None: nothing."""
    values = list(getattr(layer, key, ()))
    return values[-3] if len(values) >= 3 else None
