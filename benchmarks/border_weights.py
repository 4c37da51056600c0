"""Generated cells with the paper's border weights and without them, as the demo trains on them.

    python -m benchmarks.border_weights          # two trainings of two minutes, in runs/

The rows stand in docs/reference/benchmarks.md. Close other work: the budgets are
minutes of the clock.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from unet_med.bundle import copy_bundle
from unet_med.cli import demo


def main() -> None:
    """Print the mean SEG of both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("runs"))
    output = parser.parse_args().output
    for w0 in (10.0, 0.0):
        folder = copy_bundle(output / f"w0={w0:g}")
        test = demo.generate(output / "data", seed=0)[:-1]  # the images, not the volume
        demo.train(folder, output / "data", {"minutes": 2.0, "seed": 0, "w0": w0})
        demo.predict(folder, [image for image, _ in test], folder / "results")
        scores = [demo.instance_scores(label, folder / "results")["SEG"] for _, label in test]
        print(f"w0 = {w0:g}: mean SEG {sum(scores) / len(scores):.4f}", flush=True)


if __name__ == "__main__":
    main()
