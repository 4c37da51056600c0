"""Which results of a run the network itself takes for wrong."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from unet_med.transforms.confidence import CONFIDENCE

LEAST = 0.3  # confidence; see decision 0023 for what images and noise have
SHOWN = 3  # images in the line, for a run may have thousands

_log = logging.getLogger(__name__)


def say_doubtful(images: Mapping[str, Mapping[str, Any]]) -> None:
    """Say in one line in which images hardly anything of what was found is there.

    An image in which nothing is found has no confidence, and is none of them.

    Args:
        images: entries of a record, by the name of the results.
    """
    known = ((entry.get(CONFIDENCE), name) for name, entry in images.items())
    doubtful = sorted((sure, name) for sure, name in known if sure is not None and sure < LEAST)
    if not doubtful:
        return
    first = ", ".join(f"{name} ({sure:.2f})" for sure, name in doubtful[:SHOWN])
    more = f" and {len(doubtful) - SHOWN} more" if len(doubtful) > SHOWN else ""
    _log.warning(
        "the network takes most of what it found for wrong (confidence below %g of 1) in %s%s: "
        "they may hold nothing of what it learned, or be of another kind; look at their results "
        "before you use them",
        *(LEAST, first, more),
    )
