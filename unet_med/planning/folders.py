"""Where the data lie, and the names that a bundle keeps of them: relative, of no machine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from unet_med.data.cases import Files

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
    """

    images: Path
    labels: Path | None
    root: Path | None

    @classmethod
    def of(cls, images: PathLike, labels: PathLike | None = None) -> DataFolder:
        """Find what images and labels have in common.

        >>> DataFolder.of("/data/cells/images", "/data/cells/labels").root.as_posix()
        '/data/cells'
        >>> DataFolder.of("/a/images", "/b/labels").root
        """
        places = [Path(os.path.abspath(path)) for path in (images, labels) if path is not None]
        if len(places) == 1:
            root: Path | None = places[0].parent
        else:
            try:
                root = Path(os.path.commonpath(places))
            except ValueError:  # two drives
                root = None
            if root in places:
                root = places[0].parent if root == places[0] else places[1].parent
        if root is not None and root == root.parent:
            root = None
        return cls(places[0], places[1] if len(places) == 2 else None, root)

    def name(self, path: Files) -> str:
        """Name of a file or folder of the data: relative to `root`, else its last two parts.

        Of several files their names, with commas between.
        """
        if not isinstance(path, str | os.PathLike):
            return ", ".join(map(self.name, path))
        place = Path(os.path.abspath(path))
        if self.root is not None and place.is_relative_to(self.root):
            return place.relative_to(self.root).as_posix()
        if place in (self.images, self.labels):
            return place.name
        return "/".join(place.parts[-2:])

    def settings(self, images: str, labels: str | None) -> dict[str, str]:
        """Ids with which a run finds the data of a bundle that names them so.

        Args:
            images: name of the images in the bundle.
            labels: name of the labels.
        """
        found = {"dataset_dir": str(self.root)} if self.root is not None else {}
        names = self.name(self.images), self.labels and self.name(self.labels)
        if self.root is None or names != (images, labels):
            found["images"] = str(self.images)
            if self.labels is not None:
                found["labels"] = str(self.labels)
        return found
