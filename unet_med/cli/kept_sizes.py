"""Saying of a `--pixel-size` that files with a pixel size of their own keep that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unet_med.cli.saying import warn

STATED_BY_NO_FILE = ("given", "assumed")


def warn_of_kept(sources: Mapping[str, str]) -> None:
    """Warn once of all files on which a given pixel size has no effect.

    Args:
        sources: what told the pixel size of a file, by the file's name (`spacing_source`).
    """
    kept = [name for name, source in sources.items() if source not in STATED_BY_NO_FILE]
    if kept:
        warn(
            f"--pixel-size has no effect on {len(kept)} of {len(sources)} image(s), {kept[0]} the "
            "first: they say a pixel size of their own and keep it. Where that is wrong, save them "
            "with the true one (in Fiji: Image > Properties)"
        )


def sources_of(images: Sequence[Any], choice: Mapping[str, Any]) -> dict[str, str]:
    """What told the pixel size of files, by their headers; those that cannot be read are left out.

    Args:
        images: files, or lists of the files of an image's channels.
        choice: arguments of a reader; see `unet_med.cli.options.choice_of`.
    """
    from unet_med.data import load_header
    from unet_med.data.cases import files_of

    found = {}
    for image in images:
        try:
            found[str(files_of(image)[0])] = load_header(image, **choice).spacing_source
        except (OSError, ValueError):  # it is set aside with its reason, where it is read
            continue
    return found
