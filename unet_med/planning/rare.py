"""Whether some pixels are so rare that tiles are drawn around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_med.instances import IGNORED
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.plan import Decision

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
) -> dict[str, Decision]:
    """`rare`, and where in a tile a rare pixel lies; nothing where there are none.

    Args:
        found: what the files say.
        labels: as `decide_labels` decided.
        preset: the recipe; but for `modern` it says itself how tiles are drawn.
        asked: ids that the user asks for.
    """
    if "rare" in asked:
        rare = Decision(asked["rare"], "as asked")
    elif preset == "modern":
        rare = _rare(found, labels)
    else:
        return {}
    if not rare.value:
        return {"rare": rare}
    where = Decision(OUTPUT, "each tile's output holds the pixel that it is drawn around")
    return {"rare": rare, "augment::crop::middle": where}


def _rare(found: Fingerprint, labels: Mapping[str, Decision]) -> Decision:
    shares = {value: share for value, share in _shares(found, labels).items() if share > 0}
    images, count = _images(found, labels), len(found.cases)
    little = [value for value, share in shares.items() if share < RARE]
    seldom = [value for value in shares if SELDOM * images[value] < count and value not in little]
    if not little and not seldom:
        return Decision(None, f"nothing covers less than {RARE:.0%} of the pixels")
    covers = ", ".join(f"{value} covers {100 * shares[value]:.2g} %" for value in little)
    holds = ", ".join(f"{value} is in {images[value]} of {count} images" for value in seldom)
    why = "; ".join([f"of the pixels {covers}"] * bool(little) + [holds] * bool(seldom))
    return Decision(sorted([*little, *seldom]), f"{why}: {AROUND}")


def _images(found: Fingerprint, labels: Mapping[str, Decision]) -> dict[int, int]:
    """Number of labels that hold each class of the network but the background."""
    held = [case.label_values for case in found.cases]
    if labels["label_kind"].value != "classes":
        return {1: sum(own is None or max(own, default=0) > 0 for own in held)}
    return {number: sum(value in (own or ()) for own in held) for number, value in _classes(labels)}


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
