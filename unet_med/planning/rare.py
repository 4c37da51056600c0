"""Whether some pixels are so rare that tiles are drawn around them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_med.instances import IGNORED
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.plan import Decision

RARE = 0.02  # of the known pixels; tiles hold enough of what is more frequent
OUTPUT = {  # sides of the network's output
    **{"_target_": "unet_med.networks.output_sides", "network": "@network_def"},
    **{"tile_size": "@tile_size", "margin": "@margin"},
}


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
        rare = _rare(_shares(found, labels))
    else:
        return {}
    if not rare.value:
        return {"rare": rare}
    where = Decision(OUTPUT, "each tile's output holds the pixel that it is drawn around")
    return {"rare": rare, "augment::crop::middle": where}


def _rare(shares: Mapping[int, float]) -> Decision:
    values = [value for value, share in shares.items() if 0 < share < RARE]
    if not values:
        return Decision(None, f"nothing covers less than {RARE:.0%} of the pixels")
    covers = ", ".join(f"{value} covers {100 * shares[value]:.2g} %" for value in values)
    why = f"of the pixels {covers}: some tiles (rare_share) are drawn around these"
    return Decision(values, why)


def _shares(found: Fingerprint, labels: Mapping[str, Decision]) -> dict[int, float]:
    """Share of the known pixels of each class of the network but the background."""
    if labels["label_kind"].value != "classes":
        return {} if found.covered is None else {1: found.covered}
    own = labels["class_values"].value or range(labels["out_channels"].value)
    known = sum(share for value, share in found.frequencies.items() if int(value) != IGNORED)
    return {
        number: found.frequencies.get(str(value), 0.0) / known
        for number, value in enumerate(own)
        if number and known
    }
