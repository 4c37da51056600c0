"""napari: segment a layer with a trained bundle, or annotate, train, correct and continue.

The manifest is `unet_med/napari.yaml`. `segmenting` works on arrays and on whatever has the
attributes of a layer, `session` on folders, `adding` and `next_image` on both, `training` on a
process: none of them needs napari, which `form` does.
"""

from unet_med.napari_widget.segmenting import (
    from_layer,
    segment_array,
    segment_steps,
    segment_widget,
    spacing_of,
    to_layer,
)
from unet_med.napari_widget.session import Session
from unet_med.napari_widget.training import Progress, Training

__all__ = [
    "Progress",
    "Session",
    "Training",
    "from_layer",
    "segment_array",
    "segment_steps",
    "segment_widget",
    "spacing_of",
    "to_layer",
]
