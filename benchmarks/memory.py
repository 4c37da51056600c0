"""Peak memory of writing the labels of one image, by its size, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from benchmarks.timing import Limit, Race, all_cores
from benchmarks.volumes import make_bundle, make_source

FEATURES = (4, 8, 16)
PEAK = """
from pathlib import Path
line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
print("peak", int(line.split()[1]) / 1024)  # kB -> MiB
"""
OURS = """
import sys
from unet_med.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
"""
MONAI = """
import sys, numpy, torch, zarr
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import BasicUNet
source, output, features = sys.argv[1], sys.argv[2], eval(sys.argv[3])
image = torch.from_numpy(zarr.open_group(source, mode="r")["0"][0])[None, None].float()
roi = [min(512, side) for side in image.shape[2:]]
network = BasicUNet(2, 1, 2, features).eval()
with torch.no_grad():
    logits = SlidingWindowInferer(roi, overlap=0.25)(image, network)
numpy.save(output, logits.argmax(dim=1).to(torch.uint8).numpy())
"""


def races(tiny: bool) -> Iterator[Race]:
    """The command that writes blocks as they finish, and MONAI's inferer, at growing sizes."""
    sides = (64, 160) if tiny else (1024, 2048, 4096, 8192)
    tasks = {f"unet-med predict, {side}^2": cache(lambda side=side: ours(side)) for side in sides}
    small, *_, large = tasks if tiny else list(tasks)[1:]
    for side in () if tiny else sides:
        name = f"MONAI, overlap 0.25, {side}^2"
        tasks[name] = cache(lambda side=side: monai(side))
    yield Race(
        f"Peak memory, labels of one image to disk, features {FEATURES[0]}..{FEATURES[-1]}",
        tasks,
        [Limit(large, small, at_most=1.1)],
        threads=all_cores(),
        seconds=0,
        unit="MiB",
    )


def ours(side: int) -> float:
    def line(source: Path, folder: Path) -> list[str]:
        model = make_bundle(folder / "bundle", features=list(FEATURES))
        words = ["predict", source, "--bundle", model, "--output", folder / "out.ome.zarr"]
        return [OURS, *map(str, words), "--shard", "0/1"]

    return peak(side, line)


def monai(side: int) -> float:
    features = (*FEATURES, FEATURES[-1], FEATURES[-1], FEATURES[0])
    return peak(side, lambda source, out: [MONAI, str(source), f"{out}/out.npy", str(features)])


def peak(side: int, line: Callable[[Path, Path], list[str]]) -> float:
    """MiB of a process on an image of noise; its own, without its parent's before exec."""
    with tempfile.TemporaryDirectory() as name:
        source = make_source(Path(name) / "in.ome.zarr", (1, side, side), "uint8")
        script, *words = line(source, Path(name))
        return peak_of(script, words)


def peak_of(script: str, words: Sequence[str]) -> float:
    """MiB that a process took at most, which runs a script with these words."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script + PEAK, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return float(done.stdout.split()[-1])
