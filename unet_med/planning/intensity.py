"""On which scale the network sees intensities, by how the images were taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unet_med.data.grey_values import ROBUST
from unet_med.planning.extremes import rule
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.plan import ASKED, Decision, Decisions
from unet_med.planning.sampled import AIR

OWN = "each image by its own mean and deviation"
WITHOUT = "each image is clipped to where its others lie, by their mean and deviation"
CT = (
    "ct: clipped to the 0.5 to 99.5 percentiles of the training set's foreground, by its mean and "
    "deviation"
)
OFF = (
    "; {} image(s), such as {}, hold neither air nor fat, and others hold air: if 1024 was not "
    "subtracted from some, bring all to Hounsfield units"
)

AS_CT = (
    "; values as of air in a CT: if these are CTs, say --modality ct, which brings all to the "
    "scale of the foreground, where organs differ by more"
)


def decide_intensity(found: Fingerprint, steering: Mapping[str, Any]) -> Decisions:
    """`modality` and `intensity`; the scale of CT is that of the training set.

    Raises:
        ValueError: more or fewer modalities than channels, or CT whose foreground nobody looked at.
    """
    channels = found.channels
    asked = steering.get("modality")
    names = [asked] if isinstance(asked, str) else list(asked or found.modality)
    if asked is None and len(names) not in (0, 1, channels):
        reason = f"{len(names)} are named, the images have {channels} channel(s)"
        return {"modality": Decision(None, reason), "intensity": Decision(None, OWN)}
    if asked is not None and len(names) not in (1, channels):
        raise ValueError(
            f"--modality {' '.join(names)} names {len(names)}, the images have {channels} "
            "channel(s): name one, or one a channel"
        )
    reason = ASKED if asked else "the data list says it" if names else "nothing says it"
    modality = Decision(names or None, reason)
    each = names * channels if len(names) == 1 else names
    if (steering.get("preset") or "modern") != "modern":
        return {"modality": modality, "intensity": Decision(None, OWN)}
    if "ct" not in each:
        own = _without_extremes(found)
        own = own if names else Decision(own.value, own.reason + AS_CT * _holds_air(found))
        return {"modality": modality, "intensity": own}
    if len(found.foreground) < channels:
        raise ValueError(
            "the intensities of the foreground, which CT needs, were not looked at: say --modality "
            'ct on the command line (fingerprint(..., modality=["ct"]) in Python)'
        )
    scales = [dict(found.foreground[k]) if name == "ct" else None for k, name in enumerate(each)]
    images = f" (of {found.foreground_of} of {len(found.cases)} images)"
    reason = CT + (images if found.foreground_of else "")  # which earlier versions did not count
    reason += OFF.format(len(found.off_scale), found.off_scale[0]) if found.off_scale else ""
    return {"modality": modality, "intensity": Decision(scales, reason)}


def _holds_air(found: Fingerprint) -> bool:
    """Whether volumes in millimetres have a percentile where CT has air; it is not guessed."""
    low, high = AIR
    values = [value for channel in found.intensities for value in channel]
    return found.cases[0].image.unit == "mm" and any(low <= value <= high for value in values)


def _without_extremes(found: Fingerprint) -> Decision:
    """Channels that few pixels rule are standardised without these, but where they are objects."""
    scales = [ROBUST if rule(channel) else None for channel in found.extremes]
    ruled = [channel for channel in found.extremes if rule(channel) or not any(scales)]
    most = max(ruled, key=lambda channel: channel["ruled"], default={"ruled": 0})
    if not most["ruled"]:
        return Decision(None, OWN)
    images = f"{most['ruled']:g} of {most['of']:g} images"
    if not any(scales):
        return Decision(None, f"{OWN}: few pixels rule that of {images}, but they are objects")
    return Decision(scales, f"few pixels, hot or dead, rule the deviation of {images}: {WITHOUT}")
