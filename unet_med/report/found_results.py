"""Which results lie in a folder, by the names of their images, and which of them are recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from unet_med.data.cases import one_place, same_name
from unet_med.data.entries import DIGESTS, WRITTEN
from unet_med.data.folder_files import RESULTS, results_in


class Recorded(NamedTuple):
    """What a record says of a result that is there.

    Attributes:
        kind: such as `"mask"`.
        digest: its SHA-256 when it was written; None: the record does not say it.
    """

    kind: str
    digest: str | None


class FoundResults:
    """Results in a folder, of perhaps tens of thousands of files: it is read once, now.

    Args:
        folder: of the results.
        file: the one mask, where it is not named so.
    """

    def __init__(self, folder: Path, file: Path | None = None) -> None:
        self._files = results_in(folder)
        self._places: dict[str, list[Path]] = {}  # some of which one disk takes for one
        for name, files in self._files.items():
            self._places.setdefault(one_place(name), []).extend(files)
        self._mask = file if file is not None and file.exists() else None

    def of(self, name: str) -> dict[str, list[Path]]:
        """Files of an image's results by their kind, such as `mask`."""
        return self._with_mask({k: self._files.get(same_name(name + k), ()) for k in RESULTS})

    def in_the_way(self, name: str) -> dict[str, list[Path]]:
        """The same, and those that a disk that ignores case would take for them."""
        return self._with_mask({k: self._places.get(one_place(name + k), ()) for k in RESULTS})

    def _with_mask(self, found: Mapping[str, Sequence[Path]]) -> dict[str, list[Path]]:
        kinds = {kind[1:]: [*files] for kind, files in found.items()}
        if self._mask is not None and self._mask not in kinds["mask"]:
            kinds["mask"].append(self._mask)
        return {kind: paths for kind, paths in kinds.items() if paths}

    def recorded(self, name: str, entry: Mapping[str, Any]) -> dict[Path, Recorded]:
        """Those that a record names as its own.

        Args:
            name: of the image.
            entry: of the record; what a run that was stopped left may be of any kind, but of the
                one mask, beside which may be anybody's files.
        """
        digests = {same_name(file): digest for file, digest in entry.get(DIGESTS, {}).items()}
        there = {path: kind for kind, paths in self.of(name).items() for path in paths}
        kinds = entry.get(WRITTEN, ["mask"] if self._mask else there.values())
        found = {p: Recorded(kind, digests.get(same_name(p.name))) for p, kind in there.items()}
        return {p: each for p, each in found.items() if each.digest or each.kind in kinds}
