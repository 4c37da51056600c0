"""What the stages share: sizes, clocks, and a file that has every fact as soon as it is known."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch

DEVICE = torch.device("cuda")


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
        with (self.folder / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, "at": at, **facts}, default=str) + "\n")
        shown = ", ".join(f"{name} {fact}" for name, fact in facts.items())
        print(f"[{at:6.1f} s] {stage}: {shown}", flush=True)

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
