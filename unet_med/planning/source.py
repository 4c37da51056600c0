"""The trained bundle that a training starts from: what of it holds, and what does not fit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import bundle
from unet_med.bundle.models import find_trained
from unet_med.data.checksum import sha256
from unet_med.data.class_names import name_of, require_alike
from unet_med.data.colours import may_be_fewer
from unet_med.data.pixel_size import MICROMETRES, as_list, in_words
from unet_med.planning.fingerprints import MEDIAN, Fingerprint
from unet_med.planning.learned import Learned, held_planes
from unet_med.planning.object_width import object_widths
from unet_med.planning.objects import is_fitted
from unet_med.planning.plan import Decision, Decisions, Plan
from unet_med.planning.working_size import (
    LARGE,
    factors_of,
    one_or_each,
    own_pixels,
    pixels_decided,
    scale_decided,
)

NETWORK = {  # ids, and what sets them
    **{"preset": "--preset", "spatial_dims": "--dims", "features": "--features"},
    **{"pool": "pool", "kernel_size": "kernel_size"},
}
ALSO_NETWORK = ("margin", "stride", "statistics", "network_def")  # where a bundle sets them
PIXELS = ("element_size", "scale")
RATE = 0.3  # of the recipe's: weights that know something already
DEFAULT_RATE = 0.01  # of train.json


@dataclass(frozen=True)
class Source:
    """A trained bundle, as a new training sees it.

    Attributes:
        name: of its folder, or of the model.
        folder: where it lies.
        weights: its file of weights.
        ids: how it predicts, by id of its `inference.json`.
        plan: what its training was planned by; None: it was not planned.
    """

    name: str
    folder: Path
    weights: Path
    ids: Mapping[str, Any]
    plan: Plan | None = None

    @classmethod
    def of(cls, trained: str | os.PathLike[str], *, trust: bool = False) -> Source:
        """Look at a bundle; nothing of it is evaluated.

        Args:
            trained: its folder, or the name of a model.
            trust: take also what unet-med's own bundle does not name.

        Raises:
            ValueError: it is no trained bundle, or not trusted.
        """
        folder = find_trained(trained)
        weights, config = bundle.find_weights(folder), folder / "configs" / "inference.json"
        if not config.is_file():
            raise ValueError(f"{folder} is no trained bundle: {config} is missing")
        if not trust:
            bundle.require_trust(folder)
        ids = bundle.load_config(config)
        return cls(folder.absolute().name, folder, weights, ids, _plan_of(folder))

    def described(self, found: Fingerprint) -> dict[str, Any]:
        """What a plan keeps of it: no path, and what tells whether a bundle is the same.

        `seen` is how many of the new images it has seen; None: it does not say. `images` are the
        SHA-256 of those that it has learned from, `held_out` of those that it was validated on and
        has not, and `held_planes` says of which planes of the others that holds.
        """
        begins = {id: self.ids.get(id) for id in ("threshold", "mask_threshold")}
        known = self.ids.get("label_kind") == "instances" and None not in begins.values()
        described = {
            **{"name": self.name, "weights": self.digest, "seen": self._seen(found)},
            "images": sorted(self.learned.images),
            "held_out": sorted(self.learned.held_out),
            **({"held_planes": planes} if (planes := self.learned.held_planes) else {}),
        }
        return {**described, "objects": begins} if known else described

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return sha256(self.weights)

    @cached_property
    def learned(self) -> Learned:
        """What it knows of images; nothing without a plan."""
        return Learned() if self.plan is None else _learned_in(self.plan)

    def _seen(self, found: Fingerprint) -> int | None:
        if self.plan is None:
            return None
        return sum(case.image.sha256 in self.learned.images for case in found.cases)

    def orientation(self) -> dict[str, Any]:
        """`orientation` of the bundle, by id."""
        return {"orientation": self.ids.get("orientation")}

    def kept(self, found: Fingerprint, asked: Mapping[str, Any]) -> Decisions:
        """Ids that hold for the new training: the network, its pixels, its scale of intensities.

        Args:
            found: what the new files say, in the bundle's orientation.
            asked: what the user says, who may overrule pixels and intensities.

        Raises:
            ValueError: what is asked for, or the images, do not fit the network.
        """
        self._require_network(asked)
        self._require_images(found, asked)
        why = f"of {self.name}, whose weights it starts from"
        own = bundle.load_config(bundle.find_bundle() / "configs" / "inference.json")
        ids = [*NETWORK, *(id for id in ALSO_NETWORK if self.ids.get(id) != own.get(id))]
        kept = {id: Decision(self.ids.get(id), why) for id in [*ids, "orientation", "intensity"]}
        if found.channels != self.ids["in_channels"]:  # some add nothing, and it learned them too
            kept["in_channels"] = Decision(self.ids["in_channels"], why)
        if not any(asked.get(id) is not None for id in PIXELS):
            kept |= self._pixels(found, why)
        return {id: decision for id, decision in kept.items() if id not in asked}

    def classes(self, decided: Decisions, asked: Mapping[str, Any]) -> Decisions:
        """Classes of the bundle, where the new labels hold none besides; its last layer stays.

        Args:
            decided: `label_kind`, `out_channels`, `class_values` and `class_names` of the labels.
            asked: what the user says.

        Raises:
            ValueError: the new labels and the bundle give one name to two values.
        """
        ids = ("out_channels", "class_values", "class_names")
        kinds = {decided["label_kind"].value, self.ids.get("label_kind")}
        old, new = (_values(each) for each in (self.ids, {id: decided[id].value for id in ids}))
        if kinds == {"classes"} and set(new) <= set(old) and not asked.get("out_channels"):
            kept = {id: Decision(self.ids.get(id), f"those of {self.name}") for id in ids}
            if asked.get("class_names"):
                return {id: kept[id] for id in ids[:2]}
            return kept | self._names(old, new, decided["class_names"])
        if len(old) == len(new):
            return {}
        count = decided["out_channels"]
        about = f"where {self.name} has {len(old)}: the last layer starts anew"
        return {"out_channels": replace(count, reason=f"{count.reason}, {about}")}

    def _names(self, old: Sequence[int], new: Sequence[int], found: Decision) -> Decisions:
        """`class_names`, where the new labels name classes otherwise than the bundle, or others."""
        own = dict(zip(old[1:], self.ids.get("class_names") or (), strict=False))
        given = zip(new[1:], found.value or (), strict=False)
        named = {value: name for value, name in given if name != name_of(value)}
        require_alike(named, own, "the new labels", self.name)
        if named.items() <= own.items():
            return {}
        names = [{**own, **named}.get(value, name_of(value)) for value in old[1:]]
        return {"class_names": Decision(names, f"{found.reason}, and those of {self.name}")}

    def beginning(self, ids: Mapping[str, Any], asked: Mapping[str, Any]) -> Decisions:
        """`pretrained`, where the new bundle keeps the weights, and `learning_rate`."""
        place = f"$@bundle_root + '/models/{self.copy_name}'"
        begin = {"pretrained": Decision(place, f"the weights of {self.name}")}
        if "learning_rate" not in asked:
            rate = float(f"{RATE * ids.get('learning_rate', DEFAULT_RATE):.3g}")
            why = f"{RATE:g} times the recipe's: the weights know something already"
            begin["learning_rate"] = Decision(rate, why)
        return begin

    @property
    def copy_name(self) -> str:
        """Where the new bundle keeps the file of weights, beside the models that clients list."""
        return f"start/pretrained{self.weights.suffix}"

    def _require_network(self, asked: Mapping[str, Any]) -> None:
        for id, option in NETWORK.items():
            own, value = self.ids.get(id), asked.get(id)
            if value is not None and value != own:
                words = "those of its preset" if own is None else _shown(own)
                raise ValueError(
                    f"{option} {_shown(value)} does not fit {self.name}, whose network has "
                    f"{words}: leave it out, or train without --from"
                )
        if built := next((id for id in asked if id.partition("::")[0] == "network_def"), None):
            raise ValueError(
                f"{built} of an override file builds another network than that of {self.name}: "
                "leave the file out, or train without --from"
            )

    def _require_images(self, found: Fingerprint, asked: Mapping[str, Any]) -> None:
        channels, size = self.ids["in_channels"], self.ids.get("element_size")
        shown = None if size is None else in_words(size)
        free = size is None or any(asked.get(id) is not None for id in PIXELS)
        for image in (case.image for case in found.cases):
            fewer = may_be_fewer(image.channels, channels) and found.channels <= channels
            if channels != image.channels and not fewer:
                raise ValueError(
                    f"{image.name} has {image.channels} channel(s), and the network of "
                    f"{self.name} takes {channels}: save the images so, or train without --from"
                )
            if self.ids.get("spatial_dims") == 3 and len(image.shape) == 2:
                raise ValueError(
                    f"{image.name} is a plane, and the network of {self.name} takes volumes: "
                    "leave it out, or train without --from"
                )
            if not free and not image.states_size:
                raise ValueError(
                    f"{image.name} does not say its pixel size, and {self.name} sees pixels of "
                    f"{shown} {self.ids.get('element_unit')}: give it with --pixel-size, "
                    "or give a factor, --scale"
                )

    def _pixels(self, found: Fingerprint, why: str) -> Decisions:
        """The bundle's pixels: of a size where it has one, else those that show objects as wide."""
        size, unit = (self.ids.get(id) for id in ("element_size", "element_unit"))
        if size is not None:
            own = found.cases[0].image.unit
            factor = MICROMETRES[unit or own] / MICROMETRES[own]
            sizes = [float(f"{factor * side:.6g}") for side in as_list(size)]
            return pixels_decided(sizes if isinstance(size, Sequence) else sizes[0], own, None, why)
        scale = self._scale
        if seen := self._seen(found):  # an image that joins them does not change what they showed
            about = f"{why}: {seen} of the images are the bundle's own"
            return scale_decided(scale, about)
        widths = self._widths(found, scale)
        if widths is None:
            return scale_decided(scale, why)
        known, new = widths
        if max(abs(np.log(known / (new * as_list(scale))))) <= np.log(LARGE):
            about = f"{why}: objects are about as wide"
            return scale_decided(scale, about)
        wanted = one_or_each(factors_of(known / new))
        about = f"the median object is {new[0]:.3g} px wide, and {self.name} knows {known[0]:.3g}"
        return scale_decided(wanted, about)

    def scale_for(self, width: float) -> Any:
        """The `scale` under which objects are as wide as those that the network knows.

        Args:
            width: of a typical object in a plane, px of the image.

        Returns:
            One factor, or one an axis where the bundle has so.

        Raises:
            ValueError: the bundle brings images to a pixel size, or does not say how wide the
                objects were that it learned.
        """
        if (size := self.ids.get("element_size")) is not None:
            shown = f"{in_words(size)} {self.ids.get('element_unit') or 'um'}"
            raise ValueError(
                f"{self.name} sees pixels of {shown}, whatever the magnification: leave the "
                "object width out, and give the pixel size where files do not say it"
            )
        if (known := self._known_width()) is None:
            raise ValueError(
                f"{self.name} does not say how wide the objects were that it learned: leave the "
                "object width out, and override `scale` of its inference.json"
            )
        factors = factors_of(own * known / width for own in as_list(self._scale))
        return own_pixels(factors[0] if len(factors) == 1 else factors)

    def width_at(self, scale: Any) -> float | None:
        """Width of objects that a run at a `scale` sees as wide as those that the network knows.

        Args:
            scale: of the run, one factor or one an axis; None: the images' own pixels.

        Returns:
            In a plane, px of the image; None: the bundle brings images to a pixel size, or does
            not say how wide objects were.
        """
        known = self._known_width()
        if known is None or self.ids.get("element_size") is not None:
            return None
        own, other = (as_list(s)[0] for s in (self._scale, scale or 1))
        return known * own / other

    @property
    def _scale(self) -> Any:
        """Its `scale`; 1: images keep their own pixels."""
        return 1 if self.ids.get("scale") is None else self.ids["scale"]

    def _known_width(self) -> float | None:
        """How wide the median object was in a plane, px of the images that were learned."""
        if self.plan is None or self.ids.get("label_kind") != "instances":
            return None
        widths = object_widths(self.plan.seen, 2, None)
        return None if widths is None else widths[MEDIAN][0]

    def _widths(self, found: Fingerprint, scale: Any) -> tuple[Any, Any] | None:
        """Width of the median object along each axis: that the network knows, and the new one's."""
        if self.plan is None or self.ids.get("label_kind") != "instances":
            return None
        dims = self.ids["spatial_dims"]
        old, new = (object_widths(each, dims, None) for each in _alike(self.plan.seen, found))
        if old is None or new is None:
            return None
        return np.array(old[MEDIAN]) * as_list(scale), np.array(new[MEDIAN])


def _alike(old: Fingerprint, new: Fingerprint) -> tuple[Fingerprint, Fingerprint]:
    """Both measured as the older was: earlier versions took all objects for discs."""
    if old.instances is None or new.instances is None or old.instances.width_px is not None:
        return old, new
    return old, replace(new, instances=new.instances.as_discs())


def learned_by(folder: Path) -> Learned:
    """What a bundle has learned from, and not been validated on alone; nothing without a plan."""
    plan = _plan_of(folder)
    return Learned() if plan is None else _learned_in(plan)


def _learned_in(plan: Plan) -> Learned:
    """Bundles of earlier versions do not say what those before them have learned from."""
    before = Learned.of(plan.source)
    entries = (*plan.split.get("training", ()), *plan.replay)
    learned = {entry["sha256"]["image"] for entry in entries}
    held = {entry["sha256"]["image"] for entry in plan.split.get("validation", ())}
    return Learned(
        images=frozenset(known_images(plan.to_json())),
        held_out=frozenset(held - learned - (before.images - before.held_out)),
        held_planes=held_planes(plan.split, before, plan.replay),
        fitted=is_fitted(plan),
    )


def _plan_of(folder: Path) -> Plan | None:
    """What the training of a bundle was planned by; None: it was not planned."""
    content = bundle.read_plan(folder)
    return Plan.from_json(content) if "data" in content else None


def known_images(plan: Mapping[str, Any]) -> list[str]:
    """SHA-256 of the images that a bundle knows: learned, replayed, or learned by those before it.

    Args:
        plan: its content, as `unet_med.bundle.read_plan` gives it.
    """
    known = {case["image"]["sha256"] for case in plan.get("data", {}).get("cases", [])}
    known |= {entry["sha256"]["image"] for entry in plan.get("replay", [])}
    return sorted(known | set(plan.get("source", {}).get("images", [])))


def _values(ids: Mapping[str, Any]) -> list[int]:
    """Values of the classes, background included."""
    return list(ids.get("class_values") or range(ids.get("out_channels") or 2))


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
