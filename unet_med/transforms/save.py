"""Segmentations as files named after their image, on the image's grid."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config.type_definitions import KeysCollection
from monai.data.meta_tensor import MetaTensor
from monai.transforms.io.dictionary import SaveImaged
from monai.utils.misc import ensure_tuple_rep

from unet_med.data.array_writer import cast, channel_first, known_unit, smallest_label_dtype
from unet_med.data.cases import NAME, files_in, one_place, result_name
from unet_med.data.changed_results import ChangedResults
from unet_med.data.class_names import names_of
from unet_med.data.entries import DIGESTS, WRITTEN
from unet_med.data.files import save_image
from unet_med.data.formats import PICTURE, TIFF, format_of, result_suffix, stem
from unet_med.data.outlines import outlines
from unet_med.data.roi_writer import ROI_SUFFIXES
from unet_med.data.tiff_writer import TiffWriter
from unet_med.transforms.rois import FOUND
from unet_med.transforms.tensors import noted

SEG = "seg"  # the key that is written as DICOM SEG
ROIS = "rois"  # the key of which outlines are written
# of others that of the source's format
_EXTENSIONS: Mapping[Hashable, Sequence[str]] = {SEG: (".dcm",), ROIS: ROI_SUFFIXES}


class SaveImageResultd(SaveImaged):
    """Write `NAME_mask.tif`, `NAME_instances.tif`, `NAME_probabilities.tif`, one a key.

    The key `seg` is a mask of classes, written as DICOM SEG, `NAME_seg.dcm`. Of the key `rois`,
    which `ScoreObjectsd` makes, outlines are written, `NAME_rois.zip` and `NAME_rois.geojson`.

    NAME is the source's file name without its image suffix; of an image in several files, what
    their names share. TIFF, OME-Zarr, PNG and other
    pictures give OME-TIFF, NIfTI and other medical formats `.nii.gz`, with the source's
    affine and unit; each file appears in one step, and of an image that fails none stays. In a
    folder with a `record.json` it takes nothing away that has changed since it was written: see
    `unet_med.data.changed_results`. It is a `SaveImaged`, and its name has `SaveImage` in it, by
    which MONAI's tools know what they leave out.

    Args:
        keys: images `(C, X, Y[, Z])` on the grid of their source; their metadata, or those
            of `"image"`, name the source.
        output_dir: folder for the files, made if missing.
        dicom_seg: writes the key `seg`, a `unet_med.data.DicomSegWriter`.
        rois: writes the key `rois`, a `unet_med.data.RoiWriter`.
        class_names: of the channels of probabilities, without the background; None: not named.
        class_values: of the classes in masks, by which channels without a name are called.
        suffixes: name part of each key; the key itself by default.
        output_dtype: one, or one a key: a NumPy dtype, `"label"` (the smallest integer
            dtype that holds the values), or None (32-bit floats for `"probabilities"`
            and `"uncertainty"`, labels for all else, MONAI's float masks too).
        allow_missing_keys: skip keys that an item lacks.
        name: template of NAME, see `unet_med.data.cases.result_name`.
        file: of one image, write the first key here, whatever the names, and others beside it:
            `a_mask.nii.gz` and `a_instances.nii.gz`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | os.PathLike[str] = ".",
        *,
        dicom_seg: Any = None,
        rois: Any = None,
        class_names: Sequence[str] | None = None,
        class_values: Sequence[int] | None = None,
        suffixes: Mapping[str, str] | None = None,
        output_dtype: Any = None,
        allow_missing_keys: bool = False,
        name: str = NAME,
        file: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(
            keys,
            output_dir=Path(output_dir),
            writer=TiffWriter,
            allow_missing_keys=allow_missing_keys,
        )
        self.output_dir = Path(output_dir)
        self.dicom_seg = dicom_seg
        self.rois = rois
        self.class_names, self.class_values = class_names, class_values
        self.suffixes = dict(suffixes or {})
        self.output_dtype = ensure_tuple_rep(output_dtype, len(self.keys))
        self.name = name
        self.file = None if file is None else Path(file)
        self._source_of: dict[str, str] = {}
        self._changed = ChangedResults(self.output_dir if self.file is None else self.file.parent)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the keys of one item.

        Returns:
            The item as it came; its image's metadata say which keys were written (`outputs`), the
            SHA-256 of the files where a record is kept (`digests`), and of a DICOM SEG which file
            that is.

        Raises:
            ValueError: no metadata names the source, the image has left the source's
                grid, or two sources of one name meet in the folder.
        """
        item = dict(data)
        written: dict[str, dict[str, str]] = {}
        places: list[Path] = []
        try:
            for key, dtype in self.key_iterator(item, self.output_dtype):
                files = self._files(key, files_in(self._meta(item, key)))
                with self._changed.writing(*files) as digests:
                    self._write(key, dtype, item, files[0])
                    places += files
                written[self._part(key)] = digests
        except Exception:  # a part would pass for the whole
            for place in places:
                place.unlink(missing_ok=True)
            raise
        before = getattr(item.get("image"), "meta", {})  # of another such step
        _note(item, WRITTEN, list(dict.fromkeys([*before.get(WRITTEN, ()), *written])))
        if digests := {name: d for own in written.values() for name, d in own.items()}:
            _note(item, DIGESTS, {**before.get(DIGESTS, {}), **digests})
        return item

    def _write(self, key: Hashable, dtype: Any, item: dict[Hashable, Any], path: Path) -> None:
        """Write one key of an item, the first of whose files is given."""
        image = item[key]
        meta = self._meta(item, key)
        array = channel_first(image)
        _check_grid(array, meta, key)
        if key == SEG:
            self._write_seg(path, array, meta, item)
        elif key == ROIS:
            self._write_rois(path, array[0], item[key], len(item["image"]))
        else:
            source = files_in(meta)[0]
            save_image(
                path,
                _cast(array, dtype or _default_dtype(key)),
                image.affine if isinstance(image, MetaTensor) else meta.get("affine"),
                known_unit(meta),
                channel_names=self._channel_names(len(array)) if key == "probabilities" else (),
                like=source if Path(source).is_file() else None,
            )

    def _write_seg(
        self, path: Path, array: np.ndarray, meta: Mapping[str, Any], item: dict[Hashable, Any]
    ) -> None:
        """Write a mask `(1, X, Y, Z)`, and put an image that names the file into the item."""
        uid = self.dicom_seg.write(path, array[0], files_in(meta)[0])
        _note(item, "dicom_seg", {"file": path.name, "uid": uid})

    def _write_rois(
        self, path: Path, labels: np.ndarray, objects: MetaTensor, channels: int
    ) -> None:
        """Write outlines of the objects `(X, Y[, Z])`, in the order of the file's own axes."""
        place = path.with_name(path.name.removesuffix(ROI_SUFFIXES[0]))
        self.rois.write(place, outlines(labels.T), objects.meta[FOUND], channels=channels)

    def _channel_names(self, channels: int) -> tuple[str, ...]:
        """Names that viewers show beside the channels of probabilities."""
        return tuple(names_of(self.class_values or range(channels), self.class_names))

    def _meta(self, item: Mapping[Hashable, Any], key: Hashable) -> Mapping[str, Any]:
        for candidate in (item[key], item.get("image")):
            if isinstance(candidate, MetaTensor) and "filename_or_obj" in candidate.meta:
                return candidate.meta
        raise ValueError(f"neither {key!r} nor 'image' has metadata that names its file")

    def _part(self, key: Hashable) -> str:
        return self.suffixes.get(str(key), str(key))

    def _files(self, key: Hashable, sources: list[str]) -> list[Path]:
        """Files of a key of an image, of outlines two."""
        source = sources[0]
        if self.file is None:
            name, suffix = result_name(sources, self.name), result_suffix(source)
            places = [f"{name}_{self._part(key)}{end}" for end in _EXTENSIONS.get(key, (suffix,))]
            files = [self.output_dir / place for place in places]
        else:
            files = _beside(self.file, key, self._part(key), first=key == self.keys[0])
        for path in files:
            if (other := self._source_of.setdefault(one_place(str(path)), source)) != source:
                raise ValueError(
                    f"{path} would be written for {source} and for {other}; "
                    "give the sources different names or different output folders"
                )
        return files


def _beside(file: Path, key: Hashable, part: str, *, first: bool) -> list[Path]:
    """Files of a key where that of the first one is named; no picture holds fractions."""
    base = stem(file)
    suffix = file.name[len(base) :]
    if format_of(file) is PICTURE and _default_dtype(key) != "label":
        suffix = TIFF.result_suffix
    name = base.removesuffix("_mask")
    others = [file.with_name(f"{name}_{part}{end}") for end in _EXTENSIONS.get(key, (suffix,))]
    return [file] if first else others


def _note(item: dict[Hashable, Any], name: str, value: Any) -> None:
    """Put an image into the item whose metadata say this too."""
    if isinstance(image := item.get("image"), MetaTensor):
        item["image"] = noted(image, name, value)


def _check_grid(array: np.ndarray, meta: Mapping[str, Any], key: Hashable) -> None:
    expected = tuple(int(size) for size in meta.get("spatial_shape", array.shape[1:]))
    if array.shape[1:] != expected:
        raise ValueError(
            f"{key!r} has spatial shape {array.shape[1:]}, its source {expected}; "
            "undo resampling, padding and cropping first"
        )


def _default_dtype(key: Hashable) -> str:
    return "float32" if key in ("probabilities", "uncertainty") else "label"


def _cast(array: np.ndarray, dtype: Any) -> np.ndarray:
    if isinstance(dtype, str) and dtype == "label":
        return smallest_label_dtype(array)
    return cast(array, dtype)


SaveImageResultD = SaveImageResultDict = SaveImageResultd
SaveSegmentationd = SaveImageResultd  # its name in bundles of earlier versions
