"""What the first axis of a stack is one of: planes, times or channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

Stack = Literal["as it says", "planes", "channels"]  # what somebody says that a stack is one of

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


def holds_channels(layer: Any, stack: Stack) -> bool:
    """Whether a layer is `(C, Y, X)`, as somebody says or, where nobody does, as it does."""
    if not _is_stack(layer):
        return False
    return stack == CHANNELS or (stack == "as it says" and first_axis(layer) == CHANNELS)


def finest(layer: Any) -> Any:
    """The pixels of a layer, of a pyramid those of its finest level."""
    return layer.data[0] if getattr(layer, "multiscale", False) else layer.data


def _is_stack(layer: Any) -> bool:
    """Whether a layer has three axes besides colours."""
    shape = finest(layer).shape
    return len(shape) - bool(layer.rgb) == 3 and shape[0] > 1


def require_planes(layers: Sequence[Any], stack: Stack, *, volume: bool) -> None:
    """Refuse a stack of which nobody says whether it is one of planes: pixels do not say it.

    Args:
        layers: the channels of an image; a stack has three axes besides colours.
        stack: what somebody says that it is one of.
        volume: the planes are to make one volume, which times do not.

    Raises:
        ValueError: says what to do.
    """
    for layer in layers:
        if not _is_stack(layer) or holds_channels(layer, stack):
            continue
        what, count = first_axis(layer), finest(layer).shape[0]
        if what == CHANNELS:
            raise ValueError(
                f"the first axis of {layer.name} is one of channels: {SPLIT} parts them; or choose "
                'that for "a stack is"'
            )
        if what == TIMES and volume:
            raise ValueError(
                f"the first axis of {layer.name} is one of times, which make no volume: take each "
                "by itself"
            )
        if what is None and not (stack == PLANES or layer.rgb) and count <= FEW:
            raise ValueError(
                f"{layer.name} does not say whether its {count} are planes or channels. Choose "
                'which for "a stack is", or write layer.axis_labels = ("z", "y", "x") or '
                '("c", "y", "x") in napari\'s console. Where not all channels belong to the image '
                f"{SPLIT} makes layers of them"
            )


def _first(layer: Any, key: str) -> Any:
    """What a layer says of the first of three axes; None: nothing."""
    values = list(getattr(layer, key, ()))
    return values[-3] if len(values) >= 3 else None
