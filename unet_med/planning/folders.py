"""Where the data lie, and the names that a bundle keeps of them: relative, of no machine."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unet_med.data.cases import Files, files_of

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class DataFolder:
    """Images and labels of a training, and what both lie in.

    Attributes:
        images: folder, file or data list (JSON), absolute.
        labels: folder or file, absolute; None with a data list that names its labels.
        root: the folder that holds both, which a run is told as `dataset_dir`; of a data list
            its own folder. None: images and labels have no folder in common but the root of
            the file system.
        outside: names of files that do not lie in `root`, see `telling_apart`.
    """

    images: Path
    labels: Path | None
    root: Path | None
    outside: Mapping[Path, str] = field(default_factory=dict)

    @classmethod
    def of(cls, images: PathLike, labels: PathLike | None = None) -> DataFolder:
        """Find what images and labels have in common.

        >>> DataFolder.of("/data/cells/images", "/data/cells/labels").root.as_posix()
        '/data/cells'
        >>> DataFolder.of("/a/images", "/b/labels").root
        """
        places = [Path(os.path.abspath(path)) for path in (images, labels) if path is not None]
        root = folder_above(places)
        if root in places:
            root = folder_above([root.parent])
        return cls(places[0], places[1] if len(places) == 2 else None, root)

    def telling_apart(self, files: Iterable[Files]) -> DataFolder:
        """The same, with names for those of these files that a data list has from elsewhere.

        They are relative to the folder above all that hold them, so that whoever names that folder
        finds them again; where there is none, or the path of another file ends alike, they have as
        many of the last parts as tell them apart, and two at least.

        >>> scans = ["/data/p01/ct/image.nii.gz", "/data/p02/ct/image.nii.gz"]
        >>> DataFolder.of("/home/u/list.json").telling_apart(scans).name(scans[0])
        'p01/ct/image.nii.gz'
        """
        places = {Path(os.path.abspath(file)) for case in files for file in files_of(case)}
        outside = sorted(place for place in places if not self._holds(place))
        ends = Counter(p.parts[k:] for p in places for k in range(1, len(p.parts)))
        named: dict[Path, Sequence[str]] = {}
        for named in _names(outside):
            if all(ends[tuple(parts)] == 1 for parts in named.values()):
                break
        return replace(self, outside={place: "/".join(parts) for place, parts in named.items()})

    def name(self, path: Files) -> str:
        """Name of a file or folder of the data: relative to `root`, else as `outside` has it.

        What neither knows has its last two parts. Of several files their names, with commas
        between.
        """
        if not isinstance(path, str | os.PathLike):
            return ", ".join(map(self.name, path))
        place = Path(os.path.abspath(path))
        if self.root is not None and self._holds(place):
            return place.relative_to(self.root).as_posix()
        if place in self.outside:
            return self.outside[place]
        if place in (self.images, self.labels):
            return place.name
        return "/".join(place.parts[-2:])

    def settings(self, images: str, labels: str | None) -> dict[str, str]:
        """Ids with which a run finds the data that a bundle calls by these names."""
        found = {"dataset_dir": str(self.root)} if self.root is not None else {}
        names = self.name(self.images), self.labels and self.name(self.labels)
        if self.root is None or names != (images, labels):
            found["images"] = str(self.images)
            if self.labels is not None:
                found["labels"] = str(self.labels)
        return found

    def _holds(self, place: Path) -> bool:
        return self.root is not None and place.is_relative_to(self.root)


def folder_above(places: Sequence[PathLike]) -> Path | None:
    """The lowest folder that holds, or is, each place; None: that is the root, or on two drives."""
    try:
        folder = Path(os.path.commonpath([os.path.abspath(place) for place in places]))
    except ValueError:
        return None
    return None if folder == folder.parent else folder


def _names(files: Sequence[Path]) -> Iterator[dict[Path, Sequence[str]]]:
    """Names that files may have, shorter ones first, by their parts."""
    try:
        folder = Path(os.path.commonpath([file.parent.parent for file in files]))
    except ValueError:  # two drives, or no files
        folder = Path("/")
    while folder != folder.parent:
        yield {file: file.relative_to(folder).parts for file in files}
        folder = folder.parent
    for count in range(2, max((len(file.parts) for file in files), default=0)):
        yield {file: file.parts[1:][-count:] for file in files}
