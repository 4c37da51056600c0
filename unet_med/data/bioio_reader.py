"""CZI, ND2, LIF and DeltaVision through bioio and its plug-ins, in a process of their own."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unet_med.data.child import Child
from unet_med.data.file_reader import FileReader, Volume, axes_without, placeholder
from unet_med.data.formats import BIOIO
from unet_med.data.protection import byte_budget
from unet_med.data.tiff_axes import arrange, choose_series, selection

PLUGINS = {  # package of each suffix
    ".czi": "bioio-czi",
    ".nd2": "bioio-nd2",
    ".lif": "bioio-lif",
    ".dv": "bioio-dv",
    ".r3d": "bioio-dv",
}


class BioioReader(FileReader):
    """MONAI reader of Zeiss CZI, Nikon ND2, Leica LIF and DeltaVision, through bioio.

    Axes, pixel size and channels arrive as those of a TIFF do: channels and RGB samples become
    channels, and the affine is `diag(x, y, z, 1)` in micrometres. The libraries are native code
    that meets files of any origin, so they run in a process of their own whose memory is limited.
    Needs the extra `[bioio]`.

    Args:
        series: number of the scene in a file with several.
        time: number of the time point in a time series.
        channel: number of the only channel to read.
        for_label: the choice is that of a label's image, and holds where there are such axes.
        max_bytes: see `FileReader`.
    """

    suffixes = BIOIO.suffixes
    kind = "file of a microscope"

    def __init__(
        self,
        series: int | None = None,
        *,
        time: int | None = None,
        channel: int | None = None,
        for_label: bool = False,
        max_bytes: int | None = None,
    ) -> None:
        super().__init__(max_bytes)
        self.series = series
        self.select = selection(time, channel)
        self.for_label = for_label

    def load(self, path: Path, *, header_only: bool = False) -> Volume:
        """Read one file; see the class."""
        plugin = _plugin_of(path)
        child = _child()
        request: dict[str, Any] = {
            "path": str(path.absolute()),
            "plugin": plugin,
            "most": byte_budget(self.max_bytes),
        }
        about, _ = child.ask(request)
        scenes = [f"{k}: {name}" for k, name in enumerate(about["scenes"])]
        if number := choose_series(scenes, self.series):
            request["scene"] = number
            about, _ = child.ask(request)
        axes, shape, take = _without_single(about["axes"], about["shape"])
        select = {k: v for k, v in self.select.items() if k in axes or not self.for_label}
        whole, has_channels = arrange(placeholder(shape, about["dtype"]), axes, select)  # or refuse
        self.require_memory(math.prod(whole.shape) * whole.dtype.itemsize)
        array = whole
        if not header_only:
            chosen = {k: v for k, v in select.items() if k in axes}  # samples stay: `arrange` takes
            _, pixels = child.ask({**request, "take": {**take, **chosen}})
            left = "".join(axis for axis in axes if axis not in chosen)
            rest = {k: v for k, v in select.items() if k not in chosen}
            array, _ = arrange(np.asarray(pixels), left, rest)
            if array.shape != whole.shape:
                raise ValueError(f"its data has shape {array.shape}, not {whole.shape}")
        return _volume(array, has_channels, about)


def _volume(array: np.ndarray, has_channels: bool, about: Mapping[str, Any]) -> Volume:
    """The pixels with what the file says of them."""
    dims = array.ndim - has_channels
    known = [s if s and 0 < abs(s) < math.inf else None for s in about["sizes"][::-1][:dims]]
    affine = np.eye(4)
    affine[range(dims), range(dims)] = [abs(size or 1.0) for size in known]
    names = tuple(about["channel_names"])
    names = names if has_channels and len(names) == len(array) else ()
    source = "bioio" if all(known) else "assumed"
    return Volume(array, has_channels, affine, "um", source, names, axes_without(known))


def _without_single(axes: str, shape: list[int]) -> tuple[str, list[int], dict[str, int]]:
    """Axes and sides without those of length 1 but x and y, as tifffile has them; their index."""
    kept = [k for k, axis in enumerate(axes) if shape[k] != 1 or axis in "YX"]
    take = {axis: 0 for k, axis in enumerate(axes) if k not in kept}
    return "".join(axes[k] for k in kept), [shape[k] for k in kept], take


def _plugin_of(path: Path) -> str:
    """Module of the plug-in for a file.

    Raises:
        ImportError: it is not installed; the message has the command.
    """
    package = next(p for suffix, p in PLUGINS.items() if path.name.lower().endswith(suffix))
    module = package.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        own = package == "bioio-dv"  # which no extra has: its files are old
        line = f"pip install {package}" if own else "pip install 'unet-med[bioio]'"
        raise ImportError(f"{path.suffix} files need {package}: {line}")
    return module


@cache
def _child() -> Child:
    """The one process of these readers."""
    return Child("unet_med.data.bioio_child")
