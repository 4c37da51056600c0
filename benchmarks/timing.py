"""Timing that survives a busy machine: contestants take turns, medians and their ratios count."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import ModuleType

import torch

Times = dict[str, list[float]]


@dataclass(frozen=True)
class Limit:
    """What one contestant's figure must be, against another's in the same race.

    Attributes:
        ours: contestant.
        other: the peer, or the limit.
        at_most: largest ours / other, or None.
        at_least: least other / ours, or None.
    """

    ours: str
    other: str
    at_most: float | None = None
    at_least: float | None = None

    def sentence(self, times: Times) -> str:
        """The ratio, the bound, and whether it holds."""
        ratio = median(ratios(times[self.ours], times[self.other]))
        if self.at_most is not None:
            met = ratio <= self.at_most
            text = f"{self.ours}: **{ratio:.2f} x** {self.other}, at most {self.at_most:g} x"
        else:
            met = 1 / ratio >= (self.at_least or 0)
            text = f"{self.other}: **{1 / ratio:.1f} x** {self.ours}, at least {self.at_least:g} x"
        return f"{text}: {'met' if met else 'not met'}"


@dataclass(frozen=True)
class Bound:
    """The most that one contestant's figure may be."""

    ours: str
    other: str  # what is taken off first: Python's own start
    at_most: float

    def sentence(self, times: Times) -> str:
        """The figure, the bound, and whether it holds."""
        pairs = zip(times[self.ours], times[self.other], strict=True)
        figure = median(a - b for a, b in pairs)
        met = "met" if figure <= self.at_most else "not met"
        return (
            f"{self.ours}: **{figure:.0f}** more than {self.other}, at most {self.at_most:g}: {met}"
        )


@dataclass
class Race:
    """Contestants that do the same work.

    Attributes:
        title: what the work is.
        tasks: contestants by name; each call does the work once. Where `unit` is not ms they
            return the figure themselves.
        limits: what must hold; those with a contestant that is missing are left out.
        threads: of torch.
        seconds: about how long to repeat; what takes a quarter of it runs once.
        missing: peers that are not installed.
        unit: of the figures.
    """

    title: str
    tasks: dict[str, Callable[[], object]]
    limits: Sequence[Limit | Bound] = ()
    threads: int = 1
    seconds: float = 6.0
    missing: list[str] = field(default_factory=list)
    unit: str = "ms"

    def add_peer(self, package: str, name: str, make: Callable[[ModuleType], Callable]) -> None:
        """Enter a contestant of a package that may not be installed."""
        try:
            module = importlib.import_module(package)
        except ImportError:
            self.missing.append(f"{name} (pip install {package.partition('.')[0]})")
            return
        self.tasks[name] = make(module)

    def run(self, once: bool = False) -> Times:
        """Figures of every contestant, round after round; one round if `once`."""
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            times: Times = {name: [self._figure(task)] for name, task in self.tasks.items()}
            again = {n: t for n, t in self.tasks.items() if not self._slow(times[n][0])}
            start, rounds = time.perf_counter(), 0
            while not once and (
                rounds < 3 or (again and time.perf_counter() - start < self.seconds)
            ):
                rounds += 1
                for name, figures in times.items():
                    figures.append(self._figure(again[name]) if name in again else figures[0])
        finally:
            torch.set_num_threads(before)
        return {name: figures[0 if once else 1 :] for name, figures in times.items()}  # warmed up

    def _slow(self, figure: float) -> bool:
        return self.unit == "ms" and figure > 1e3 * self.seconds / 4

    def _figure(self, task: Callable[[], object]) -> float:
        start = time.perf_counter()
        value = task()
        return (time.perf_counter() - start) * 1e3 if self.unit == "ms" else float(value)  # type: ignore[arg-type]

    def report(self, once: bool = False) -> str:
        """A section of Markdown: the table, the limits, who was missing."""
        times = self.run(once)
        first = next(iter(times))
        lines = [
            f"### {self.title}",
            "",
            f"| contestant | {self.unit} | x {first} |",
            "|---|---|---|",
        ]
        for name, figures in times.items():
            ratio = median(ratios(figures, times[first]))
            lines.append(f"| {name} | {median(figures):.3g} | {ratio:.2f} |")
        lines += ["", f"{len(times[first])} rounds, {self.threads} thread(s)."]
        for limit in self.limits:
            if limit.ours in times and limit.other in times:
                lines += ["", f"* {limit.sentence(times)}"]
        lines += [line for name in self.missing for line in ("", f"* not installed: {name}")]
        return "\n".join(lines)


def ratios(ours: Sequence[float], others: Sequence[float]) -> list[float]:
    """Ratios within each round, so that a disturbance hits both."""
    return [a / b for a, b in zip(ours, others, strict=True)]


def all_cores() -> int:
    """Threads for what uses the whole machine."""
    return os.cpu_count() or 1
