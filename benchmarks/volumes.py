"""What block-wise inference survives, how much memory a worker takes, how fast it is.

    python benchmarks/volumes.py kill --rounds 10
    python benchmarks/volumes.py memory --gigabytes 0.25 4
    python benchmarks/volumes.py rate --features 16 32 64 128 256

Each makes its own source and an untrained bundle in a temporary folder and runs the real command
in processes of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from unet_med import bundle
from unet_med.networks import unet


def make_bundle(folder: Path, **choices: Any) -> Path:
    bundle.copy_bundle(folder)
    config = folder / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | choices))
    torch.manual_seed(0)
    torch.save(unet(**choices).state_dict(), folder / "models" / "model.pt")
    return folder


def make_source(path: Path, shape: Sequence[int], dtype: str) -> Path:
    """OME-Zarr of noise, plane by plane."""
    group = zarr.create_group(path, zarr_format=3)
    chunks = (1, *(min(n, 1024) for n in shape[1:]))
    array = group.create_array("0", shape=tuple(shape), chunks=chunks, dtype=dtype)
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{
        "axes": [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [
            {"type": "scale", "scale": [1.0, 0.5, 0.5]}]}],
    }]}  # fmt: skip
    rng = np.random.default_rng(0)
    for z in range(shape[0]):
        array[z] = rng.integers(0, 255, tuple(shape[1:]), dtype=np.uint8)
    return path


def start(source: Path, folder: Path, output: Path, *words: Any) -> subprocess.Popen[bytes]:
    """The command, in a process group of its own."""
    line = ["predict", source, "--bundle", folder, "--output", output, *words]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "unet_med", *map(str, line)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def markers(output: Path) -> dict[str, str]:
    done = Path(f"{output}.job") / "done"
    return {p.name: p.read_text() for p in done.glob("[0-9]*.json")}


def contents(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


def kill(folder: Path, rounds: int) -> None:
    """Kill -9 the whole tree at random moments; what is resumed must equal an undisturbed run."""
    model = make_bundle(folder / "bundle", features=[8, 16])
    source = make_source(folder / "in.ome.zarr", (rounds * 16, 128, 128), "uint8")
    words = ("--block", 2, 64, 64, "--workers", 2)
    assert start(source, model, folder / "whole.ome.zarr", *words).wait() == 0
    output, blocks = folder / "out.ome.zarr", rounds * 8 * 4
    for number in range(rounds):
        before = markers(output)
        process = start(source, model, output, *words, "--resume")
        moment = len(before) + random.Random(number).randrange(1, blocks // rounds)
        while process.poll() is None and len(markers(output)) < moment:
            time.sleep(0.003)
        time.sleep(random.Random(-number).random() * 0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        after = markers(output)
        again = sum(after.get(name) != text for name, text in before.items())
        print(f"kill {number + 1}: {len(after)} of {blocks} blocks done, {again} done again")
        assert again == 0
    before = markers(output)
    assert start(source, model, output, *words, "--resume").wait() == 0
    after = markers(output)
    assert len(after) == blocks
    assert all(after[name] == text for name, text in before.items())
    assert contents(output) == contents(folder / "whole.ome.zarr")
    print(f"{rounds} kills: output equal byte for byte, no finished block done again")


def memory(folder: Path, gigabytes: Sequence[float]) -> None:
    """Peak resident memory of a worker, by the operating system's own accounting."""
    model = make_bundle(folder / "bundle", features=[2, 4])
    peaks = []
    for size in gigabytes:
        planes = round(size * 1e9 / (4 * 2048 * 2048))
        source = make_source(folder / f"{size}.ome.zarr", (planes, 2048, 2048), "float32")
        process = start(source, model, folder / f"{size}-out.ome.zarr", "--shard", "0/1")
        _, status, usage = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(usage.ru_maxrss)
        print(f"{size} GB: peak {usage.ru_maxrss / 1024:.0f} MiB, {usage.ru_utime:.0f} s of CPU")
    print(f"ratio {max(peaks) / peaks[0]:.3f}")
    assert max(peaks) / peaks[0] <= 1.1


def rate(folder: Path, features: Sequence[int], preset: str, planes: int) -> None:
    """Voxels a second of one worker with one thread, from the seconds in the markers."""
    model = make_bundle(folder / "bundle", features=list(features), preset=preset)
    source = make_source(folder / "in.ome.zarr", (planes, 2048, 2048), "uint8")
    output = folder / "out.ome.zarr"
    began = os.times().children_user
    assert start(source, model, output, "--shard", "0/1").wait() == 0
    busy = os.times().children_user - began
    seconds = sum(json.loads(text)["seconds"] for text in markers(output).values())
    voxels = planes * 2048 * 2048
    print(f"{preset} {list(features)}: {voxels / seconds / 1e6:.2f} Mvoxel/s by the clock")
    print(f"{voxels / busy / 1e6:.2f} Mvoxel a second of CPU, imports and first pass included")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("kill", "memory", "rate"))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.25, 4])
    parser.add_argument("--features", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    parser.add_argument("--preset", default="modern")
    parser.add_argument("--planes", type=int, default=4)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.what == "kill":
            kill(folder, args.rounds)
        elif args.what == "memory":
            memory(folder, args.gigabytes)
        else:
            rate(folder, args.features, args.preset, args.planes)


if __name__ == "__main__":
    main()
