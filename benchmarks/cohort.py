"""Train on a cohort that is larger than memory, and say how much memory that takes.

    python benchmarks/cohort.py                       # 200 volumes of 256^3: 27 GB of disk
    python benchmarks/cohort.py --volumes 8 --side 64 --memory 0.02

Generates CT-like volumes (int16, uncompressed NIfTI) with two classes, runs the real command, and
compares tiles from memory with those from files. Images may take half of the free memory, as in
any training, or `--memory` GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch

from unet_med import bundle

SAMPLED_S = 0.05  # time between two looks at the memory of the training
FEATURES = [4, 8]
TILE = 32  # px
TILES = 16  # to compare


def generate(folder: Path, volumes: int, side: int) -> None:
    """Two balls in noise, shifted and offset for each case, so that no two files are equal."""
    rng = np.random.default_rng(0)
    axes = np.ogrid[:side, :side, :side]
    label = np.zeros((side,) * 3, np.uint8)
    for number, (centre, radius) in enumerate(((0.35, 0.16), (0.65, 0.2)), 1):
        label[sum((axis - centre * side) ** 2 for axis in axes) < (radius * side) ** 2] = number
    image = label * np.int16(400)
    image += rng.integers(-200, 200, image.shape, dtype=np.int16)
    for k in range(volumes):
        shift = int(rng.integers(side // 4))
        for name, array in (("imagesTr", image + np.int16(k)), ("labelsTr", label)):
            path = folder / name / f"case_{k:03d}.nii"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(np.roll(array, shift, axis=0), np.eye(4)), path)


def train(data: Path, output: Path, volumes: int, memory: float | None) -> subprocess.Popen[bytes]:
    """`unet-med train`, one pass over the volumes, a tile of each."""
    config = data / "memory.json"
    settings = {"cache::max_bytes": memory and int(memory * 1e9), "tiles_per_epoch": volumes}
    config.write_text(json.dumps(settings))
    line = ["train", "--images", data / "imagesTr", "--labels", data / "labelsTr"]
    line += ["--label-kind", "classes", "--features", *FEATURES, "--tile-size", TILE]
    line += ["--epochs", 1, "--validation", 0.01, "--device", "cpu", "--config", config]
    words = [*map(str, line), "--output", str(output)]
    return subprocess.Popen([sys.executable, "-W", "ignore", "-m", "unet_med", *words])


def memory_of(process: subprocess.Popen[bytes]) -> Iterator[tuple[int, int]]:
    """Resident bytes of a process that no file backs, and those that mapped files back, by time."""
    while process.poll() is None:
        try:
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8").splitlines()
        except OSError:
            return
        kB = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
        if kB:
            yield int(kB["RssAnon"]) << 10, int(kB["RssFile"]) << 10
        time.sleep(SAMPLED_S)


def peaks(process: subprocess.Popen[bytes]) -> tuple[float, float, float]:
    """Highest anonymous, file-backed and whole resident memory of a command, GB."""
    seen = [*memory_of(process)]
    if process.wait():
        raise SystemExit(f"the training ended with {process.returncode}")
    anonymous, mapped = (max(column) / 1e9 for column in zip(*seen, strict=True))
    whole = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    return anonymous, mapped, whole


def compare(output: Path, data: Path, folder: Path) -> int:
    """Tiles of four volumes by the training's own chain, from memory and from files; how many."""
    settings = {
        "dataset_dir": str(data),
        "train::dataset::data": "$@pairs[:4]",
        "train::dataset::progress": False,
        "tiles_per_epoch": TILES,
    }
    sets = []
    for more in ({"cache::spill": None}, {"cache_dir": str(folder)}):
        workflow = bundle.load_workflow(output, "train", {**settings, **more})
        sets.append(workflow.parser.get_parsed_content("train::dataset"))
    for k in range(TILES):
        memory, files = (tiles[k] for tiles in sets)
        for key in ("image", "label", "weight"):
            assert memory[key].dtype == files[key].dtype
            assert memory[key].numpy().tobytes() == files[key].numpy().tobytes()
    return TILES


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--volumes", type=int, default=200)
    parser.add_argument("--side", type=int, default=256, help="px")
    parser.add_argument("--memory", type=float, help="GB that the images may take")
    parser.add_argument("--folder", help="for data, files and bundle (a temporary one)")
    args = parser.parse_args(words)
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        run(Path(name), args.volumes, args.side, args.memory)


def run(folder: Path, volumes: int, side: int, memory: float | None) -> None:
    """Generate, train, compare, and print each figure."""
    data, output = folder / "data", folder / "bundle"
    generate(data, volumes, side)
    size = volumes * side**3 / 1e9  # float32 and int32 in memory, float32 and uint8 in files
    print(f"{volumes} volumes of {side}^3: {8 * size:.3g} GB in memory, {5 * size:.3g} in files")
    began = time.monotonic()
    anonymous, mapped, whole = peaks(train(data, output, volumes, memory))
    print(f"peak memory: {anonymous:.2f} GB its own, {mapped:.2f} mapped, {whole:.2f} in all")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    assert not (output / "models" / "image_cache").exists()
    print(f"{compare(output, data, folder / 'files')} tiles are equal to the bit")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
