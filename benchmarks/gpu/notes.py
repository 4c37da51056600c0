"""What the stages share: sizes, clocks, and a file that has every fact as soon as it is known."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

DEVICE = torch.device("cuda")
ROOT = Path(__file__).resolve().parents[2]
RESULTS = "results.jsonl"  # by which a folder is known as that of a run


def start_clean(folder: Path) -> str:
    """Make a folder for a run, without what an earlier run left in it; links are not followed.

    Returns:
        What was done, for the person who waits.

    Raises:
        FileExistsError: it holds what no run wrote.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = [path for path in folder.iterdir() if path.name != RESULTS]
    known = (folder / RESULTS).exists()
    if left and not known:
        raise FileExistsError(f"{folder} is no folder of a run: give --output a new or empty one")
    for path in left:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    (folder / RESULTS).unlink(missing_ok=True)  # last: a clean-up that is stopped can be repeated
    found = "what an earlier run left there is gone" if known else "nothing was there"
    return f"starting clean in {folder}: {found}"


@contextmanager
def kernels(*, deterministic: bool = True) -> Iterator[None]:
    """Within the context cuDNN takes deterministic kernels, or the fastest that it finds.

    Trainings and predictions of a bundle have the former (`monai.utils.set_determinism` in the
    configs): what is compared with them has to have them too. What is set within is undone.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = deterministic, not deterministic
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def kernels_now() -> dict[str, bool]:
    """Which kernels cuDNN may take, as columns of a table."""
    cudnn = torch.backends.cudnn
    return {"deterministic": cudnn.deterministic, "benchmark": cudnn.benchmark}


@dataclass
class Notes:
    """Where facts go, and how large and long measurements are.

    Attributes:
        folder: of all that is written.
        data: folder of real images; may be missing.
        tiny: sizes for a run without a GPU; its times say nothing.
        limit: seconds for all stages.
    """

    folder: Path
    data: Path
    tiny: bool
    limit: float
    began: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.limit - (time.monotonic() - self.began)

    @property
    def features(self) -> list[int]:
        """The paper's channels, or few."""
        return [4, 4, 8] if self.tiny else [64, 128, 256, 512, 1024]

    def side(self, preset: str) -> int:
        """Of a training tile, px."""
        sides = {"paper2015": (572, 60), "modern": (192, 48)}
        return sides[preset][self.tiny]

    def note(self, stage: str, **facts: Any) -> None:
        """Write facts down at once, and show them."""
        at = round(time.monotonic() - self.began, 1)
        with (self.folder / RESULTS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "at": at, **facts}, default=str) + "\n")
        shown = ", ".join(f"{name} {fact}" for name, fact in facts.items())
        print(f"[{at:6.1f} s] {stage}: {shown}", flush=True)

    def command(self, name: str, words: list[str], *, seconds: float, **env: str) -> str:
        """Run a program from the root; what it says is in `NAME.txt` at once, however it ends.

        Args:
            name: of the file.
            words: the program and its arguments.
            seconds: after which it is stopped.
            **env: variables that it gets beside those of this process.

        Returns:
            What it says.

        Raises:
            RuntimeError: its status is not 0.
            subprocess.TimeoutExpired: it took longer.
        """
        said = self.folder / f"{name}.txt"
        with said.open("w", encoding="utf-8") as file:
            done = subprocess.run(
                words, cwd=ROOT, env={**os.environ, **env}, stdout=file, stderr=subprocess.STDOUT,
                timeout=seconds, check=False,
            )  # fmt: skip
        text = said.read_text(encoding="utf-8", errors="replace")
        if done.returncode:
            raise RuntimeError(f"{name} ended with {done.returncode}: {text.strip()[-300:]}")
        return text

    def milliseconds(self, run: Callable[[], Any], *, seconds: float = 1.2) -> float:
        """Median time of a call on the GPU, by its own clock, after three calls to warm up."""
        for _ in range(1 if self.tiny else 3):
            run()
        torch.cuda.synchronize()
        times: list[float] = []
        until = time.monotonic() + seconds
        while not times or (not self.tiny and (time.monotonic() < until or len(times) < 5)):
            times.append(self._once(run))
        return median(times)

    def _once(self, run: Callable[[], Any]) -> float:
        if self.tiny:  # the simulated device has no clock
            start = time.perf_counter()
            run()
            return 1000 * (time.perf_counter() - start)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return float(first.elapsed_time(last))
