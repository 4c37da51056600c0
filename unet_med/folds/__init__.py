"""Networks that judge images which they have not seen, and what more images would buy.

`train` does what `unet-med train --folds` and `--learning-curve` do with a bundle that is laid.
"""

from __future__ import annotations

from unet_med.folds.training import Judgement, train

__all__ = ["Judgement", "train"]
