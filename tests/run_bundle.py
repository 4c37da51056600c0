"""MONAI's `bundle run` with options as JSON: Fire, which reads words, may be missing at a GPU."""

from __future__ import annotations

import json
import sys

from monai.bundle import run

if __name__ == "__main__":
    run(**json.loads(sys.argv[1]))
