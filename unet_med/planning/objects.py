"""How a prediction becomes objects, before held-out images have had their say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_med.planes import APART, JOINED
from unet_med.planning.fingerprints import LARGE, Fingerprint
from unet_med.planning.labels import min_size
from unet_med.planning.plan import ASKED, Decision, Decisions, Plan
from unet_med.planning.sizes import median_size, median_width

GROW = 2  # px: as `grow` of inference.json
SEEDS = {2: 0.4, 3: 0.8}  # in a volume one voxel joins two objects, and they share more of them
MASKS = {2: 0.3, 3: 0.4}  # of the nets of `modern`, on training images: see decision 0009
PART = 0.1  # of a large object: see decision 0009
FARTHEST = 8  # px: what a block must know of its neighbours
FITTED = "fitted on "
LEAST = 3  # held-out images: fewer do not tell one choice from another
CHOSEN = ("threshold", "mask_threshold", "min_size")  # what they choose


def decide_objects(
    found: Fingerprint,
    ids: Mapping[str, Any],
    asked: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
) -> Decisions:
    """`threshold`, `mask_threshold`, `reach`, `min_size` and `min_part` of objects.

    Args:
        found: what the files say.
        ids: with their values: `preset`, `label_kind`, `spatial_dims` and what decides the
            network's pixels.
        asked: ids with values that hold.
        source: the bundle that the training starts from, as a plan keeps it.
    """
    decided = _planned(found, ids)
    if decided["threshold"].value is not None:
        why = f"as {(source or {}).get('name')} begins them"
        decided |= {id: Decision(v, why) for id, v in (source or {}).get("objects", {}).items()}
    held = {id: Decision(value, ASKED) for id, value in (asked or {}).items() if id in decided}
    seed, mask = ({**decided, **held}[id] for id in ("threshold", "mask_threshold"))
    if mask.value is not None and "mask_threshold" not in held and seed.value < mask.value:
        decided["mask_threshold"] = Decision(seed.value, "seeds as dim as this are their own mask")
    return {**decided, **held}


def is_fitted(plan: Plan) -> bool:
    """Whether held-out images chose how a plan's objects are made."""
    return any(id in plan.ids and plan.ids[id].reason.startswith(FITTED) for id in CHOSEN)


def _planned(found: Fingerprint, ids: Mapping[str, Any]) -> Decisions:
    preset, kind, dims = (ids[id] for id in ("preset", "label_kind", "spatial_dims"))
    smallest = min_size(found, kind, dims, ids)
    if kind != "instances" or preset != "modern":
        why = "foreground is where it is the likeliest class"
        if kind == "instances":
            why = f"as published with {preset}: {why}"
        none = {"threshold": None, "mask_threshold": None, "reach": 0, "min_part": 0}
        return {**{id: Decision(value, why) for id, value in none.items()}, "min_size": smallest}
    why = "where an object begins, as suits most networks of this kind"
    return {
        "threshold": Decision(SEEDS[dims], why),
        "mask_threshold": Decision(MASKS[dims], "what an object takes besides: outlines are dim"),
        "reach": _reach(found, dims, ids),
        "min_size": smallest,
        "min_part": _part(found, dims, ids),
    }


def decide_grow(kind: str, spacing: Sequence[float] | None) -> Decisions:
    """`grow` of objects along each axis, where voxels are longer along one.

    Training parted objects by a pixel of each along every axis, which comes back in any case; what
    an object grows besides, since outlines are learned dim, is a length.

    Args:
        kind: of the labels.
        spacing: lengths of the voxel's sides, the shortest 1; None: alike.
    """
    grow = [max(1, round(GROW / side)) for side in spacing or [1.0]]
    if kind != "instances" or set(grow) == {GROW}:
        return {}
    why = f"borders close by {GROW} of the shortest sides, and by a slice where one is longer"
    return {"grow": Decision(grow, why)}


def decide_planes(
    found: Fingerprint, kind: str, *, stacks: bool, asked: str | None = None
) -> Decision:
    """`planes`: whether the planes of a stack are images of their own, or objects go through them.

    Raises:
        ValueError: planes apart, and the network takes none.
    """
    if asked:
        if not stacks:
            raise ValueError(
                f"--planes {asked} is for stacks that are learned plane by plane, and these are "
                "none: leave it out, or say --dims 2"
            )
        return Decision(asked, ASKED)
    if not stacks:
        return Decision(None, "no stack is taken plane by plane")
    said = found.planes if kind == "instances" else None
    why = {
        APART: "each plane is an image: the labels number the objects of each anew",
        JOINED: "objects go through planes: they keep their numbers in the labels",
        None: "each is an image, unless its file states how far apart the planes lie",
    }
    return Decision(said, why[said])


def decide_fit(preset: str, kind: str, held_out: int | None) -> Decision:
    """`fit`: whether held-out images choose between these and other values, and calibrate.

    Args:
        preset: of the network.
        kind: of the labels.
        held_out: images, of which stacks and groups count as one; None: a list names them.
    """
    if held_out is not None and held_out < LEAST:
        return Decision(False, f"fewer than {LEAST} images, stacks or groups are held out")
    if kind != "instances" or preset != "modern":
        return Decision(True, "at the end, held-out images calibrate probabilities")
    return Decision(True, "at the end, held-out images choose how objects are made, and calibrate")


def _part(found: Fingerprint, dims: int, pixels: Mapping[str, Any]) -> Decision:
    """Of a large object, for its texture must not part it: nuclei differ a hundredfold in area."""
    if dims == 3:
        return Decision(0, f"seeds of {SEEDS[3]:g} are parted already")
    if found.instances is None:
        return Decision(0, "no label holds an object")
    size = median_size(found.instances, found.cases[0].image, dims, pixels, LARGE)
    return Decision(int(PART * size), f"a tenth of a large object, {size:.4g} px: 95 % are smaller")


def _reach(found: Fingerprint, dims: int, pixels: Mapping[str, Any]) -> Decision:
    """The radius of the median object, of a fibre that across it."""
    radius = (median_width(found, pixels) or 0.0) / 2
    if dims == 3 and found.instances is not None:
        volume = median_size(found.instances, found.cases[0].image, dims, pixels)
        radius = float(np.cbrt(0.75 * volume / math.pi))
    value = min(FARTHEST, max(2, round(radius)))
    return Decision(value, f"the median object's radius, px, 2 to {FARTHEST}")
