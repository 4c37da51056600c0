"""Whether some pixels are so rare that tiles are drawn around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_med.instances import IGNORED
from unet_med.planning.fingerprints import Case, Fingerprint
from unet_med.planning.plan import ASKED, Decision, Decisions

RARE = 0.02  # of the known pixels; tiles hold enough of what is more frequent,
SELDOM = 3  # if it is not in fewer than one in so many images
OUTPUT = {  # sides of the network's output
    **{"_target_": "unet_med.networks.output_sides", "network": "@network_def"},
    **{"tile_size": "@tile_size", "margin": "@margin"},
}
AROUND = "some tiles (rare_share) are drawn around these"


def decide_rare(
    found: Fingerprint,
    labels: Mapping[str, Decision],
    preset: str,
    asked: Mapping[str, Any],
    *,
    dims: int,
) -> Decisions:
    """`rare`, and where in a tile a rare pixel lies; nothing where there are none.

    Args:
        found: what the files say.
        labels: as `decide_labels` decided.
        preset: the recipe; but for `modern` it says itself how tiles are drawn.
        asked: ids that the user asks for.
        dims: axes of the network; to one of 2 each plane of a stack is an image.
    """
    if "rare" in asked:
        rare = Decision(asked["rare"], ASKED)
    elif preset == "modern":
        rare = _rare(found, labels, dims)
    else:
        return {}
    if not rare.value:
        return {"rare": rare}
    where = Decision(OUTPUT, "each tile's output holds the pixel that it is drawn around")
    return {"rare": rare, "augment::crop::middle": where}


def _rare(found: Fingerprint, labels: Mapping[str, Decision], dims: int) -> Decision:
    shares = {value: share for value, share in _shares(found, labels).items() if share > 0}
    images, count = _images(found, labels, dims)
    little = [value for value, share in shares.items() if share < RARE]
    seldom = [value for value in shares if SELDOM * images[value] < count and value not in little]
    if not little and not seldom:
        return Decision(None, f"nothing covers less than {RARE:.0%} of the pixels")
    classes = labels["label_kind"].value == "classes"
    names = {value: str(value) if classes else "foreground" for value in shares}
    covers = ", ".join(f"{names[value]} covers {100 * shares[value]:.2g} %" for value in little)
    holds = ", ".join(f"{names[value]} is in {images[value]} of {count} images" for value in seldom)
    why = "; ".join([f"of the pixels {covers}"] * bool(little) + [holds] * bool(seldom))
    return Decision(sorted([*little, *seldom]), f"{why}: {AROUND}")


def _images(
    found: Fingerprint, labels: Mapping[str, Decision], dims: int
) -> tuple[dict[int, int], int]:
    """Images that hold each class of the network but the background, and all of them."""
    kind = labels["label_kind"].value
    classes = _classes(labels) if kind == "classes" else [(1, None)]
    held, count = dict.fromkeys([number for number, _ in classes], 0), 0
    for case in found.cases:
        planes = _planes(case, kind) if dims == 2 else None
        count += 1 if planes is None else planes
        for number, value in classes:
            held[number] += _holding(case, value, planes)
    return held, count


def _planes(case: Case, kind: str) -> int | None:
    """Planes of which somebody knows a pixel; None: they are no images, or nobody counted them."""
    counted = bool(case.in_planes) if kind == "classes" else case.empty is not None
    if case.image.plane_count == 1 or not counted:
        return None
    return case.image.plane_count - len(case.blank_planes(kind))


def _holding(case: Case, value: int | None, planes: int | None) -> int:
    """How many of a file's images hold a value; None: an object."""
    if planes is not None:
        return planes - (case.empty or 0) if value is None else case.in_planes.get(str(value), 0)
    return int(case.holds_object if value is None else value in (case.label_values or ()))


def _shares(found: Fingerprint, labels: Mapping[str, Decision]) -> dict[int, float]:
    """Share of the known pixels of each class of the network but the background."""
    if labels["label_kind"].value != "classes":
        return {} if found.covered is None else {1: found.covered}
    known = sum(share for value, share in found.frequencies.items() if int(value) != IGNORED)
    return {
        number: found.frequencies.get(str(value), 0.0) / known
        for number, value in _classes(labels)
        if known
    }


def _classes(labels: Mapping[str, Decision]) -> list[tuple[int, int]]:
    """Number of each class but the background, and its value in the labels."""
    values = labels["class_values"].value or range(labels["out_channels"].value)
    return list(enumerate(values))[1:]
