"""Results that somebody may have changed since they were written: no new result takes them away."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from unet_med.data.atomic import read_json
from unet_med.data.cases import same_name
from unet_med.data.checksum import sha256
from unet_med.data.entries import DIGESTS
from unet_med.data.folder_files import KEPT, RECORD
from unet_med.data.formats import stem

_log = logging.getLogger(__name__)


class ChangedResults:
    """Keeps what lies where a result comes, in the folder `kept` beside it, if it has changed.

    That is what is not, byte for byte, what `record.json` says was written there (`digests`). Of
    results without a record, of another program or of a chain that keeps none, nothing is kept.
    What is kept is said once in a run, whoever keeps it: steps that write, and the record that
    removes what they did not write anew.

    Args:
        folder: of the results.
    """

    _told: ClassVar[set[Path]] = set()  # folders of which it was said in this run

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: dict[str, str] | None = None  # of a folder with a record

    def begin(self) -> None:
        """Say anew what is kept: a run begins."""
        self._told.discard(self.folder.absolute())

    @contextmanager
    def writing(self, *paths: Path) -> Iterator[dict[str, str]]:
        """Write files in the block; keep what lies there, unless it is what comes there.

        Yields:
            Dictionary that holds the SHA-256 of the new files by their names, once they are there;
            nothing without a record.
        """
        digests: dict[str, str] = {}
        if not self._is_recorded():
            yield digests
            return
        kept = {path: _kept(path) for path in paths if self._has_changed(path)}
        try:
            yield digests
            digests |= {path.name: sha256(path) for path in paths if path.is_file()}
            self._known().update({same_name(name): each for name, each in digests.items()})
        finally:
            for path, place in kept.items():
                self._settle(place, digests.get(path.name))

    def remove(self, results: Mapping[Path, str | None]) -> list[Path]:
        """Remove results as they were written, and keep all others.

        Args:
            results: that are there, with their SHA-256 when they were written; None: not known.

        Returns:
            What was removed.
        """
        gone = [path for path, digest in results.items() if is_as_written(path, digest)]
        for path in results.keys() - set(gone):
            self._say(_kept(path))
        for path in gone:
            path.unlink()
        return gone

    def _is_recorded(self) -> bool:
        return self._digests is not None or (self.folder / RECORD).is_file()

    def _known(self) -> dict[str, str]:
        if self._digests is None:
            self._digests = digests_in(self.folder)
        return self._digests

    def _has_changed(self, path: Path) -> bool:
        known = self._known().get(same_name(path.name))
        return os.path.lexists(path) and not is_as_written(path, known)

    def _settle(self, kept: Path, digest: str | None) -> None:
        """Drop what is the same as the new result, such as that of a run that was stopped."""
        if digest is None or not is_as_written(kept, digest):
            self._say(kept)
            return
        kept.unlink()
        with suppress(OSError):  # others lie there
            kept.parent.rmdir()

    def _say(self, kept: Path) -> None:
        if (folder := self.folder.absolute()) not in self._told:
            self._told.add(folder)
            _log.warning(
                "kept in %s what was not as a prediction wrote it, such as %s: it may have been "
                "corrected by hand, or a run that was stopped left it",
                kept.parent,
                kept.name,
            )


def digests_in(folder: Path) -> dict[str, str]:
    """SHA-256 of the results in a folder by the names of their files, as far as its record goes."""
    try:
        record = read_json(folder / RECORD)
        parts: list[Mapping[str, Any]] = [record.get(part) or {} for part in ("earlier", "images")]
        entries = [entry.get(DIGESTS) or {} for part in parts for entry in part.values()]
    except (OSError, ValueError, AttributeError):  # none, or of somebody else
        return {}
    return {same_name(name): each for entry in entries for name, each in entry.items()}


def as_predicted(files: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Those of some files that are, byte for byte, what a prediction wrote there."""
    digests = cache(digests_in)  # a folder is of many files
    known = {Path(file): digests(Path(file).parent) for file in files}
    return [str(p) for p, found in known.items() if is_as_written(p, found.get(same_name(p.name)))]


def is_as_written(path: Path, digest: str | None) -> bool:
    """Whether a result has the SHA-256 that it was written with; None: nobody knows that one."""
    with suppress(OSError):  # what cannot be read may be anything
        return digest is not None and path.is_file() and sha256(path) == digest
    return False


def _kept(path: Path) -> Path:
    """Move a result to the kept ones, under a name that is free there."""
    folder = path.parent / KEPT
    folder.mkdir(exist_ok=True)
    base = stem(path)
    end = path.name[len(base) :]
    names = (path.name if k == 1 else f"{base}-{k}{end}" for k in count(1))
    place = next(folder / name for name in names if not os.path.lexists(folder / name))
    shutil.move(path, place)
    return place
