"""From what the files say, and what the user asks for, to a plan."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.bundle.ids import entries_of, values_of
from unet_med.data.atomic import read_json
from unet_med.data.channels import in_another_order, in_other_places, words_apart
from unet_med.data.checksum import sha256
from unet_med.data.orientation import require_orientation
from unet_med.planes import APART, Planes
from unet_med.planning.fingerprints import Fingerprint
from unet_med.planning.folds import Folds, decide_folds, has_folds
from unet_med.planning.intensity import decide_intensity
from unet_med.planning.labels import decide_labels, decide_names, decide_tiles
from unet_med.planning.objects import (
    LEAST,
    decide_fit,
    decide_grow,
    decide_objects,
    decide_planes,
)
from unet_med.planning.orientation import decide_mirroring, decide_orientation
from unet_med.planning.plan import ASKED, Decision, Decisions, Plan
from unet_med.planning.rare import decide_rare
from unet_med.planning.sizes import decide_turns, tile_size
from unet_med.planning.source import Source
from unet_med.planning.splits import decide_split
from unet_med.planning.thick_slices import (
    decide_depth,
    decide_levels,
    decide_rotation,
    decide_spacing,
)
from unet_med.planning.training_facts import decide_trained_on
from unet_med.planning.working_size import decide_pixel_size

CPU_FEATURES = {2: [16, 32, 64, 128, 256], 3: [8, 16, 32, 64]}  # by spatial dims: minutes, not days
DEFAULT_MINUTES = 10.0
ENDLESS = 100_000  # epochs: the minutes end the training
ENOUGH = 24  # images of which three can be spared: an eighth
TILES_PER_EPOCH = 64  # at least, so that validation does not dominate small sets
TILES_ON_GPU = 4096  # which trains 64 in less time than their loss takes to be read and written
STEERING = (  # ids on which further decisions depend, whoever sets them
    *("preset", "label_kind", "features", "spatial_dims", "element_size", "scale", "tile_size"),
    *("minutes", "epochs", "seed", "validation_fraction", "modality", "unknown"),
    *("folds", "learning_curve"),
)
PLANE_BY_PLANE = "each plane of a volume is an image of its own"
WHOLE = "the network takes the images as they are"
SHARE_OF_ONE = 0.5  # of the minutes, for the network of all images, where there are folds


def make_plan(
    found: Fingerprint,
    choices: Mapping[str, Any] | None = None,
    *,
    overrides: Sequence[str | os.PathLike[str]] = (),
    device: str = "cpu",
    source: Source | None = None,
) -> Plan:
    """Decide all that a training needs: what is asked for holds, the rest follows from the files.

    Args:
        found: what the files say.
        choices: ids of the configs with values that hold, such as `{"epochs": 20}`;
            `out_channels` is the number of classes, `split_file` a file that says what is held
            out, of which the bundle keeps a copy in its own words.
        overrides: override files, by path or by name, merged in this order before `choices`.
        device: where the network will train, `"cpu"` or a GPU.
        source: a trained bundle to start from: its network, pixels and scale of intensities hold.

    Raises:
        FileNotFoundError: an override file is not there.
        ValueError: an id that no config has, with the nearest; labels or pixel sizes that do
            not go with what is asked for.
    """
    asked = {id: value for id, value in (choices or {}).items() if value is not None}
    file = asked.pop("split_file", None)
    files = [bundle.find_override(name) for name in overrides]
    contents = {path: read_json(path) for path in files}
    bundle.require_ids(asked, source="the choices")
    for path, content in contents.items():
        bundle.require_ids(content, source=path.name)
    said = {id: value for path, ids in contents.items() for id, value in _held(path, ids).items()}
    told = {**said, **asked}
    orientation = _orientation(found, {**(source.orientation() if source else {}), **told})
    seen = _turned(found, orientation.value)
    kept = source.kept(seen, told) if source else {}  # but for what is told
    own = {id: decision.value for id, decision in kept.items()}
    steering = {**_steering(own), **_steering(said), **asked}
    decided = _decide(seen, steering, asked, device, source)
    mirroring = _mirroring(seen, decided, orientation.value, asked)
    decided |= {"orientation": orientation, "mirror_axes": mirroring, **kept}
    rest = {id: why for id, why in decided.items() if id in asked or id not in said}
    rest |= {id: Decision(v, ASKED) for id, v in asked.items() if id not in decided}
    values = {id: why.value for id, why in decided.items()}
    rest |= _thick_slices(seen, values, {**told, **own})
    dims = decided["spatial_dims"].value
    recipes = _recipes(decided["preset"].value, dims)
    ids = bundle.combine(
        *(entries_of(read_json(path), f"the recipe {path.stem}") for path in recipes),
        *(entries_of(contents[path], f"{path.name} says so") for path in files),
        _entries(rest),
        {"overrides": {"value": [p.name for p in files], "reason": "files that were merged in"}},
    )
    values = values_of(ids)
    rotation = decide_rotation(values["spacing"], values) if "spacing" in values else {}
    ids |= _entries(_untold(rotation, told))
    if "tile_size" not in told:
        ids |= _entries({"tile_size": tile_size(seen, values_of(ids), device)})
    values = values_of(ids)
    if source is not None:
        ids |= _entries(source.beginning(values, told))
    ids |= _entries(_untold(decide_turns(values_of(ids)), told))
    begun = source.described(found) if source else {}
    parts = _parts(seen, values, asked, file, fit="fit" not in told, begun=begun)
    plan = {id: Decision(**entry) for id, entry in {**ids, **_entries(parts.ids)}.items()}
    hashes = {path.name: sha256(path) for path in files}
    splits = {"folds": parts.folds, "subsets": parts.subsets}
    return Plan(plan, found, hashes, parts.split, begun, **splits)


def _parts(
    seen: Fingerprint,
    values: Mapping[str, Any],
    asked: Mapping[str, Any],
    file: str | None,
    *,
    fit: bool,
    begun: Mapping[str, Any],
) -> Folds:
    """What is learned from and what is held out, in one split, or in as many as folds are asked."""
    if has_folds(values):
        return decide_folds(seen, values, asked, file, begun=begun)
    split, ids, held_out = decide_split(seen, values, asked, file, begun=begun)
    by_split = ids.pop("fit", None)
    if fit:
        ids["fit"] = by_split or decide_fit(values["preset"], values["label_kind"], held_out)
    return Folds(split, (), ids)


def _decide(
    found: Fingerprint,
    steering: Mapping[str, Any],
    asked: Mapping[str, Any],
    device: str,
    source: Source | None,
) -> Decisions:
    """What the rules say; `steering` overrules them."""
    told = asked.get("class_names")
    labels = decide_labels(found, steering.get("label_kind"), asked.get("out_channels"), told)
    kind = labels["label_kind"].value
    planes = asked.get("planes") or (found.planes if kind == "instances" else None)
    dims = _dims(found, steering.get("spatial_dims"), planes)
    labels["class_names"] = decide_names(found, labels, told)
    labels |= source.classes(labels, asked) if source else {}
    if steering.get("unknown") not in (None, found.unknown):
        raise ValueError(
            f"unknown is {steering['unknown']}, and the labels were looked at as if it were "
            f"{found.unknown}: say it to fingerprint(..., unknown=...), or with --unknown"
        )
    pixels = decide_pixel_size(found, steering, kind=kind, dims=dims.value)
    stack = dims.value == 2 and _most_planes(found) > 1
    preset = _asked_or(steering, "preset", "modern", "trains fast and well on most images")
    steers = {"preset": preset, "label_kind": labels["label_kind"], "spatial_dims": dims, **pixels}
    working = {id: decision.value for id, decision in steers.items()}
    count = image_count(found, dims.value) if kind == "instances" else 0
    return {
        "preset": preset,
        **labels,
        **decide_rare(found, labels, preset.value, asked, dims=dims.value),
        **decide_tiles(found, kind),
        "slice_stacks": Decision(stack, PLANE_BY_PLANE if stack else WHOLE),
        "planes": decide_planes(found, kind, stacks=stack, asked=asked.get("planes")),
        "validation_fraction": _validation(found, steering, asked, count),
        "spatial_dims": dims,
        **pixels,
        **decide_intensity(found, steering),
        "trained_on": decide_trained_on(found),
        "in_channels": _channels(found),
        **decide_objects(found, working, asked, source.described(found) if source else {}),
        "features": _features(steering.get("features"), dims.value, device),
        "seed": _asked_or(steering, "seed", 0, "the usual one"),
        **_epoch(found, dims.value, steering, device),
        **_budget(steering.get("minutes"), steering.get("epochs"), folds=has_folds(steering)),
        **{f"reader::{name}": Decision(value, ASKED) for name, value in found.reader.items()},
    }


def _thick_slices(
    found: Fingerprint, decided: Mapping[str, Any], held: Mapping[str, Any]
) -> Decisions:
    """What follows from the voxel's sides, where neither the user nor a file says it."""
    spacing = decide_spacing(found, decided)
    sides = held.get("spacing", spacing.value)
    levels = decide_levels(found, decided, sides)
    if "network_def" in held or "pool" in held or "kernel_size" in held:
        levels = {}  # another network, or another's choice of levels
    depth = decide_depth(found, decided, levels["pool"].value) if levels else {}
    grow = decide_grow(decided["label_kind"], sides)
    return _untold({"spacing": spacing, **levels, **depth, **grow}, held)


def _untold(decided: Decisions, told: Mapping[str, Any]) -> Decisions:
    """What neither the user nor a file says."""
    return {id: why for id, why in decided.items() if id not in told}


def _orientation(found: Fingerprint, said: Mapping[str, Any]) -> Decision:
    if "orientation" in said:  # null too: axes stay as they are
        return Decision(said["orientation"] and require_orientation(said["orientation"]), ASKED)
    return decide_orientation([case.image for case in found.cases])


def _turned(found: Fingerprint, word: str | None) -> Fingerprint:
    """What a network sees; in another orientation than was looked at, planes are others."""
    seen, looked_at = found.turned(word), decide_orientation([c.image for c in found.cases]).value
    if word == looked_at:
        return seen
    return replace(seen, cases=tuple(replace(case, blank={}) for case in seen.cases))


def _mirroring(
    found: Fingerprint, decided: Decisions, word: str | None, asked: Mapping[str, Any]
) -> Decision:
    if "mirror_axes" in asked:
        return Decision(asked["mirror_axes"], ASKED)
    kind, dims = (decided[id].value for id in ("label_kind", "spatial_dims"))
    return decide_mirroring(found, kind, word, dims)


def _asked_or(steering: Mapping[str, Any], id: str, default: Any, reason: str) -> Decision:
    if steering.get(id) is not None:
        return Decision(steering[id], ASKED)
    return Decision(default, reason)


def _validation(
    found: Fingerprint, steering: Mapping[str, Any], asked: Mapping[str, Any], count: int
) -> Decision:
    """`validation_fraction`; of `count` images that can spare three, these."""
    if found.held_out is not None:
        if "validation_fraction" in asked:
            raise ValueError(
                f"{found.images} says what to validate on ({found.held_out}), so a share of images "
                "held back (--validation) has no effect: leave it out"
            )
        return Decision(0.1, f"not used: {found.held_out}")
    share, reason = 0.1, "enough to see how the training goes"
    if ENOUGH <= count < 10 * LEAST:
        share, reason = round(LEAST / count, 4), f"{LEAST} images, which can tell how objects begin"
    return _asked_or(steering, "validation_fraction", share, reason)


def _dims(found: Fingerprint, asked: int | None, planes: Planes | None) -> Decision:
    """`spatial_dims`; `planes` is what somebody or the labels say of those of stacks."""
    if asked == 2:
        return Decision(asked, ASKED)
    if asked is None and (_most_planes(found) == 1 or len(found.cases[0].image.shape) == 2):
        return Decision(2, "the images are planes")
    if asked is None and len(found.cases) == 1:
        return Decision(2, "a single stack is learned plane by plane")
    if asked is None and planes == APART:
        return Decision(2, "the planes of the stacks are images of their own")
    for case in found.cases:
        if len(case.image.shape) == 2:
            raise ValueError(
                f"{case.image.name} is a plane of {case.image.shape} px, a 3-D network takes "
                "volumes: leave it out, or train on planes with --dims 2"
            )
    if asked is None and planes is None and all(c.image.planes == APART for c in found.cases):
        raise ValueError(
            f"{found.cases[0].image.name} and the other stacks do not say how far apart their "
            "planes lie, and neither do numbers of objects say whether these go through planes: "
            "say --dims 3 if the stacks are volumes, or --dims 2 if each plane is an image"
        )
    return Decision(
        3, ASKED if asked else "the images are volumes (--planes apart: their planes are images)"
    )


def _channels(found: Fingerprint) -> Decision:
    first, *others = (case.image for case in found.cases)
    if found.needed and all(image.channels >= found.needed for image in (first, *others)):
        return Decision(found.needed, "channels of the images that add something")
    for other in others:
        if other.channels != first.channels:
            raise ValueError(
                f"image {other.name} has {other.channels} channel(s), {first.name} "
                f"{first.channels}: save all alike, grey, RGB, or without transparency"
            )
    named = [image for image in (first, *others) if image.channel_names]
    for image in named[1:]:
        if in_other_places(image.channel_names, named[0].channel_names):
            own, theirs = (", ".join(each.channel_names) for each in (image, named[0]))
            raise ValueError(
                f"image {image.name} has the channels {own}, and {named[0].name} {theirs}: save "
                "them in one order"
            )
    several = [case for case in found.cases if case.files]
    for case in several[1:]:
        if in_another_order(words_apart(case.files), words_apart(several[0].files)):
            raise ValueError(
                f"image {case.image.name} has its channels in another order than "
                f"{several[0].image.name}: list the files of every case in one order"
            )
    return Decision(first.channels, "channels of the images")


def _most_planes(found: Fingerprint) -> int:
    return max(case.image.plane_count for case in found.cases)


def _features(asked: Any, dims: int, device: str) -> Decision:
    if asked:
        return Decision(asked, ASKED)
    if device != "cpu":
        return Decision(None, "those of the preset, which a GPU can train")
    return Decision(CPU_FEATURES[dims], "few enough for a CPU: minutes, not days")


def _epoch(found: Fingerprint, dims: int, steering: Mapping[str, Any], device: str) -> Decisions:
    """Tiles of an epoch, and on a GPU how often it is validated; epochs that are asked for stay."""
    count, endless = image_count(found, dims), not steering.get("epochs")
    on_gpu = device != "cpu" and endless
    least = TILES_ON_GPU if on_gpu else TILES_PER_EPOCH
    reason = "at least, so that validation takes little of the time"
    if count >= least:
        least, reason = count, "as many as there are images"
    decided = {"tiles_per_epoch": Decision(least, reason)}
    if on_gpu:
        decided["val_interval"] = Decision(1, "the epochs of a GPU are long")
    return decided


def image_count(found: Fingerprint, dims: int) -> int:
    """Images as the network sees them: planes for a 2-D one."""
    return sum(case.image.plane_count if dims == 2 else 1 for case in found.cases)


def _budget(minutes: float | None, epochs: int | None, *, folds: bool) -> Decisions:
    if epochs and not minutes:
        minutes_why = Decision(None, "the epochs end the training")
    else:
        why = ASKED if minutes else "enough for a first look"
        minutes_why = Decision(minutes or DEFAULT_MINUTES, why)
        if folds:
            half = f"half of {minutes_why.value:g} minutes: the other half is for the folds"
            minutes_why = Decision(SHARE_OF_ONE * minutes_why.value, half)
    epochs_why = Decision(epochs or ENDLESS, ASKED if epochs else "the minutes end the training")
    return {"minutes": minutes_why, "epochs": epochs_why}


def _steering(said: Mapping[str, Any]) -> dict[str, Any]:
    """Of what override files say, the plain values on which decisions depend."""
    return {
        id: said[id]
        for id in STEERING
        if said.get(id) is not None and not str(said[id]).startswith(("$", "@"))
    }


def _held(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Ids that a file sets for good; the bundle's own leave the size of a tile to the images."""
    own = path.parent == bundle.find_bundle() / "configs"
    return {id: value for id, value in content.items() if not (own and id == "tile_size")}


def _recipes(preset: str, dims: int) -> list[Path]:
    """Override files that the preset and the kind of images bring with them."""
    names = [preset, *(["volume3d", f"{preset}3d"] if dims == 3 else [])]
    return [path for path in map(bundle.override_file, names) if path is not None]


def _entries(decisions: Mapping[str, Decision]) -> dict[str, dict[str, Any]]:
    return {id: {"value": why.value, "reason": why.reason} for id, why in decisions.items()}
