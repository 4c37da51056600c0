"""Build the simulated device for the torch that is installed, once, and load it before torch."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

HERE = Path(__file__).resolve().parent
CACHE = HERE.parents[1] / "build" / "simulated_cuda"  # git ignores it


class NoCompilerError(RuntimeError):
    """The device cannot be built here."""


class OwnCudaError(RuntimeError):
    """The installed torch knows real GPUs, and a second kind cannot be registered beside them."""


def load() -> None:
    """Load the device into this process.

    Raises:
        NoCompilerError: it is not built yet, and there is no C++ compiler.
        OwnCudaError: torch is a CUDA build.
        RuntimeError: torch was imported before, and has looked for its devices.
    """
    if "torch" in sys.modules:
        raise RuntimeError("torch is imported already: load the simulated device before it")
    if any((_torch() / "lib").glob("*torch_cuda*")):
        raise OwnCudaError("torch is a CUDA build: a GPU is simulated beside a CPU build alone")
    ctypes.CDLL(str(built()), ctypes.RTLD_GLOBAL)


def built() -> Path:
    """The library for this source and the installed torch; 20 s for the first time."""
    source = HERE / "device.cpp"
    version = importlib.metadata.version("torch")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    library = CACHE / f"device-{version}-{digest}.so"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / "lock"):
        if not library.is_file():
            _build(source, library)
    return library


def _build(source: Path, library: Path) -> None:
    names = [os.environ.get("CXX"), "g++", "clang++"]
    compiler = next((name for name in names if name and shutil.which(name)), None)
    if compiler is None:
        raise NoCompilerError("the simulated CUDA device needs a C++ compiler (g++ or clang++)")
    torch = _torch()
    beside = library.with_suffix(".part")
    subprocess.run(
        [
            *(compiler, "-shared", "-fPIC", "-std=c++20", "-O0", "-w"),
            *(f"-I{torch}/include", f"-I{torch}/include/torch/csrc/api/include"),
            *(str(source), "-o", str(beside)),
            *(f"-L{torch}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch}/lib"),
        ],
        check=True,
    )
    beside.replace(library)


def _torch() -> Path:
    """Where torch is installed; it is not imported."""
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
