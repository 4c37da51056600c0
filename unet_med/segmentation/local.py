"""What of a bundle works block by block: all else is refused by its name."""

from __future__ import annotations

from typing import Any

from monai.transforms import (
    Activationsd,
    AsDiscreted,
    CopyItemsd,
    Invertd,
    MapLabelValued,
    SaveImaged,
)

from unet_med.inferers.tiling import Tiling
from unet_med.segmentation.segmenter import LOADING, Segmenter, target_of
from unet_med.transforms import (
    ClassesFromProbabilities,
    ClassesFromProbabilitiesd,
    Confidenced,
    InstancesFromLogits,
    InstancesFromLogitsd,
    ScoreObjectsd,
)
from unet_med.transforms.windowed import Windowed

_KNOWN = (
    *(Activationsd, CopyItemsd, Invertd, AsDiscreted, MapLabelValued),
    *(ClassesFromProbabilitiesd, InstancesFromLogitsd, Confidenced, ScoreObjectsd, SaveImaged),
)


def local_tiling(tiling: Tiling) -> Tiling:
    """The tiling; refuses a network that looks at the whole image."""
    if tiling.whole_image_layer:
        raise ValueError(
            f"{tiling.whole_image_layer} computes statistics over the whole image, so blocks "
            f"cannot equal one pass; use a network with batch normalisation, or with none"
        )
    return tiling


def local_steps(segmenter: Segmenter) -> list[Any]:
    """Preprocessing after loading; refuses what is not known to be local."""
    steps = [t for t in segmenter.preprocessing.transforms if not isinstance(t, LOADING)]
    for step in steps:
        if not hasattr(step, "by_window"):
            raise ValueError(
                f"preprocessing of inference.json has {target_of(step)}, which is not known to "
                f"work block by block; apply it to the source beforehand"
            )
    return steps


def local_rules(
    segmenter: Segmenter, own: Windowed, working: Windowed
) -> tuple[ClassesFromProbabilities, InstancesFromLogits, Confidenced | None]:
    """The bundle's steps from probabilities to classes, instances, and how sure it is of them.

    Refuses what is not known.
    """
    sure: Confidenced | None = None
    classes, instances = ClassesFromProbabilities(), InstancesFromLogits(softmax=False)
    steps = segmenter.postprocessing(["mask", "instances"])
    for step in steps:
        other = isinstance(step, AsDiscreted) and not all(step.argmax)
        if other or not isinstance(step, _KNOWN):
            raise ValueError(
                f"postprocessing of inference.json has {target_of(step)}, which is not known to "
                f"work block by block; take it out there and apply it to the result"
            )
        if isinstance(step, Invertd) and "instances" in step.keys:
            raise ValueError(
                "the bundle finds objects on the network's pixels and enlarges them, as "
                "version 0.1 did, which is not done block by block: give its inference.json the "
                "chain `finish` of `unet-med init`"
            )
        if isinstance(step, ClassesFromProbabilitiesd):
            classes = step.rule
        elif isinstance(step, Confidenced):
            sure = step
        elif isinstance(step, InstancesFromLogitsd):
            instances = step.rule.on_planes(own.meta)
            if step.sizes_of:
                dims = len(own.shape)
                instances = step.rule_between(working.affine, own.affine, dims, own.meta)
    return classes, instances, sure
