"""What an exported file says of itself: its input, and what of the plan it leaves out."""

from __future__ import annotations

from typing import Any

from unet_med import __version__
from unet_med.bundle import find_weights
from unet_med.data.checksum import sha256
from unet_med.export.left_out import left_out
from unet_med.export.trained import TrainedBundle

CARD = "unet_med.json"  # name of the entry inside the file


def card_of(trained: TrainedBundle, *, by_image: bool) -> dict[str, Any]:
    """The card of an export, plain values only.

    Args:
        trained: the bundle.
        by_image: batch normalisation takes the statistics of each image.
    """
    tiling, metadata = trained.tiling, trained.metadata
    return {
        "made_by": f"unet-med {__version__}",
        "name": metadata["name"],
        "version": metadata["version"],
        "weights_sha256": sha256(find_weights(trained.folder)),
        "image": "standardised (B, C, X, Y[, Z])",
        "sides": {
            "smallest": tiling.smallest,
            "step": tiling.stride,
            "lost_per_side": tiling.lost,
        },
        "statistics": "inputs mean and variance" if by_image else "recorded in training",
        "left_out": left_out(trained.differing_ids(by_image=by_image)),
    }
