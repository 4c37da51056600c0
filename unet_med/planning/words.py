"""A plan in words: what was found, what was decided, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from unet_med.data.grey_values import ROBUST
from unet_med.data.pixel_size import in_words
from unet_med.planning.fingerprints import MEDIAN, Fingerprint, Instances
from unet_med.planning.intensity import AS_CT
from unet_med.planning.labels import LOOK_LIKE
from unet_med.planning.plan import ASKED, Plan
from unet_med.planning.rules import image_count

LABELS = {
    "mask": "a mask, its value besides 0 the foreground",
    "classes": "{out_channels} classes",
    "instances": "instances",
}
OVERRULED = {"instances": "; --label-kind classes if a number means a kind, such as an organ"}
DROPPED = "smaller than {min_size} px are dropped from results"
RECIPE = "the recipe "
THIN = 11.0  # px, as a whole mask counts: of lines of two pixels, or of spots of five
LONGEST = 40  # characters of a value


def describe(plan: Plan) -> str:
    """A few lines for the terminal: data, labels, network, tile, budget."""
    value = {id: decision.value for id, decision in plan.ids.items()}
    why = {id: decision.reason for id, decision in plan.ids.items()}
    kind, axes, mirrored = (value[id] for id in ("label_kind", "orientation", "mirror_axes"))
    pool, files = value.get("pool"), [name.rpartition(".")[0] for name in value["overrides"]]
    labels = LABELS[kind].format(**value)
    labels += _thin(plan.data) if kind == "mask" else ""
    labels += f"; {DROPPED.format(**value)}" * bool(value["min_size"])
    assumed = why["label_kind"] in LOOK_LIKE.values()
    apart = kind == "instances" and value.get("slice_stacks")
    scale = why.get("intensity", "")
    unusual = plan.data.off_scale or ROBUST in (value.get("intensity") or ())
    unusual = unusual or scale.endswith(AS_CT)
    features = value["features"] or "as the preset"
    source = f"weights of {plan.source.get('name')}; {plan.source.get('replay', '')}"
    epochs = f"{value['epochs']} epoch{'s' * (value['epochs'] != 1)}"
    minutes = value["minutes"]
    lines = {  # those that are empty are left out
        "found": "; ".join(plan.data.found_by),
        "images": f"{_images(plan)}, {value['in_channels']} channel(s){_taken(plan.data)}",
        "split": why["split_file"] if plan.split else "as a config file says",
        "labels": labels + f" (decided from the values{OVERRULED.get(kind, '')})" * assumed,
        "unknown": why["unknown"] if plan.data.unknown_share(kind) else "",
        "rare": why["rare"] if value.get("rare") else "",
        "planes": why["planes"] if apart else "",
        "pixels": _pixels(plan),
        "intensity": scale if unusual else "",
        "axes": "" if axes is None else f"{axes}, {why['orientation']}",
        "mirrored": "" if mirrored is None else f"along axes {mirrored}: {why['mirror_axes']}",
        "start": source if plan.source else "",
        "network": f"preset {value['preset']}, features {features}",
        "pooled": "" if pool is None else f"by {levels(pool)}: {why['pool']}",
        "config": f"with {', '.join(files)}" if files else "",
        "tile": f"{value['tile_size']} px",
        "budget": f"{minutes:g} minutes{_others(plan)}" if minutes else epochs,
    }
    return "\n".join(f"{name:9} {text}" for name, text in lines.items() if text)


def explain(plan: Plan) -> str:
    """What was found, and a line for each decision, with its reason."""
    rows = [(id, _short(why.value), why.reason) for id, why in plan.ids.items()]
    rows.sort(key=lambda row: row[2].startswith(RECIPE))  # what is the recipe's own comes last
    widths = [max(len(row[k]) for row in rows) for k in (0, 1)]
    table = [f"  {id:{widths[0]}}  {value:{widths[1]}}  {why}" for id, value, why in rows]
    return "\n".join(["found", *_found(plan.data), "decided", *table])


def _found(found: Fingerprint) -> Iterator[str]:
    kinds = ", ".join(sorted({case.image.dtype for case in found.cases}))
    yield f"  {len(found.cases)} image file(s) in {found.images}, {kinds}, {_sizes(found)}"
    for note in found.found_by:
        yield f"  {note}"
    if found.intensities and found.intensities[0]:
        low, high = (found.intensities[0][k] for k in (0, -1))
        yield (
            f"  intensities of the first channel: {low:g} to {high:g} without the extremes "
            f"({found.intensities_of} file(s) looked at)"
        )
    objects = found.instances
    kind = found.label_kind or "classes or instances"
    yield f"  labels look like {kind}{OVERRULED.get(kind, '')}"
    if found.label_kind == "instances" and objects is not None:
        yield (
            f"  {objects.count} objects, median {objects.volume_px[MEDIAN]:g} px, "
            f"{objects.touching:.0%} touch another{_specks(objects)}"
        )
    elif found.frequencies:
        shares = (f"{value}: {share:.1%}" for value, share in found.frequencies.items())
        yield "  pixels by label value: " + ", ".join(shares)
    if unknown := found.marked.get("-1"):
        yield f"  nobody annotated {unknown:.1%} of the pixels"


def _thin(found: Fingerprint) -> str:
    """Of a mask of lines what to do if they are outlines: the network would draw them likewise."""
    objects = found.instances
    width = objects.width_px[MEDIAN] if objects is not None and objects.width_px else THIN
    return ", thin: fill it where it is outlines of objects" * (width < THIN)


def _specks(objects: Instances) -> str:
    return f"; {objects.specks} are specks, and not counted in the median" * bool(objects.specks)


def _others(plan: Plan) -> str:
    if plan.subsets:
        return f" and as many for {len(plan.folds) + len(plan.subsets)} networks of fewer images"
    return " and as many for the folds" * bool(plan.folds)


def _images(plan: Plan) -> str:
    dims = plan.value("spatial_dims")
    count = image_count(plan.seen, dims)
    if plan.value("slice_stacks"):
        return f"{count}, {dims}-D, slice by slice of {len(plan.data.cases)} file(s)"
    return f"{count}, {dims}-D"


def _taken(found: Fingerprint) -> str:
    """What is left out of files with channels that add nothing."""
    if found.needed is None:
        return ""
    stored = max(case.image.channels for case in found.cases)
    what = "grey saved in colours" if found.needed == 1 else "all opaque"
    return f" of the {stored} in the files, which are {what}"


def _sizes(found: Fingerprint) -> str:
    shapes = {case.image.shape for case in found.cases}
    one = " x ".join(map(str, found.cases[0].image.shape))
    return f"{one} px" if len(shapes) == 1 else f"{one} px and {len(shapes) - 1} other size(s)"


def _pixels(plan: Plan) -> str:
    size, scale = plan.value("element_size"), plan.value("scale")
    reason = plan.ids["element_size"].reason
    why = f" ({reason})" if reason != ASKED else ""
    if size is not None:
        return f"brought to {in_words(size)} {plan.value('element_unit')}{why}"
    if scale not in (None, 1):
        return f"images are scaled by {in_words(scale)}{why}"
    images = [case.image for case in plan.seen.cases]
    silent = [image.name for image in images if not image.states_size]
    if len(silent) == len(images):
        return "of a size that the files do not say"
    known = [image for image in images if image.name not in silent]
    sizes = {(in_words(image.pixel_size), image.unit) for image in known}  # but for rounding
    text = f"{in_words(known[0].pixel_size)} {known[0].unit}"
    if len(sizes) > 1:
        text = f"of {len(sizes)} sizes, taken as they are; --element-size brings them to one"
    if silent:
        others = f" and {len(silent) - 1} other(s)" if silent[1:] else ""
        text += f"; unknown of {silent[0]}{others}: give it with --pixel-size"
    return text


def levels(value: Any) -> str:
    """One number a level, or one an axis, for a sentence: factors of poolings, sides of kernels.

    >>> levels([[2, 2, 1], 2]), levels(3), levels(None)
    ('2 x 2 x 1, 2', '3', '')
    """
    each = value if isinstance(value, list) else [] if value is None else [value]
    rows = (level if isinstance(level, list) else [level] for level in each)
    return ", ".join(" x ".join(map(str, row)) for row in rows)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
