"""Look at the files of a training, one at a time: headers, geometry, label values, intensities."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from unet_med import data
from unet_med.data.bars import Bar, with_bar
from unet_med.data.cases import Files, files_of
from unet_med.data.class_names import about_regions, listed_names, listed_unknown
from unet_med.data.colours import channels_needed
from unet_med.data.datalist import look_for_pairs, names_labels
from unet_med.data.entries import Item
from unet_med.data.file_reader import Volume
from unet_med.data.grey_values import SAMPLES
from unet_med.data.grids import Grid, axes_of, turn_onto
from unet_med.data.label_checks import about_sharpened
from unet_med.data.label_reader import look_and_head, mask_pieces, refuse_masks
from unet_med.data.labels import LOOKED_AT, LabelSummary, stands_out
from unet_med.data.list_file import list_of
from unet_med.data.modality import headers_modality, stated_modality
from unet_med.data.pixel_size import MICROMETRES
from unet_med.errors import befalls_all, one_line, user_error
from unet_med.geometry.spread import spread_step
from unet_med.instances import IGNORED, UNKNOWN
from unet_med.planes import Planes
from unet_med.planning.extremes import Extremes
from unet_med.planning.fingerprints import Apart, Case, FileFacts, Fingerprint
from unet_med.planning.folders import DataFolder
from unet_med.planning.foreground import IMAGES, foreground_scales
from unet_med.planning.object_sizes import measure_objects
from unet_med.planning.orientation import decide_orientation
from unet_med.planning.ranges import as_ranges
from unet_med.planning.sampled import off_scale, percentiles, skews
from unet_med.planning.sides import lie_apart, places_of

SECONDS = 30.0  # for statistics of pixels; what does not fit in is sampled
ALL_SAMPLES = 10_000_000  # pixels of a channel in all images: 40 MB
FEW_VALUES = 256  # label values whose frequencies are worth a line each
SHOWN = 5  # faults in one sentence

T = TypeVar("T")
Found = TypeVar("Found")


def fingerprint(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    seconds: float = SECONDS,
    modality: Sequence[str] | None = None,
    unknown: int | None = None,
    progress: bool = False,
    **choice: Any,
) -> Fingerprint:
    """What images and labels say; of each file header and hash, and every label's values.

    Files are opened one at a time; no more than one is in memory.

    Args:
        images: a folder, one file, or a MONAI data list (JSON) with `image` and `label`.
        labels: a folder with labels of matching names, or the one label file.
        seconds: for statistics of the images' pixels, which take a sample where this is short;
            some images are looked at in any case (`extremes.Extremes`), from which alone a value
            of the network follows.
        modality: how the images were taken, one, or one a channel; None: as a data list says. Of
            CT the intensities of the foreground are looked at too.
        unknown: the labels' value of pixels that nobody annotated (`data.mark_unknown`); None: as
            a data list says.
        progress: show bars.
        choice: which image of files that hold several, and `pixel_size`; see `AutoReader`.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: an image without a label, files that cannot be read or are no labels; names
            them.
    """
    folder = DataFolder.of(images, labels)
    if labels is not None and names_labels(folder.images):
        raise ValueError(f"{images} names its labels, so {labels} has no effect: leave it out")
    listing = look_for_pairs(folder.images, folder.labels)
    pairs = listing.items
    folder = folder.telling_apart(pair[part] for pair in pairs for part in ("image", "label"))
    bar = partial(with_bar, wanted=progress)
    heads = _of_each(
        lambda pair: _heads(pair["image"], pair["label"], folder, choice), pairs, bar, "files"
    )
    word = decide_orientation([image for image, _ in heads]).value
    unknown = _unknown(folder.images) if unknown is None else unknown
    files, read_as = [pair["label"] for pair in pairs], {**choice, "unknown": unknown}
    looks = _look(files, heads, word, read_as, bar)
    seen = [image.turned(word) if word else image for image, _ in heads]
    data.require_objects(looks, [label.name for _, label in heads])
    kind, doubt = _kind(files, looks, read_as)
    extremes = Extremes()
    sampled = _sample([pair["image"] for pair in pairs], seconds, choice, bar, extremes=extremes)
    count = max(map(channels_needed, sampled))
    needed = count if count < max(image.channels for image, _ in heads) else None
    sampled = [sample[:count] for sample in sampled]
    stated = stated_modality(folder.images) or headers_modality(
        [pair["image"] for pair in pairs], choice.get("series")
    )
    names, order = list(modality or stated), _spread_out(len(pairs))
    scaled = _for_scale(pairs, looks) if "ct" in names else []
    known = {heads[k][0].name: each for k, each in zip(order, sampled, strict=False)}
    ct = [c for c in range(count) if names and names[c % len(names)] == "ct"]
    notes = [
        about_regions(list_of(folder.images)),
        about_sharpened(looks, [Path(file).name for file in files]),
    ]
    return Fingerprint(
        images=folder.name(folder.images),
        labels=folder.name(folder.labels) if folder.labels else None,
        cases=tuple(
            Case(
                image,
                label,
                as_ranges(look.values.tolist()),
                _listed(pair, folder),
                {str(mark): str(as_ranges(planes)) for mark, planes in look.blank.items()},
                len(look.empty),
                _in_planes(look) if image.plane_count > 1 else {},
                as_ranges(look.empty),
            )
            for pair, (image, label), look in zip(pairs, heads, looks, strict=True)
        ),
        label_kind=kind,
        frequencies=_frequencies(looks),
        instances=measure_objects(looks, seen),
        intensities=percentiles(sampled),
        intensities_of=len(sampled),
        skews=skews(sampled),
        reader=dict(choice),
        found_by=(*listing.notes, *filter(None, notes)),
        apart=_apart(looks, seen, word) if word else (),
        class_names=_class_names(folder.images),
        doubt=doubt,
        modality=stated,
        foreground=foreground_scales(scaled, choice, unknown=unknown)[:needed],
        foreground_of=len(scaled),
        extremes=extremes.facts(pairs, choice, unknown)[:needed],
        unknown=unknown,
        marked=_marked(looks),
        stand_out=tuple(
            label.name for look, (_, label) in zip(looks, heads, strict=True) if stands_out(look)
        ),
        covered=_covered(looks),
        planes=_planes(looks),
        masks=_masks(files, [label.name for _, label in heads], looks, read_as),
        needed=needed,
        off_scale=off_scale(known, ct),
    )


def _look(
    labels: Sequence[str],
    heads: Sequence[tuple[FileFacts, FileFacts]],
    word: str | None,
    choice: Mapping[str, Any],
    bar: Bar,
) -> list[LabelSummary]:
    """At every label in the orientation of the set, one file at a time."""

    def look(k: int) -> LabelSummary:
        image, label = heads[k]
        turn = label.turn(word, image.orientation)
        return look_and_head(labels[k], blobs=k < LOOKED_AT, turn=turn, **choice)[0]

    return _of_each(look, range(len(labels)), bar, "labels")


def _of_each(look: Callable[[T], Found], cases: Sequence[T], bar: Bar, what: str) -> list[Found]:
    """What is found in each case, or what is wrong with all that are not as they should be.

    Raises:
        ValueError: names the first few; of a single one its own error.
    """
    found, faults, first = [], [], None
    for case in bar(cases, f"looking at {what}"):
        try:
            found.append(look(case))
        except Exception as error:
            if user_error(error) is None or befalls_all(error):
                raise
            faults.append(one_line(error))
            first = first or error  # the others hold on to arrays
    if first is not None and len(faults) == 1:
        raise first
    if faults:
        more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        said = "; ".join(f"({k}) {fault}" for k, fault in enumerate(faults[:SHOWN], 1))
        raise ValueError(f"{len(faults)} of {len(cases)} cases cannot be used: {said}{more}")
    return found


def _for_scale(pairs: Sequence[Item], looks: Sequence[LabelSummary]) -> list[Item]:
    """Cases with objects, spread over the set, from which the scale of CT is taken.

    255 is the object where the labels have no other, and ignored where they have.
    """
    values = [{*look.values[look.values > 0].tolist()} for look in looks]
    ignored = {IGNORED} if set().union(*values) > {IGNORED} else set()
    held = [pair for pair, own in zip(pairs, values, strict=True) if own - ignored]
    return [held[k] for k in _spread_out(len(held))[:IMAGES]]


def _kind(
    files: Sequence[str], looks: Sequence[LabelSummary], choice: Mapping[str, Any]
) -> tuple[str | None, str | None]:
    """What the labels look like, or why that cannot be told; what the user says then holds."""
    try:
        kind = data.guess_label_kind(looks)
        if kind == "instances":
            refuse_masks(files, looks, **choice)
    except ValueError as doubt:
        return None, str(doubt)
    return kind, None


def _masks(
    files: Sequence[str],
    names: Sequence[str],
    looks: Sequence[LabelSummary],
    choice: Mapping[str, Any],
) -> str | None:
    """Why all labels are masks, which number no objects; None: some are none, or there is one.

    Of those that hold something the first few are looked at: the user may call them instances.
    """
    held = [k for k, look in enumerate(looks) if (look.values > 0).any()]
    if len(held) < 2 or any((looks[k].values > 0).sum() > 1 for k in held):
        return None
    pieces = [mask_pieces(files[k], looks[k], **choice) for k in held[:LOOKED_AT]]
    first = f"the one value of {names[held[0]]}, {looks[held[0]].values[-1]:g}"
    return f"{first}, lies in {pieces[0]} pieces" if all(pieces) else None


def _class_names(images: Path) -> dict[str, str]:
    """Names that a data list, or the `dataset.json` beside a folder, gives to label values."""
    return {str(value): name for value, name in listed_names(list_of(images)).items()}


def _unknown(images: Path) -> int | None:
    """The value that such a list calls `ignore`; -1 needs no word."""
    value = listed_unknown(list_of(images))
    return None if value == UNKNOWN else value


def _marked(looks: Sequence[LabelSummary]) -> dict[str, float]:
    """Share of all pixels that are -1 and 255, where there are any."""
    pixels = sum(int(look.counts.sum()) for look in looks)
    counts = {
        mark: sum(int(look.counts[look.values == mark].sum()) for look in looks)
        for mark in (UNKNOWN, IGNORED)
    }
    return {str(mark): count / pixels for mark, count in counts.items() if count}


def _planes(looks: Sequence[LabelSummary]) -> Planes | None:
    """What the numbers of objects say of the planes of all stacks."""
    said = {look.planes for look in looks} - {None}
    return said.pop() if len(said) == 1 else None


def _covered(looks: Sequence[LabelSummary]) -> float:
    """Share of the pixels that are positive, of those that are not -1."""
    known = sum(int(look.counts[look.values != UNKNOWN].sum()) for look in looks)
    positive = sum(int(look.counts[look.values > 0].sum()) for look in looks)
    return positive / max(known, 1)


def _heads(
    image: Files, label: str, folder: DataFolder, choice: Mapping[str, Any]
) -> tuple[FileFacts, FileFacts]:
    """Of an image and its label, which lie on one grid, or can be turned onto it."""
    heads = data.load_header(image, **choice), data.load_header(label, **data.label_choice(choice))
    names = [folder.name(path) for path in (image, label)]
    said = [
        f"{what} {Path(name).name}"
        for what, name in zip(("its image", "label"), names, strict=True)
    ]
    turn_onto(Grid.of(heads[1], said[1]), Grid.of(heads[0], said[0]))
    return _facts(image, names[0], heads[0]), _facts(label, names[1], heads[1])


def _listed(pair: Item, folder: DataFolder) -> dict[str, Any]:
    """What a data list says of a case besides its files, and the names of several files."""
    more = {key: value for key, value in pair.items() if key not in ("image", "label")}
    files = files_of(pair["image"])
    return {**({"image": [folder.name(file) for file in files]} if len(files) > 1 else {}), **more}


def _facts(path: Files, name: str, header: Volume) -> FileFacts:
    sizes = header.pixel_size
    return FileFacts(
        name=name,
        sha256=data.sha256([Path(file).expanduser() for file in files_of(path)]),
        shape=tuple(map(int, header.spatial_shape)),
        channels=header.array.shape[0] if header.has_channels else 1,
        dtype=str(header.array.dtype),
        pixel_size=tuple(map(float, sizes)),
        pixel_size_source=header.spacing_source,
        unit=header.spatial_unit,
        orientation=axes_of(header.affine) if Grid.of(header, name).oriented else None,
        planes=header.planes if (*header.spatial_shape, 1)[2] > 1 else None,
        channel_names=header.channel_names,
    )


def _in_planes(look: LabelSummary) -> dict[str, int]:
    """Number of planes that hold each value, by the value; empty where there are many."""
    if look.in_planes is None or len(look.values) > FEW_VALUES:
        return {}
    return dict(zip(map(str, look.values.tolist()), look.in_planes.tolist(), strict=True))


def _apart(
    looks: Sequence[LabelSummary], images: Sequence[FileFacts], word: str
) -> tuple[Apart, ...]:
    stated = [
        places_of(look, [size * MICROMETRES[image.unit] for size in image.pixel_size])
        for look, image in zip(looks, images, strict=True)
        if image.orientation and image.orientation[:2] == word[:2]  # else a plane of other axes
    ]
    return lie_apart(stated, word)


def _frequencies(looks: Sequence[LabelSummary]) -> dict[str, float]:
    """Share of all pixels that have each value, by the value; of those of -1 nothing is known."""
    values = set().union(*(look.values.tolist() for look in looks)) - {UNKNOWN}
    if len(values) > FEW_VALUES:
        return {}
    counts = dict.fromkeys(sorted(values), 0)
    for look in looks:
        for value, count in zip(look.values.tolist(), look.counts.tolist(), strict=True):
            if value in counts:
                counts[value] += count
    total = sum(counts.values())
    return {str(value): count / total for value, count in counts.items() if total}


def _sample(
    paths: Sequence[Files],
    seconds: float,
    choice: Mapping[str, Any],
    bar: Bar = with_bar,
    clock: Callable[[], float] = time.monotonic,
    extremes: Extremes | None = None,
) -> list[np.ndarray]:
    """Pixels `(C, N)` of as many images as there is time for, spread over the set.

    What `extremes` wants is looked at besides, however long that takes.
    """
    end = clock() + seconds
    most = max(1, min(SAMPLES, ALL_SAMPLES // len(paths)))
    samples: list[np.ndarray] = []
    for k in bar(_spread_out(len(paths)), "looking at pixels"):
        in_time = not samples or clock() < end
        wanted = extremes is not None and extremes.wants
        if not in_time and not wanted:
            break
        image = data.load_image(paths[k], **choice).numpy()
        if extremes is not None:
            extremes.look(k, image)
        if in_time:
            step = spread_step(image.shape[1:], most)
            samples.append(image.reshape(image.shape[0], -1)[:, ::step].copy())
        del image  # before the next one is read
    return samples


def _spread_out(count: int) -> list[int]:
    """Positions in an order whose every beginning is spread over the whole.

    >>> _spread_out(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(1, (count - 1).bit_length())
    turned = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits)]
    return [k for k in turned if k < count]
