"""Exports beside a bundle's weights, and whether they are of these."""

from __future__ import annotations

import zipfile
from pathlib import Path

from unet_med.bundle.files import weights_file
from unet_med.data.checksum import sha256

SUFFIXES = (".pt2", ".ts", ".onnx", ".bioimageio.zip")
_WITH_CARD = (".json", ".onnx")  # files of an archive that say which weights it is of


def other_exports(bundle: Path) -> list[str]:
    """Names of the exports in `models/` that do not name the weights beside them.

    A training that goes on leaves them as they are. Those of an earlier version name no weights.
    """
    weights = weights_file(bundle)
    files = [p for p in sorted((bundle / "models").glob("*")) if p.name.endswith(SUFFIXES)]
    if weights is None or not files:
        return []
    digest = sha256(weights).encode()
    return [path.name for path in files if not _holds(path, digest)]


def about_other_exports(bundle: Path) -> str:
    """That exports are of other weights, and what to do; empty where all are of these."""
    names = ", ".join(other_exports(bundle))
    return names and f"exports   not known to be of these weights, so export anew: {names}"


def _holds(path: Path, digest: bytes) -> bool:
    """Whether the card in an exported file, or in the network of a package, has this hash."""
    if not zipfile.is_zipfile(path):
        return digest in path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(_WITH_CARD)]
        return any(digest in archive.read(name) for name in names)
