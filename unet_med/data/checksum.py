"""The SHA-256 of a file, of several, or of a folder that is one image."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unet_med.data.cases import Files, files_of


def sha256(path: Files) -> str:
    """SHA-256 of a file, or of files one after the other, in hexadecimal.

    A folder's files are taken by name.
    """
    digest = hashlib.sha256()
    for root in map(Path, files_of(path)):
        for file in sorted(p for p in root.rglob("*") if p.is_file()) if root.is_dir() else [root]:
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
