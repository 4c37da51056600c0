"""Where images of a training are kept: in memory, in files mapped into it, or on a GPU."""

from __future__ import annotations

import copy
import logging
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from unet_med.data.bars import no_bar
from unet_med.data.cases import files_named
from unet_med.data.device_images import DeviceImages, bytes_on_device, shapes_alike
from unet_med.data.digest import ItemNames, loaded_keys
from unet_med.data.entries import Item
from unet_med.data.forecast import Forecast, bytes_of
from unet_med.data.item_file import (
    Types,
    is_whole,
    name_anew,
    narrowed,
    read_item,
    widened,
    write_item,
)
from unet_med.memory import available_bytes, free_bytes

Load = Callable[[Iterable[Item]], Iterator[Item]]

_log = logging.getLogger(__name__)

_OWN = re.compile(r"[0-9a-f]{64}\.pt|\.[0-9a-f]{64}\.pt\..*")  # a file; one that is half written

SHARE = 0.25  # of a GPU's free memory: how much a step of the training takes is not known yet


class InMemory:
    """Images in memory, their integers in the smallest types that hold them, as in `InFiles`."""

    def __init__(self, items: Iterable[Item] = ()) -> None:
        self._kept = [narrowed(item) for item in items]

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Item]:
        return (item for item, _ in self._kept)

    def append(self, item: Item) -> int:
        """Keep an image, and say how many bytes it takes."""
        self._kept.append(narrowed(item))
        return bytes_of(self._kept[-1][0])

    def pop(self) -> tuple[Item, Types]:
        """Give up the last image; see `narrowed`."""
        return self._kept.pop()

    def part(self, places: Iterable[int]) -> InMemory:
        """The images at some places, in the same memory."""
        found = InMemory()
        found._kept = [self._kept[place] for place in places]
        return found

    def take(self, index: int, cut: Sequence[str] = ()) -> tuple[Item, Types]:
        """An image that may be changed in place but for `cut`; see `InFiles.take`."""
        item, types = self._kept[index]
        item = {k: v if k in cut else copy.deepcopy(v) for k, v in item.items()}
        return _widened_but(cut, item, types)


class InFiles:
    """Images in files that are mapped into memory: of each only what is looked at is read.

    It holds paths alone, so that it goes to other processes.

    Args:
        paths: of the files.
        items: of the data list, which say where the images' own files lie now.
    """

    def __init__(self, paths: Sequence[Path], items: Sequence[Item]) -> None:
        self.paths = list(paths)
        self.items = items

    def __iter__(self) -> Iterator[Item]:
        return (read_item(path)[0] for path in self.paths)

    def take(self, index: int, cut: Sequence[str] = ()) -> tuple[Item, Types]:
        """An image that may be changed in place; its file stays as it is.

        Args:
            index: which.
            cut: entries of which the next transform takes a part: of them nothing is read, and
                integers stay in the file's small types.

        Returns:
            The image, and the types that entries of `cut` must get in the end.

        Raises:
            FileNotFoundError: the file is gone.
        """
        item, types = read_item(self.paths[index])
        for key, value in self.items[index].items():
            if files := files_named(value):
                name_anew(item.get(key), files)
        return _widened_but(cut, item, types)


def _widened_but(cut: Sequence[str], item: Item, types: Types) -> tuple[Item, Types]:
    """An item with its integers as they were, those of `cut` excepted, and types for these."""
    item = widened(item, {key: kind for key, kind in types.items() if key not in cut})
    return item, {key: kind for key, kind in types.items() if key in cut}


class Before:
    """The longest data list that trainings have kept, for the next ones with the same cache.

    Attributes:
        seconds: that it took to load and keep its images.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._length = 0
        self._places: dict[str, int] = {}  # of its images, by their names
        self._kept = InMemory()

    def find(self, items: Sequence[Item], chain: Sequence[Any]) -> InMemory | None:
        """Images of another list, where all are in memory; those in files are found without it."""
        names = list(_names(items, chain))
        if not self._places.keys() >= {*names}:
            return None
        return self._kept.part(self._places[name] for name in names)

    def note(
        self, items: Sequence[Item], chain: Sequence[Any], kept: InMemory | InFiles, seconds: float
    ) -> None:
        """Take over what was kept of a list, if none was longer."""
        if len(items) < self._length:
            return
        if len(items) > self._length:  # else its files may be those that the other has made
            self.seconds = seconds
        self._length, self._places = len(items), {}
        if isinstance(kept, InMemory):
            self._kept = kept
            self._places = {name: place for place, name in enumerate(_names(items, chain))}


def _names(items: Iterable[Item], chain: Sequence[Any]) -> Iterator[str]:
    """Names of images within a process: of content, and of where its files lie."""
    names = ItemNames(chain)
    return (f"{names.of(item)} {item}" for item in items)


class ImageCache:
    """Where images are kept between the deterministic transforms and the random ones.

    In memory, while all of them fit into half of what is free, as far as those that are loaded
    tell; else in files, one an image, that training maps into memory. Tiles are the same to the
    bit. A file is named after the content of the image's own files and the transforms
    (`ItemNames`): a training that is resumed, or another one of the same images, finds it, and
    does not where anything changed. Processes that train together share the files.

    Args:
        folder: keep images in files there, however much memory is free, and leave them there.
        spill: keep them there where memory does not suffice, until `clear`; None: never.
        rank: number of this process among those that train together, from 0 on.
        ranks: how many these are.
        max_bytes: of memory that the images of a data list may take; None: half of what is free,
            shared by the processes.
        device: a GPU, whose memory keeps the images in place of main memory where a quarter of
            what is free there suffices, and tiles are cut there; None: they are sent, tile by tile.

    Attributes:
        before: what trainings kept that share it; None: it is not `shared`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        spill: str | os.PathLike[str] | None = None,
        *,
        rank: int = 0,
        ranks: int = 1,
        max_bytes: int | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.folder = None if folder is None else Path(folder).expanduser().absolute()
        self.spill = None if spill is None else Path(spill).expanduser().absolute()
        self.rank = rank
        self.ranks = ranks
        self.max_bytes = max_bytes
        self.device = None if device is None else torch.device(device)
        self._is_said = False  # that images are in files: once, whichever data list came first
        self.before: Before | None = None

    def keep(
        self, items: Sequence[Item], chain: Sequence[Any], load: Load, *, progress: bool = False
    ) -> InMemory | InFiles:
        """Load all images of a data list and keep them.

        Args:
            items: the data list.
            chain: the transforms that `load` applies.
            load: gives the images of items one after the other, each when it is asked for.
            progress: say what is decided, and show bars.

        Raises:
            ValueError: the disk has too little room, or an image holds what no file can.
            OSError: the folder cannot be written.
        """
        if self.before is None:
            return self._keep(items, chain, load, progress)
        if (found := self.before.find(items, chain)) is not None:
            return found
        began = time.monotonic()
        kept = self._keep(items, chain, load, progress)
        self.before.note(items, chain, kept, time.monotonic() - began)
        return kept

    def _keep(
        self, items: Sequence[Item], chain: Sequence[Any], load: Load, progress: bool
    ) -> InMemory | InFiles:
        loaded, folder = InMemory(), self._files_at()
        if folder is None:
            loaded, folder = self._in_memory(items, chain, load, progress)
        elif progress and folder == self.spill:
            self._say("images did not fit into memory of another process or an earlier run")
        if folder is None:
            return loaded
        writer = _Writer(folder, items, chain, progress)
        first = self.rank * len(items) // self.ranks  # other processes begin with others
        writer.write([*range(first, len(items)), *range(first)], load, loaded)
        return InFiles(writer.paths, items)

    def on_device(self, kept: InMemory | InFiles, reads: Sequence[str] = ()) -> DeviceImages | None:
        """Copy images to the GPU, if there is one and they fit; a line of the log says which.

        Args:
            kept: what `keep` returned; nothing else need hold it any longer.
            reads: entries that stay in main memory.
        """
        if self.device is None:
            return None
        shapes, free = shapes_alike(kept), free_bytes(self.device)
        if shapes is None:
            _log.info("images    are sent to %s tile by tile: they are not alike", self.device)
            return None
        need = bytes_on_device(shapes)
        sizes = f"{need / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free there"
        if need > SHARE * free:
            _log.info("images    are sent to %s tile by tile: %s", self.device, sizes)
            return None
        _log.info("images    stay on %s: %s", self.device, sizes)
        return DeviceImages(kept, shapes, self.device, reads)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """For several trainings, one after the other: what one keeps is there for the next.

        Main memory keeps them also where a GPU does. `clear` waits until the last has ended. One
        that is stopped or fails leaves the files to the run that resumes it.
        """
        self.before = Before()
        yield
        self.before = None
        self.clear()

    def clear(self) -> None:
        """Remove the files in `spill`; images that are asked for later are loaded again."""
        if self.before is not None:
            return
        for path in self._spilled():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        if self.spill is not None:
            with suppress(OSError):  # it holds something else, or is not there
                self.spill.rmdir()

    def _files_at(self) -> Path | None:
        """Folder that was asked for, or that an earlier run of this training has filled."""
        return self.folder or (self.spill if self._spilled() else None)

    def _spilled(self) -> list[Path]:
        if self.spill is None:
            return []
        try:
            return [path for path in self.spill.iterdir() if _OWN.fullmatch(path.name)]
        except (FileNotFoundError, NotADirectoryError):  # another process may just remove it
            return []

    def _in_memory(
        self, items: Sequence[Item], chain: Sequence[Any], load: Load, progress: bool
    ) -> tuple[InMemory, Path | None]:
        """All images; or the first ones, and the folder where all must go."""
        loaded, forecast = InMemory(), Forecast(items, loaded_keys(chain))
        limit = self.max_bytes
        if limit is None:
            limit = available_bytes() // 2 // self.ranks
        with tqdm(items, "loading images", unit="image", disable=no_bar(progress)) as bar:
            for index, item in enumerate(load(bar)):
                forecast.add(index, loaded.append(item))
                if self.spill is not None and forecast.total > limit:
                    break
            else:
                return loaded, None
        if progress:
            take, free = (f"{size / 1e9:.3g} GB" for size in (forecast.total, limit))
            about = f"{len(items)} images take about {take}"
            self._say(f"{about}, and {free} of memory are free for them")
        return loaded, self.spill

    def _say(self, why: str) -> None:
        """Tell where images are that do not stay in memory, which grows on the disk."""
        if not self._is_said:
            self._is_said = True
            text = "%s: they are kept in %s until the training has finished"
            _log.warning(text, why, self.spill)


class _Writer:
    """Writes the files of a data list that are not there yet."""

    def __init__(
        self, folder: Path, items: Sequence[Item], chain: Sequence[Any], progress: bool
    ) -> None:
        self.folder = folder
        self.items = items
        self.progress = progress
        self.paths = [folder] * len(items)
        self._names = ItemNames(chain)
        self._forecast = Forecast(items, loaded_keys(chain))

    def write(self, order: Iterable[int], load: Load, loaded: InMemory) -> None:
        """Go through the items in an order; `loaded` are the first ones, and are given up."""
        self.folder.mkdir(parents=True, exist_ok=True)
        given = len(loaded)
        while loaded:
            index = len(loaded) - 1
            small, types = loaded.pop()
            if self._is_missing(index):
                self._write(index, small, types)
        rest = [index for index in order if index >= given]
        missing: deque[int] = deque()

        def items() -> Iterator[Item]:
            for index in bar:
                if self._is_missing(index):
                    missing.append(index)
                    yield self.items[index]

        text = f"keeping images in {self.folder}"
        with tqdm(rest, text, unit="image", disable=no_bar(self.progress)) as bar:
            for item in load(items()):
                self._write(missing.popleft(), *narrowed(item))

    def _is_missing(self, index: int) -> bool:
        path = self.paths[index] = self.folder / f"{self._names.of(self.items[index])}.pt"
        if not is_whole(path):
            return True
        self._forecast.add(index, path.stat().st_size)
        return False

    def _write(self, index: int, small: Item, types: Types) -> None:
        self._forecast.add(index, bytes_of(small))
        rest = self._forecast.rest + bytes_of(small)
        free = shutil.disk_usage(self.folder).free
        if rest > free:
            raise ValueError(
                f"{len(self.items)} images take about {self._forecast.total / 1e9:.3g} GB in "
                f"files, {rest / 1e9:.3g} GB of which are still to be written, and {self.folder} "
                f"has {free / 1e9:.3g} GB free: name a folder on another disk with --cache "
                "(cache::folder), or train with fewer images"
            )
        write_item(self.paths[index], small, types)
