"""Run the races and write them into docs/reference/benchmarks.md.

python -m benchmarks                    # all, for which leave a quiet machine half an hour
python -m benchmarks elastic weights    # some
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

SUBJECTS = ("elastic", "weights", "loss", "training", "inference", "memory", "start")
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "benchmarks.md"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"


def main(words: list[str] | None = None) -> None:
    """Run subjects, print them, and write the page unless told not to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="all if none is named")
    parser.add_argument("--tiny", action="store_true", help="once, at tiny sizes; writes nothing")
    options = parser.parse_args(words)
    subjects = options.subjects or list(SUBJECTS)
    sections = []
    for section in run(subjects, options.tiny):
        print(section, end="\n\n", flush=True)
        sections.append(section)
    if not options.tiny:
        write(sections, subjects)


def run(subjects: list[str], tiny: bool) -> Iterator[str]:
    """One section of Markdown a race."""
    for subject in subjects:
        module = importlib.import_module(f"benchmarks.{subject}")
        for race in module.races(tiny):
            yield race.report(once=tiny)


def write(sections: list[str], subjects: list[str], page: Path = PAGE) -> None:
    """Replace what an earlier run wrote between the markers."""
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    command = f"`make bench` (`python -m benchmarks {' '.join(subjects)}`)"
    body = "\n\n".join([BEGIN, f"{command}; {machine()}.", *sections, END])
    page.write_text(before + body + after, encoding="utf-8")


def machine() -> str:
    """Date, hardware and versions in one line."""
    import torch

    packages = ("torch", "monai", "numpy", "scipy")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{date.today().isoformat()}; {os.cpu_count()} cores, {capability}, {platform.machine()}, "
        f"{platform.system()}; Python {platform.python_version()}, {versions}"
    )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # each race sets its own number of threads
    sys.exit(main())
