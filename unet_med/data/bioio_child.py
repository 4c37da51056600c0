"""Program that reads microscope files by bioio, for `unet_med.data.bioio_reader`.

It runs in a process of its own, `python -m unet_med.data.bioio_child`: a library that crashes or
wants too much memory takes this process with it, and no other. Each line of stdin is a request
as JSON; the answer is a line of JSON, and after it the pixels, where these are asked for.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SLACK = 1 << 30  # bytes that a library may need besides the pixels
COPIES = 3  # of the pixels that bioio holds at a time
_SPACE = "ZYX"


def main(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer requests until there are no more."""
    for line in requests:
        request = json.loads(line)
        pixels: np.ndarray[Any, Any] | None = None
        try:
            plugin = importlib.import_module(request["plugin"])
            limit_memory(COPIES * request["most"] + SLACK)  # before the libraries see a file
            image = _opened(plugin, request)
            answer = _about(image)
            if "take" in request:
                pixels = _pixels(image, request["take"], answer["axes"])
                answer |= {"shape": pixels.shape, "dtype": pixels.dtype.str}
        except MemoryError:
            answer = {"error": "it needs more memory than the limit allows, see --max-bytes"}
        except Exception as error:
            answer = {"error": " ".join(str(error).split())[:400] or type(error).__name__}
        answers.write(json.dumps(answer).encode() + b"\n")
        if pixels is not None and "error" not in answer:
            answers.write(np.ascontiguousarray(pixels).data.cast("B"))
        answers.flush()


def limit_memory(more: int) -> None:
    """Let this process take so many more bytes of address space, where a system can say so."""
    statm = Path("/proc/self/statm")
    if sys.platform == "win32" or not statm.is_file():
        return
    import resource

    now = int(statm.read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = now + more if hard == resource.RLIM_INFINITY else min(now + more, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _opened(plugin: Any, request: dict[str, Any]) -> Any:
    """The scene of a file that is asked for, in the reader of its plug-in."""
    image = plugin.Reader(request["path"])
    if request["plugin"] == "bioio_czi":
        _require_scenes(image)
    if request.get("scene") is not None:
        image.set_scene(image.scenes[request["scene"]])
    return image


def _require_scenes(image: Any) -> None:
    """Refuse a CZI of more scenes than its metadata describe: bioio shows the first alone."""
    size = image.metadata.find("./Metadata/Information/Image/SizeS")
    count = 1 if size is None or not size.text else int(size.text)
    if count > len(image.scenes):
        raise ValueError(
            f"it holds {count} scenes, and its metadata describe {len(image.scenes)}: save the one "
            "you want in a file of its own"
        )


def _lazy(image: Any) -> Any:
    """The pixels of a scene, not yet read; of tiles side by side one image."""
    lazy = image.xarray_dask_data
    return image.mosaic_xarray_dask_data if "M" in lazy.dims else lazy


def _about(image: Any) -> dict[str, Any]:
    """What the file says of a scene, before its pixels are read."""
    lazy = _lazy(image)
    sizes = image.physical_pixel_sizes
    names = lazy.coords["C"].values.tolist() if "C" in lazy.coords else []
    return {
        "scenes": [str(scene) for scene in image.scenes],
        "axes": "".join(str(axis) for axis in lazy.dims),
        "shape": lazy.shape,
        "dtype": np.dtype(lazy.dtype).str,
        "sizes": [_number(getattr(sizes, axis, None)) for axis in _SPACE],
        "channel_names": [str(name) for name in names],
    }


def _pixels(image: Any, take: dict[str, int], axes: str) -> np.ndarray[Any, Any]:
    """Pixels of one index along some axes, all of the others."""
    index = tuple(take.get(axis, slice(None)) for axis in axes)
    lazy = _lazy(image).data[index]
    return np.asarray(lazy.compute(scheduler="synchronous"))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


if __name__ == "__main__":
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a library prints is no answer
    main(sys.stdin.buffer, answers)
