"""What the record of results says of images: an entry for each, by the name of its results."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor

from unet_med.bundle.writing import planned_bundle
from unet_med.data.array_writer import known_unit
from unet_med.data.cases import files_in, same_name
from unet_med.data.checksum import sha256
from unet_med.data.entries import DIGESTS, WRITTEN
from unet_med.planning.learned import Learned
from unet_med.planning.source import learned_by
from unet_med.report.provenance import EARLIER
from unet_med.transforms.confidence import CONFIDENCE

ARRAYS = "arrays"  # SHA-256 of images that are no file's, by name
CLAIMED = "claimed"  # names that results were written under before their images were recorded


def describe(image: MetaTensor) -> dict[str, Any]:
    """File, shape `[C, X, Y[, Z]]`, pixel size, SHA-256, confidence and results of an image.

    Shape and pixel size are those of the file, as are those of the results, even if the network
    saw another pixel size.
    """
    files = [str(Path(file).absolute()) for file in files_in(image.meta)]
    unit = known_unit(image.meta)
    dims = image.ndim - 1
    shape = [int(side) for side in image.meta.get("spatial_shape", image.shape[1:])]
    affine = torch.as_tensor(image.meta.get("original_affine", image.affine))
    sizes = torch.linalg.norm(affine[:-1, :dims], dim=0)  # a plane may stand upright in space
    return {
        "file": files[0],
        **({"files": files} if len(files) > 1 else {}),
        "sha256": sha256(files),
        "shape": [image.shape[0], *shape],
        "pixel_size": [round(float(size), 6) for size in sizes] if unit else None,
        "unit": unit,
        "affine": affine.tolist() if unit else None,
        **({CONFIDENCE: image.meta[CONFIDENCE]} if CONFIDENCE in image.meta else {}),
        **({WRITTEN: list(image.meta[WRITTEN])} if WRITTEN in image.meta else {}),
        **({DIGESTS: dict(image.meta[DIGESTS])} if DIGESTS in image.meta else {}),
        **({"dicom_seg": image.meta["dicom_seg"]} if "dicom_seg" in image.meta else {}),
        **({"notes": notes.splitlines()} if (notes := image.meta.get("notes")) else {}),
    }


def entries_of(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What a record says of each image, by its name; empty of one whose run was stopped."""
    claimed: dict[str, Any] = {name: {} for name in record.get(CLAIMED, ())}
    known = {**claimed, **record.get(EARLIER, {}), **record.get("images", {})}
    return {same_name(name): entry for name, entry in known.items()}


def arrays_in(record: Mapping[str, Any], maker: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of images that are no file's, by their names; empty of those of another maker."""
    ours = is_made_by(record, maker)
    return {name: each if ours else "" for name, each in record.get(ARRAYS, {}).items()}


def learned_of(weights: str | os.PathLike[str] | None) -> Learned:
    """What the bundle of some weights has learned from; of no bundle nothing is known."""
    folder = planned_bundle(weights)
    try:
        return Learned() if folder is None else learned_by(folder)
    except (KeyError, TypeError, ValueError):  # the plan of another version says nothing
        return Learned()


def without(record: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """A record that says nothing of some names."""
    gone = set(names)
    left = dict(record)
    for part in ("images", EARLIER):
        if part in left:
            left[part] = {k: v for k, v in left[part].items() if same_name(k) not in gone}
    claimed = [name for name in left.pop(CLAIMED, ()) if same_name(name) not in gone]
    return {**left, CLAIMED: claimed} if claimed else left


def is_made_by(record: Mapping[str, Any], maker: Mapping[str, Any]) -> bool:
    """Whether results are of the same settings and the same weights, wherever these lie."""
    hashes = [(each.get("weights") or {}).get("sha256") for each in (record, maker)]
    return bool(record) and hashes[0] == hashes[1] and record.get("settings") == maker["settings"]


def is_of_same_image(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> bool:
    """Whether an entry says of the same pixels what one says now."""
    return before is not None and bool(before["sha256"] == entry["sha256"])


def joined(
    before: Mapping[str, Any],
    kept: Mapping[str, Any],
    images: Mapping[str, dict[str, Any]],
    claimed: Iterable[str],
) -> dict[str, Any]:
    """What a record says of images from now on.

    Args:
        before: the record so far.
        kept: images in it of the same weights and settings.
        images: those that are done now.
        claimed: names that results are written under.
    """
    own = {name: _united(entry, kept.get(name)) for name, entry in images.items()}
    listed = {**kept, **own}
    earlier = {**before.get(EARLIER, {}), **before.get("images", {})}
    earlier = {name: _left(entry) for name, entry in earlier.items() if name not in listed}
    names = dict.fromkeys([*before.get(CLAIMED, ()), *claimed])
    open_names = [name for name in names if name not in listed]
    return {
        "images": listed,
        **({EARLIER: earlier} if earlier else {}),
        **({CLAIMED: open_names} if open_names else {}),
    }


def _united(entry: dict[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """An entry, with the outputs that the same weights and settings wrote of the image before."""
    if before is None or not is_of_same_image(entry, before):
        return entry
    written = list(dict.fromkeys([*before.get(WRITTEN, ()), *entry.get(WRITTEN, ())]))
    digests = {**before.get(DIGESTS, {}), **entry.get(DIGESTS, {})}
    both = {WRITTEN: written, DIGESTS: digests}
    return {**entry, **{name: value for name, value in both.items() if value}}


def _left(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What stays of an entry once others make the record: which file, and which results."""
    return {k: entry[k] for k in ("file", "sha256", WRITTEN, DIGESTS) if k in entry}


def is_written(path: Path, kind: str, entry: Mapping[str, Any]) -> bool:
    """Whether a run wrote a result, as the entry of its image says."""
    if DIGESTS in entry and not path.is_dir():
        return same_name(path.name) in map(same_name, entry[DIGESTS])
    return kind in entry[WRITTEN]


def is_other(files: Sequence[str], before: Mapping[str, Any]) -> bool:
    """Whether an image is not the one that was recorded, which may have moved or changed."""
    if str(Path(files[0]).absolute()) == before["file"]:
        return False
    found = hash_of(files)
    return found is not None and bool(found != before["sha256"])


def hash_of(files: Sequence[str]) -> str | None:
    """SHA-256 of an image's files; None: one is missing, or can no longer be read."""
    try:
        return sha256(files)
    except OSError:
        return None
