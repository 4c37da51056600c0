"""How images were taken, where a list or a header says it; never guessed from pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med.data.cases import Files, files_of
from unet_med.data.dicom_files import is_series
from unet_med.data.list_file import facts_in, is_list

_OTHER_NAMES = {"mri": "mr", "mrt": "mr", "phase contrast": "phase", "em": "electron"}


def stated_modality(images: Path) -> tuple[str, ...]:
    """Modality of each channel, as a data list or nnU-Net's `dataset.json` has it.

    Args:
        images: a data list, or a folder `imagesTr` or `imagesTs` beside a `dataset.json`.

    Returns:
        Names in lower case, as `--modality` has them where they mean one of those; empty where
        nothing is said.
    """
    path = images if is_list(images) else images.parent / "dataset.json"
    if path is not images and not images.name.startswith("images"):
        return ()
    facts = facts_in(path)
    said = facts.get("channel_names") or facts.get("modality")
    names = _in_order(said) if said else []
    return tuple(map(modality_of, names)) if all(isinstance(n, str) for n in names) else ()


def headers_modality(images: Sequence[Files], series: str | None = None) -> tuple[str, ...]:
    """Modality of each channel, as the headers of DICOM images have it.

    Returns:
        As `stated_modality`; empty where an image is no DICOM, or where they differ.
    """
    if not images:
        return ()
    found = {tuple(_stated_by(file, series) for file in files_of(image)) for image in images}
    stated = found.pop()
    if found or not all(stated):
        return ()
    return tuple(modality_of(name) for name in stated if name)


def _stated_by(file: str, series: str | None) -> str | None:
    if not is_series(Path(file)):
        return None
    from unet_med.data.dicom_series import series_modality

    return series_modality(Path(file), series)


def modality_of(name: str) -> str:
    """The name of `--modality` that a name means, else the name in lower case.

    >>> modality_of("MRI"), modality_of("CT"), modality_of("DAPI")
    ('mr', 'ct', 'dapi')
    """
    known = name.strip().lower()
    return _OTHER_NAMES.get(known, known)


def _in_order(said: Any) -> list[Any]:
    """Names by channel: `{"0": "CT"}`, `["CT"]` or `"CT"`."""
    if isinstance(said, Mapping):
        if not all(str(key).isdigit() for key in said):
            return []
        return [said[key] for key in sorted(said, key=int)]
    return list(said) if isinstance(said, list) else [said]
