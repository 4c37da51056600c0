"""Run the races and write them into docs/reference/benchmarks.md.

python -m benchmarks                    # all, for which leave a quiet machine half an hour
python -m benchmarks elastic weights    # some
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

SUBJECTS = (
    "elastic",
    "weights",
    "loss",
    "training",
    "inference",
    "memory",
    "scores",
    "start",
    "runtimes",
)
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "benchmarks.md"
BEGIN, END = "<!-- make bench: begin -->", "<!-- make bench: end -->"


def main(words: list[str] | None = None) -> None:
    """Run subjects, print them, and write the page unless told not to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("subjects", nargs="*", choices=[*SUBJECTS, []], help="all if none is named")
    parser.add_argument("--tiny", action="store_true", help="once, at tiny sizes; writes nothing")
    options = parser.parse_args(words)
    subjects = options.subjects or list(SUBJECTS)
    for subject in subjects:
        sections = []
        for section in run(subject, options.tiny):
            print(section, end="\n\n", flush=True)
            sections.append(section)
        if not options.tiny:
            write(sections, subject)


def run(subject: str, tiny: bool) -> Iterator[str]:
    """One section of Markdown a race."""
    module = importlib.import_module(f"benchmarks.{subject}")
    for race in module.races(tiny):
        yield race.report(once=tiny)


def write(sections: list[str], subject: str, page: Path = PAGE) -> None:
    """Replace what an earlier run wrote of one subject; the others keep theirs, and their date."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    written, after = rest.split(END)
    blocks = dict(re.findall(r"<!-- (\w+) -->\s*(.*?)\s*(?=<!-- |\Z)", written, re.DOTALL))
    blocks[subject] = "\n\n".join([f"`python -m benchmarks {subject}`; {machine()}.", *sections])
    kept = [f"<!-- {name} -->\n\n{blocks[name]}" for name in SUBJECTS if name in blocks]
    page.write_text(before + "\n\n".join([BEGIN, *kept, END]) + after, encoding="utf-8")


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
