"""Look at the files of a training, one at a time: headers, geometry, label values, intensities."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_med import data
from unet_med.data.cases import Files, files_of
from unet_med.data.datalist import look_for_pairs, names_labels
from unet_med.data.file_reader import Volume
from unet_med.data.grids import Grid, axes_of, turn_onto
from unet_med.data.label_reader import look_at_label
from unet_med.data.labels import LOOKED_AT, LabelSummary
from unet_med.data.list_file import class_names
from unet_med.data.pixel_size import MICROMETRES
from unet_med.planning.fingerprints import (
    PERCENTILES,
    Apart,
    Case,
    FileFacts,
    Fingerprint,
    Instances,
)
from unet_med.planning.folders import DataFolder
from unet_med.planning.orientation import decide_orientation
from unet_med.planning.ranges import as_ranges
from unet_med.planning.sides import lie_apart, places_of

SECONDS = 30.0  # for statistics of pixels; what does not fit in is sampled
SAMPLES = 100_000  # pixels of an image and channel at most,
ALL_SAMPLES = 10_000_000  # and of all images: 40 MB a channel
FEW_VALUES = 256  # label values whose frequencies are worth a line each

Item = dict[str, Any]


def fingerprint(
    images: str | os.PathLike[str],
    labels: str | os.PathLike[str] | None = None,
    *,
    seconds: float = SECONDS,
    **choice: Any,
) -> Fingerprint:
    """What images and labels say; of each file header and hash, and every label's values.

    Files are opened one at a time; no more than one is in memory.

    Args:
        images: a folder, one file, or a MONAI data list (JSON) with `image` and `label`.
        labels: a folder with labels of matching names, or the one label file.
        seconds: for statistics of the images' pixels, which take a sample where this is short;
            the first image is looked at in any case.
        choice: which image of files that hold several, and `pixel_size`; see `AutoReader`.

    Raises:
        FileNotFoundError: a path is missing.
        ValueError: an image without a label, a file that cannot be read; names the file.
    """
    folder = DataFolder.of(images, labels)
    if labels is not None and names_labels(folder.images):
        raise ValueError(f"{images} names its labels, so {labels} has no effect: leave it out")
    listing = look_for_pairs(folder.images, folder.labels)
    pairs = listing.items
    heads = [_heads(pair["image"], pair["label"], folder, choice) for pair in pairs]
    word = decide_orientation([image for image, _ in heads]).value
    looks = _look([pair["label"] for pair in pairs], heads, word, choice)
    seen = [image.turned(word) if word else image for image, _ in heads]
    data.require_objects(looks, [label.name for _, label in heads])
    kind, doubt = _kind(looks)
    sampled = _sample([pair["image"] for pair in pairs], seconds, choice)
    return Fingerprint(
        images=folder.name(folder.images),
        labels=folder.name(folder.labels) if folder.labels else None,
        cases=tuple(
            Case(image, label, as_ranges(look.values.tolist()))
            for (image, label), look in zip(heads, looks, strict=True)
        ),
        label_kind=kind,
        frequencies=_frequencies(looks),
        instances=_instances(looks, seen),
        intensities=_percentiles(sampled),
        intensities_of=len(sampled),
        reader=dict(choice),
        found_by=listing.notes,
        apart=_apart(looks, seen, word) if word else (),
        class_names=class_names(folder.images),
        doubt=doubt,
    )


def _look(
    labels: Sequence[str],
    heads: Sequence[tuple[FileFacts, FileFacts]],
    word: str | None,
    choice: Mapping[str, Any],
) -> list[LabelSummary]:
    """At every label in the orientation of the set, one file at a time."""
    turns = [label.turn(word, image.orientation) for image, label in heads]
    return [
        look_at_label(file, blobs=k < LOOKED_AT, turn=turn, **choice)
        for k, (file, turn) in enumerate(zip(labels, turns, strict=True))
    ]


def _kind(looks: Sequence[LabelSummary]) -> tuple[str | None, str | None]:
    """What the labels look like, or why that cannot be told; what the user says then holds."""
    try:
        return data.guess_label_kind(looks), None
    except ValueError as doubt:
        return None, str(doubt)


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
    )


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
    """Share of all pixels that have each value, by the value."""
    values = set().union(*(look.values.tolist() for look in looks))
    if len(values) > FEW_VALUES:
        return {}
    counts = dict.fromkeys(sorted(values), 0)
    for look in looks:
        for value, count in zip(look.values.tolist(), look.counts.tolist(), strict=True):
            counts[value] += count
    total = sum(counts.values())
    return {str(value): count / total for value, count in counts.items()}


def _instances(looks: Sequence[LabelSummary], images: Sequence[FileFacts]) -> Instances | None:
    planes = [data.instance_sizes(look, 2) for look in looks]
    volumes = [data.instance_sizes(look, 3) for look in looks]
    count = sum(map(len, volumes))
    if not count:
        return None
    area = [np.prod(image.pixel_size[:2]) for image in images]
    volume = [np.prod(image.pixel_size) for image in images]
    return Instances(
        count=count,
        touching=sum(look.touching for look in looks) / count,
        plane_px=_spread(planes),
        plane_area=_median(planes, area),
        volume_px=_spread(volumes),
        volume=_median(volumes, volume),
    )


def _spread(sizes: Sequence[np.ndarray]) -> tuple[float, ...]:
    return tuple(np.percentile(np.concatenate(sizes), PERCENTILES).tolist())


def _median(sizes: Sequence[np.ndarray], pixels: Sequence[Any]) -> float:
    """Median of sizes in px of each file, in the unit of its pixel."""
    scaled = [size * pixel for size, pixel in zip(sizes, pixels, strict=True)]
    return float(np.median(np.concatenate(scaled)))


def _sample(
    paths: Sequence[Files],
    seconds: float,
    choice: Mapping[str, Any],
    clock: Callable[[], float] = time.monotonic,
) -> list[np.ndarray]:
    """Pixels `(C, N)` of as many images as there is time for, spread over the set."""
    end = clock() + seconds
    most = max(1, min(SAMPLES, ALL_SAMPLES // len(paths)))
    samples: list[np.ndarray] = []
    for k in _spread_out(len(paths)):
        if samples and clock() >= end:
            break
        image = data.load_image(paths[k], **choice).numpy()
        pixels = image.reshape(image.shape[0], -1)
        samples.append(pixels[:, :: -(-pixels.shape[1] // most)].copy())
    return samples


def _spread_out(count: int) -> list[int]:
    """Positions in an order whose every beginning is spread over the whole.

    >>> _spread_out(5)
    [0, 4, 2, 1, 3]
    """
    bits = max(1, (count - 1).bit_length())
    turned = [int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits)]
    return [k for k in turned if k < count]


def _percentiles(samples: Sequence[np.ndarray]) -> tuple[tuple[float, ...], ...]:
    """Of each channel that all sampled images have, over the pixels that are finite."""
    channels = min(len(sample) for sample in samples)
    found = []
    for c in range(channels):
        pixels = np.concatenate([sample[c] for sample in samples])
        pixels = pixels[np.isfinite(pixels)]
        found.append(tuple(np.percentile(pixels, PERCENTILES).tolist()) if pixels.size else ())
    return tuple(found)
