"""Read a file in a child of its own with limits, and say what came of it."""

from __future__ import annotations

import json
import math
import os
import resource
import time
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs  # noqa: F401  imported here, so that its time and memory are not the file's
import nibabel  # noqa: F401
import PIL.Image  # noqa: F401
import SimpleITK  # noqa: F401
import tifffile  # noqa: F401

from unet_med.data import load_image

if find_spec("zarr"):
    import unet_med.data.protection.zarr_store  # noqa: F401

SECONDS, BYTES = 20, 2 << 30


def verdict(path: Path) -> dict[str, Any]:
    """What the reader says, with CPU seconds and bytes that reading took."""
    begin, base = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        load_image(path)
        said, kind = "read", "read"
    except Exception as error:
        said, kind = str(error), type(error).__name__
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    seconds = time.process_time() - begin
    return {"kind": kind, "said": said, "seconds": seconds, "bytes": peak << 10}


def _limit() -> None:
    """Let this process take so much more memory and time."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    spent = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS, spent + SECONDS))


def in_child(path: Path) -> dict[str, Any]:
    """The verdict of a child; of one that died, its signal."""
    read_end, write_end = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside pytest's threads; in the child, all
        child = os.fork()
        if child == 0:
            _limit()
            os.write(write_end, json.dumps(verdict(path)).encode())
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        said = pipe.read()
    status = os.waitpid(child, 0)[1]
    return json.loads(said) if said else {"kind": "died", "said": f"status {status}"}
