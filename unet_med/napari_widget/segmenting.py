"""A trained bundle as a widget of napari: the layer in, a Labels layer out.

Only `segment_widget` needs napari; the rest works on arrays and on whatever has the attributes
of a layer.
"""

# No `from __future__ import annotations`: magicgui reads the annotations of the widget.

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

from unet_med.errors import hush_decoder, one_line, user_error
from unet_med.napari_widget.fields import in_napari
from unet_med.napari_widget.first_axis import (
    SPLIT,
    Stack,
    finest,
    holds_channels,
    require_planes,
)

Array = NDArray[Any]
Output = Literal["instances", "mask"]
LayerData = tuple[Array, dict[str, Any], str]

ORIENTATION = "unet_med_orientation"  # of a layer's metadata: where X, Y and Z end in the body
NOTES = "unet_med_notes"  # of a result's metadata: how its image is unlike those of the training

# Where a layer lies in the world; what a napari does not know is left out.
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def segment_array(
    image: Array,
    bundle: str | Path,
    output: Output = "instances",
    *,
    spacing: tuple[float, ...] | None = None,
    orientation: str | None = None,
    trust: bool = False,
    on_tile: Callable[[int], None] | None = None,
) -> Array:
    """Segment an array with a trained bundle, as `unet-med predict` would its file.

    Args:
        image: `(C, X, Y[, Z])`, grey values as in the file.
        bundle: folder that `unet-med train` made.
        output: `"instances"`, or the `"mask"` or classes.
        spacing: pixel size, um, `(X, Y[, Z])`; a bundle with a working pixel size needs it. For a
            network of planes `(X, Y)` of a stack are enough.
        orientation: where X, Y and Z end, such as `"LPS"`; a bundle with an orientation needs it.
        trust: run also what unet-med's own bundle does not name.
        on_tile: called after each batch of tiles with the number of batches so far.

    Returns:
        Labels `(X, Y[, Z])` of integers.

    Raises:
        ValueError: the folder holds no trained weights, or the image has other channels
            or axes than the network takes, or does not say which way its axes run.
    """
    from unet_med.segmentation import Segmenter

    segment = Segmenter(bundle, trust=trust)
    _count_tiles(segment, on_tile)
    found: Array = getattr(segment(image_of(segment, image, spacing, orientation)), output)
    return found


def _count_tiles(segmenter: Any, on_tile: Callable[[int], None] | None) -> None:
    done = iter(range(1, 1 << 62))
    if on_tile is not None:
        segmenter.network.register_forward_hook(lambda *_: on_tile(next(done)))


def from_layer(layer: Any, stack: Stack = "as it says") -> Array:
    """Pixels of an Image layer, `([Z,] Y, X[, RGB])` or `(C, Y, X)`, as `(C, X, Y[, Z])`.

    Of a pyramid the finest level is taken.

    Args:
        layer: of napari.
        stack: what somebody says that its first axis is one of.

    Raises:
        ValueError: the layer has not two or three axes.
    """
    data = np.asarray(finest(layer))
    axes = data.ndim - bool(layer.rgb)
    if axes not in (2, 3):
        raise ValueError(
            f"layer {layer.name} has {axes} axes; planes (Y, X) and stacks (Z, Y, X) can be "
            f"segmented: {SPLIT} makes a layer of each channel or time"
        )
    channels = np.moveaxis(data, -1, 0) if layer.rgb else data[None]  # (C, [Z,] Y, X)
    channels = data if holds_channels(layer, stack) else channels
    return channels.swapaxes(1, -1)


def from_layers(layers: Sequence[Any], stack: Stack = "as it says") -> Array:
    """Pixels of Image layers that are the channels of one image, `(C, X, Y[, Z])`.

    Raises:
        ValueError: a layer has not two or three axes, or another shape than the first.
    """
    channels = [from_layer(layer, stack) for layer in layers]
    for layer, channel in zip(layers, channels, strict=True):
        if channel.shape[1:] != channels[0].shape[1:]:
            raise ValueError(
                f"layer {layer.name} is {in_words(channel)}, and {layers[0].name} "
                f"{in_words(channels[0])}: channels of one image have one shape"
            )
    return np.concatenate(channels)


def in_words(image: Array) -> str:
    """Shape of an image `(C, X, Y[, Z])`, as napari orders axes.

    >>> in_words(np.zeros((1, 640, 480, 9)))
    '9 x 480 x 640 px'
    """
    return " x ".join(map(str, image.shape[:0:-1])) + " px"


def steps_of(layer: Any) -> list[float]:
    """How far apart a layer's pixels are along its axes, in its units.

    Readers state it as a scale, or in the matrix `affine`, as those of NIfTI do.
    """
    if not hasattr(layer, "data_to_world"):  # it has the attributes of a layer alone
        return [abs(float(size)) for size in layer.scale]
    corners = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)])
    origin, *ends = (np.asarray(layer.data_to_world(corner)) for corner in corners)
    return [float(np.linalg.norm(end - origin)) for end in ends]


def spacing_of(layer: Any, dims: int) -> tuple[float, ...] | None:
    """Pixel size of a layer, um, `(X, Y[, Z])`; None where its units are no lengths."""
    from unet_med.data.pixel_size import unit_um

    units = [unit_um(str(unit)) for unit in getattr(layer, "units", ())][-dims:]
    if len(units) != dims or None in units:
        return None
    pairs = zip(steps_of(layer)[-dims:], units, strict=True)
    return tuple(size * (unit or 1.0) for size, unit in pairs)[::-1]


def stated_spacing(layer: Any, dims: int) -> tuple[float, ...] | None:
    """As `spacing_of`, or `(X, Y)` of a stack whose planes are no known length apart."""
    return spacing_of(layer, dims) or spacing_of(layer, 2)


def spacing_for(
    segmenter: Any, spacing: tuple[float, ...] | None, dims: int
) -> tuple[float, ...] | None:
    """A pixel size of `stated_spacing`, in a bundle's unit, for each of so many axes.

    A network of planes does not see how far they are apart: where that is not known it is 1.
    """
    from unet_med.data.pixel_size import MICROMETRES

    if spacing is None or (len(spacing) < dims and segmenter.spatial_dims == dims):
        return None
    sizes = tuple(size / MICROMETRES[segmenter.unit] for size in spacing)
    return sizes if len(sizes) == dims else (*sizes, 1.0)


def image_of(
    segmenter: Any, pixels: Array, spacing: tuple[float, ...] | None, word: str | None
) -> Any:
    """Pixels of layers, `(C, X, Y[, Z])`, as an image that a bundle takes.

    Args:
        segmenter: of the bundle.
        pixels: of one image.
        spacing: see `stated_spacing`; planes that are no known length apart are images.
        word: see `orientation_of`.
    """
    from unet_med.data.plane_kind import PLANES
    from unet_med.planes import APART
    from unet_med.segmentation.arrays import from_array

    dims = pixels.ndim - 1
    sizes = spacing_for(segmenter, spacing, dims)
    image, _ = from_array(pixels, "CXYZ"[: pixels.ndim], sizes, segmenter.unit, word)
    if spacing is not None and len(spacing) < dims:
        image.meta[PLANES] = APART
    return image


def orientation_of(layer: Any) -> str | None:
    """Where X, Y and Z of a layer end in the body, such as `"LPS"`; None: nobody has said it."""
    word: str | None = getattr(layer, "metadata", {}).get(ORIENTATION)
    return word


def lost_scale(layer: Any, dims: int) -> str:
    """What a file cannot keep of a layer that has no pixel size: unequal scales, or some units.

    Args:
        layer: what is written.
        dims: how many of its last axes are.

    Returns:
        The end of a sentence; empty where nothing is lost.
    """
    from unet_med.data.pixel_size import unit_um

    scale = steps_of(layer)[-dims:]
    units = [str(unit) for unit in getattr(layer, "units", ())][-dims:] or ["pixel"] * dims
    without = [unit for unit in units if unit_um(unit) is None]
    alike = max(scale) <= 1.001 * min(scale) and len(without) == dims
    if not without or alike:
        return ""
    words = f"{' x '.join(f'{size:g}' for size in scale)} ({', '.join(units)})"
    return (
        f"; its scale {words} is not kept: {without[0]} is no unit of length; set one, such as "
        'layer.units = "um", and add it again'
    )


def to_layer(labels: Array, layer: Any, output: Output) -> LayerData:
    """Labels `(X, Y[, Z])` as the data of a Labels layer that lies where the image lies."""
    place = place_of_layer(layer, labels.ndim)
    return labels.T, {"name": f"{layer.name} {output}", **place}, "labels"


def place_of_layer(layer: Any, dims: int) -> dict[str, Any]:
    """Where a layer lies in the world, as what a new layer of so many axes, its last, takes."""
    place = {key: getattr(layer, key) for key in PLACE if hasattr(layer, key)}
    if dims >= len(place.get("scale", ())):
        return place
    counts = {"shear": dims * (dims - 1) // 2}  # one a pair of axes, those of the last ones last
    return {key: _of_last(value, dims, counts.get(key, dims)) for key, value in place.items()}


def _of_last(value: Any, dims: int, count: int) -> Any:
    """A part of a layer's place for its last axes: of an affine, a matrix, or a row of values."""
    if hasattr(value, "set_slice"):
        return value.set_slice(list(range(value.ndim - dims, value.ndim)))
    if np.ndim(value) == 2:
        return value[-dims:, -dims:]
    return value[-count:]


def segment_steps(
    layer: Any,
    bundle: str | Path,
    output: Output = "instances",
    *,
    channels: Sequence[Any] = (),
    stack: Stack = "as it says",
) -> Generator[int, None, LayerData]:
    """Segment a layer; yields the number of batches of tiles done, returns the new layer.

    Args:
        layer: what is segmented.
        bundle: folder that `unet-med train` made.
        output: `"instances"`, or the `"mask"` or classes.
        channels: further layers, which are channels of the same image.
        stack: what somebody says that the first axis of a stack is one of.

    Raises:
        ValueError: the image does not fit the bundle, or nobody says what a stack is; with the
            fields of napari in place of options.
    """
    tiles: SimpleQueue[int | None] = SimpleQueue()
    layers = [layer, *channels]
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(_segment_layers, layers, bundle, output, stack, tiles.put)
        job.add_done_callback(lambda _: tiles.put(None))
        while (count := tiles.get()) is not None:
            yield count
    error = job.exception()
    if error is not None and user_error(error) is not None:
        raise ValueError(in_napari(one_line(error))) from error
    return job.result()


def _segment_layers(
    layers: Sequence[Any],
    bundle: str | Path,
    output: Output,
    stack: Stack,
    on_tile: Callable[[int], None],
) -> LayerData:
    """The result of layers, with what the bundle says of their image."""
    from unet_med.segmentation import Segmenter

    pixels = from_layers(layers, stack)
    segment = Segmenter(bundle)
    require_planes(layers, stack, volume=segment.spatial_dims == 3)
    _count_tiles(segment, on_tile)
    spacing = stated_spacing(layers[0], pixels.ndim - 1)
    result = segment(image_of(segment, pixels, spacing, orientation_of(layers[0])))
    data, meta, kind = to_layer(getattr(result, output), layers[0], output)
    return data, {**meta, "metadata": {NOTES: in_napari(result.notes)}}, kind


def segment_widget(
    image: "napari.layers.Image",  # type: ignore[name-defined] # noqa: F821
    bundle: Annotated[Path, {"mode": "d", "label": "trained bundle"}],
    output: Output = "instances",
    stack: Annotated[Stack, {"label": "a stack is"}] = "as it says",
) -> "napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]":  # type: ignore[name-defined] # noqa: F821
    """Segment a layer in the background; napari adds the labels when they are there.

    Args:
        image: layer to segment.
        bundle: folder that `unet-med train` made.
        output: what to add.
        stack: what its first axis is one of, where the layer does not say it.

    Returns:
        The worker; its progress shows in napari's activity dock.
    """
    from napari.qt.threading import create_worker
    from napari.utils.notifications import show_warning

    def say(data: LayerData) -> None:
        if notes := data[1]["metadata"][NOTES]:
            show_warning(f"{data[1]['name']}: {notes}")

    hush_decoder()  # napari would show it on its window
    worker = create_worker(
        segment_steps,
        *(image, bundle, output),
        stack=stack,
        _progress={"total": 0, "desc": "segmenting"},
    )
    worker.returned.connect(say)
    worker.yielded.connect(lambda count: worker.pbar.set_description(f"segmenting: {count} tiles"))
    return worker
