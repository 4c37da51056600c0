"""A trained bundle as a widget of napari: the layer in, a Labels layer out.

The manifest is `napari.yaml`. Only `segment_widget` needs napari; the rest works on
arrays and on whatever has the attributes of a layer.
"""

# No `from __future__ import annotations`: magicgui reads the annotations of the widget.

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Output = Literal["instances", "mask"]
LayerData = tuple[Array, dict[str, Any], str]

# Where a layer lies in the world; what a napari does not know is left out.
PLACE = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def segment_array(
    image: Array,
    bundle: str | Path,
    output: Output = "instances",
    *,
    on_tile: Callable[[int], None] | None = None,
) -> Array:
    """Segment an array with a trained bundle, as `unet-med predict` would its file.

    Args:
        image: `(C, X, Y[, Z])`, grey values as in the file.
        bundle: folder that `unet-med train` made.
        output: `"instances"`, or the `"mask"` or classes.
        on_tile: called after each batch of tiles with the number of batches so far.

    Returns:
        Labels `(X, Y[, Z])` of integers.

    Raises:
        ValueError: the folder holds no trained weights, or the image has other channels
            or axes than the network takes.
    """
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms import LoadImaged, SaveImaged

    from unet_med.bundle import find_weights
    from unet_med.networks import load_weights

    parser = _parser(Path(bundle))
    parser["outputs"] = [output]
    network = parser.get_parsed_content("network").eval()
    load_weights(network, find_weights(bundle))
    done = iter(range(1, 1 << 62))
    if on_tile is not None:
        network.register_forward_hook(lambda *_: on_tile(next(done)))
    item: Any = {"image": MetaTensor(torch.as_tensor(np.ascontiguousarray(image, np.float32)))}
    for transform in parser.get_parsed_content("preprocessing").transforms:
        item = item if isinstance(transform, LoadImaged) else transform(item)
    device = parser.get_parsed_content("device")
    with torch.no_grad():
        logits = parser.get_parsed_content("inferer")(item["image"][None].to(device), network)
    item["pred"] = logits[0].cpu()  # (K, X, Y[, Z])
    for transform in parser.get_parsed_content("postprocessing").transforms:
        item = item if isinstance(transform, SaveImaged) else transform(item)
    return item[output][0].numpy().astype(np.int32)


def from_layer(layer: Any) -> Array:
    """Pixels of an Image layer, `([Z,] Y, X[, RGB])`, as `(C, X, Y[, Z])`.

    Of a pyramid the finest level is taken.

    Raises:
        ValueError: the layer has not two or three axes.
    """
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    axes = data.ndim - bool(layer.rgb)
    if axes not in (2, 3):
        raise ValueError(
            f"layer {layer.name} has {axes} axes; planes (Y, X) and stacks (Z, Y, X) can be "
            "segmented: select one channel or one time first"
        )
    channels = np.moveaxis(data, -1, 0) if layer.rgb else data[None]  # (C, [Z,] Y, X)
    return channels.transpose(0, *range(channels.ndim - 1, 0, -1))


def to_layer(labels: Array, layer: Any, output: Output) -> LayerData:
    """Labels `(X, Y[, Z])` as the data of a Labels layer that lies where the image lies."""
    place = {key: getattr(layer, key) for key in PLACE if hasattr(layer, key)}
    return labels.T, {"name": f"{layer.name} {output}", **place}, "labels"


def segment_steps(
    layer: Any, bundle: str | Path, output: Output = "instances"
) -> Generator[int, None, LayerData]:
    """Segment a layer; yields the number of batches of tiles done, returns the new layer."""
    tiles: SimpleQueue[int | None] = SimpleQueue()
    image = from_layer(layer)
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(segment_array, image, bundle, output, on_tile=tiles.put)
        job.add_done_callback(lambda _: tiles.put(None))
        while (count := tiles.get()) is not None:
            yield count
    return to_layer(job.result(), layer, output)


def segment_widget(
    image: "napari.layers.Image",  # type: ignore[name-defined] # noqa: F821
    bundle: Annotated[Path, {"mode": "d", "label": "trained bundle"}],
    output: Output = "instances",
) -> "napari.qt.threading.FunctionWorker[napari.types.LayerDataTuple]":  # type: ignore[name-defined] # noqa: F821
    """Segment a layer in the background; napari adds the labels when they are there.

    Args:
        image: layer to segment.
        bundle: folder that `unet-med train` made.
        output: what to add.

    Returns:
        The worker; its progress shows in napari's activity dock.
    """
    from napari.qt.threading import create_worker

    worker = create_worker(
        segment_steps, image, bundle, output, _progress={"total": 0, "desc": "segmenting"}
    )
    worker.yielded.connect(lambda count: worker.pbar.set_description(f"segmenting: {count} tiles"))
    return worker


def _parser(bundle: Path) -> Any:
    """The inference config of a bundle; nothing of it is built yet."""
    from monai.bundle import ConfigParser

    from unet_med.bundle import find_weights

    find_weights(bundle)
    parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / "inference.json"))
    parser["bundle_root"] = str(bundle)
    return parser
