"""A data set whose items depend on seed, epoch and position alone."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager, suppress
from functools import partial
from operator import index
from typing import Any

import numpy as np
from monai.data import Dataset, get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable, RandomizableTrait
from torch.utils.data import Sampler

from unet_med.data.device_images import DeviceImages
from unet_med.data.entries import CENTRE, KNOWN, PLACES
from unet_med.data.image_cache import ImageCache, InFiles, InMemory
from unet_med.data.item_file import Types, widened
from unet_med.data.rare_tiles import RareTile, RareTiles
from unet_med.turns import turn_with

_log = logging.getLogger(__name__)


class SeededDataset(Dataset):
    """Random tiles of a list of images, the same on any number of workers.

    The deterministic transforms at the start run once for each image, and their result is kept,
    in memory or in files (`ImageCache`), which makes no difference to a tile. Successive planes of
    one stack share the result before the transform with a `slice_key` (`SelectSliced`). The random
    transforms after them are reseeded from `(seed, epoch, position)` for every tile, so neither
    the number of workers nor an interruption changes a tile.

    Where the first random transform can cut lines in place of pixels, and the cache has a GPU
    with room for the images, an item holds no pixels: `on_device` has those of a batch.

    Positions count on through the epochs: `dataset[e * len(dataset) + k]` is tile `k` of
    epoch `e`, as `EpochSampler` asks for it. Each epoch has a new random order of the images,
    each equally often (plus or minus one). Iteration, slices and negative positions are of the
    first epoch, as of a list; a slice, or a sequence of positions, gives a `Subset`. Threads, as
    the workers of MONAI's `ThreadDataLoader(use_thread_workers=True)` are, take turns.

    Args:
        data: MONAI data list.
        transform: `Compose` of dictionary transforms.
        seed: of the order of the images and of all random transforms.
        tiles_per_epoch: length of the data set; the number of images by default.
        cache: keeps the images after the deterministic transforms; True: in memory, False: they
            are loaded for every tile.
        progress: show a bar while images load.
        replayed: a second data list, such as that of an earlier training; if it is not empty every
            other tile is one of its images, however long either list is.
        rare_share: share of the tiles that are drawn around a rare pixel, 0 to 1, where the
            deterministic transforms end in `unet_med.transforms.RarePlacesd`. Each rare value has
            as many of them, whatever the number of images that hold it. It needs a cache; without
            one no tile is, which is said.
        track_meta: False: the random transforms see plain tensors, as under MONAI's
            `set_track_meta(False)`, which spares a fifth to a third of a tile's time. It is for
            chains that read no metadata after the cut and end without any, and for loaders of
            processes or of one thread, since MONAI's switch is one for all threads.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Compose,
        *,
        seed: int = 0,
        tiles_per_epoch: int | None = None,
        cache: bool | ImageCache = True,
        progress: bool = False,
        replayed: Sequence[dict[str, Any]] = (),
        rare_share: float = 0.0,
        track_meta: bool = True,
    ) -> None:
        super().__init__([*data, *replayed], transform)
        self.track_meta = track_meta
        self.seed = seed
        self.tiles_per_epoch = tiles_per_epoch or len(data)
        both = range(len(data)), range(len(data), len(self.data))
        self._parts = [part for part in both if part]
        self.first_random = transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait))
        self._random = [t for t in transform.transforms if isinstance(t, Randomizable)]
        self._generators = [np.random.RandomState(seed) for _ in self._random]
        cutter: Any = None if self.first_random is None else transform.transforms[self.first_random]
        # Entries that the first random transform neither changes in place nor takes whole.
        cuts = getattr(cutter, "returns_copies", False)
        self._cut = (*cutter.keys, PLACES, KNOWN) if cuts else ()
        self._cache: InMemory | InFiles | DeviceImages | None = None
        self.on_device: DeviceImages | None = None
        self._rare: RareTiles | None = None
        if cache:
            keeper = cache if isinstance(cache, ImageCache) else ImageCache()
            self._keep(keeper, cutter, rare_share, progress)
        elif rare_share and any(getattr(t, "entry", None) == PLACES for t in transform.transforms):
            _log.warning(
                "no tile is drawn around rare pixels (rare, rare_share %g): with cache false no "
                "image is kept whose pixels are known; cache_dir keeps images in files",
                rare_share,
            )

    def _keep(self, keeper: ImageCache, cutter: Any, rare_share: float, progress: bool) -> None:
        """Load all images, once, and have a GPU keep them where the cutter and its memory allow."""
        chain = [*self.transform.transforms[: self.first_random]]
        notes: Any = getattr(cutter, "notes", None)  # once an image, for all of its tiles
        chain += [] if notes is None else [notes]
        load = partial(self._load_all, notes=notes)
        kept = keeper.keep(self.data, chain, load, progress=progress)
        if rare_share and PLACES in next(iter(kept), {}):
            self._rare = RareTiles(kept, self._parts, rare_share, self.seed)
        reads = getattr(cutter, "reads_for_lines", None)  # None: it cuts pixels
        if reads is not None:
            reads = (*reads, PLACES) if self._rare is not None else reads
            self.on_device = keeper.on_device(kept, reads)
        self._cache = self.on_device or kept

    def __len__(self) -> int:
        return self.tiles_per_epoch

    def __iter__(self) -> Iterator[Any]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int | slice | Sequence[int]) -> Any:
        if isinstance(position, slice | Sequence):
            return super().__getitem__(position)
        with turn_with(self):
            return self._tile(*self._place(position))

    def _tile(self, epoch: int, k: int) -> Any:
        """Tile `k` of an epoch; the transforms that draw are those of all tiles."""
        image, rare = self._tile_of(epoch, k)
        item, types = self._taken(image)
        first = self.first_random
        if first is None:
            return item
        self._reseed(epoch, k)
        places = item.pop(PLACES, None)
        types = {key: kind for key, kind in types.items() if key not in (PLACES, KNOWN)}
        if rare is not None:
            item[CENTRE] = rare.pixel(places)
        with _tracking(self.track_meta):
            if types:
                item = widened(self.transform(item, start=first, end=first + 1), types)
                first += 1
            return self.transform(item, start=first)

    def source(self, position: int) -> dict[str, Any]:
        """Item of the data list at a position."""
        return dict(self.data[self._tile_of(*self._place(position))[0]])

    def _place(self, position: int) -> tuple[int, int]:
        """Epoch and number in it; negative positions count from the end of the first epoch."""
        position = index(position)
        if position < -len(self):
            raise IndexError(f"position {position} of a data set of {len(self)} tiles")
        return divmod(position if position >= 0 else position + len(self), len(self))

    def _reseed(self, epoch: int, k: int) -> None:
        """Do what `Compose.set_random_state` does, with existing generators.

        New generators take 0.2 ms each, as much as some of the transforms.
        """
        seeds = np.random.SeedSequence((self.seed, epoch, k)).generate_state(len(self._random))
        for transform, generator, seed in zip(self._random, self._generators, seeds, strict=True):
            generator.seed(seed)
            transform.set_random_state(state=generator)

    def _taken(self, index: int) -> tuple[Any, Types]:
        """An image that may be changed in place, but for `_cut`, and types that these get."""
        if self._cache is not None:
            with suppress(FileNotFoundError):  # of a cache that was cleared
                return self._cache.take(index, self._cut)
        return self._load(self.data[index]), {}

    def _load(self, item: dict[str, Any]) -> Any:
        return self.transform(item, end=self.first_random, threading=True)

    def _load_all(self, items: Iterable[dict[str, Any]], notes: Any = None) -> Iterator[Any]:
        """Load items in order, and note what spares the random transforms a look at all of them."""
        loaded = self._load_stacks(items)
        return loaded if notes is None else map(notes, loaded)

    def _load_stacks(self, items: Iterable[dict[str, Any]]) -> Iterator[Any]:
        """Load items in order; planes of one stack share the transforms before the selection.

        Otherwise each plane would decode its whole stack again.
        """
        select = self.transform.get_index_of_first(lambda t: hasattr(t, "slice_key"))
        end = len(self.transform) if self.first_random is None else self.first_random
        if select is None or select >= end:
            yield from map(self._load, items)
            return
        key = self.transform.transforms[select].slice_key
        stack: dict[str, Any] = {}
        previous: dict[str, Any] = {}
        for item in items:
            if not _of_one_stack(item, previous, key):
                stack = self.transform(item, end=select, threading=True)
            plane = {**stack, key: item.get(key)}
            yield self.transform(plane, start=select, end=end, threading=True)
            previous = item

    def _tile_of(self, epoch: int, k: int) -> tuple[int, RareTile | None]:
        """Index of the image of tile `k`, from shuffled lists of all images in a row.

        With images to replay, tiles take turns between these and the new ones. A tile around a
        rare pixel takes the place of one of them.
        """
        turn, number = divmod(epoch * len(self) + k, len(self._parts))
        rare = None if self._rare is None else self._rare.draw(epoch, k, number)
        if rare is not None:
            return rare.index, rare
        part = self._parts[number]
        lap, index = divmod(turn, len(part))
        order = np.random.default_rng((self.seed, lap)).permutation(len(part))
        return part[int(order[index])], None


@contextmanager
def _tracking(wanted: bool) -> Iterator[None]:
    """MONAI's transforms keep metadata if it is wanted, and was kept before."""
    before = get_track_meta()
    set_track_meta(before and wanted)
    try:
        yield
    finally:
        set_track_meta(before)


def _of_one_stack(item: dict[str, Any], other: dict[str, Any], slice_key: str) -> bool:
    """Whether items are planes of the same files; their other entries must be identical."""
    if item.get(slice_key) is None or item.keys() != other.keys():
        return False
    pairs = [(item[key], other[key]) for key in item if key != slice_key]
    return all(a is b or (isinstance(a, str) and a == b) for a, b in pairs)


class EpochSampler(Sampler[int]):
    """Positions of one epoch of a `SeededDataset`, in order; the data set shuffles by itself.

    Processes that train together take turns: `rank` has every `num_replicas`-th position, so one
    step of all processes sees the tiles of one step of a single process with all their batches.
    All must take equally many steps: if the positions do not divide evenly, the first ones of the
    epoch (fewer than `num_replicas`) come twice.

    Each time that a loader goes through it is the next epoch, in any loop. `set_epoch(e)` chooses
    it, as with torch's distributed sampler, and `set_epoch(e, first)` the place in it;
    `unet_med.handlers.Reproducible` and Lightning call it. The length is always that of a whole
    epoch.

    Args:
        dataset: anything with a length.
        num_replicas: processes that train together.
        rank: number of this process, from 0 on.

    Raises:
        ValueError: no process has that number.

    >>> sampler = EpochSampler(range(3))
    >>> list(sampler), list(sampler)
    ([0, 1, 2], [3, 4, 5])
    """

    def __init__(self, dataset: Sized, *, num_replicas: int = 1, rank: int = 0) -> None:
        if not 0 <= rank < num_replicas:
            raise ValueError(
                f"rank {rank} of {num_replicas} processes: ranks count from 0 to {num_replicas - 1}"
            )
        self.length = len(dataset)
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        self.first = 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Continue with tile `first` of epoch `epoch`, both counted from 0."""
        self.epoch = epoch
        self.first = first

    def __iter__(self) -> Iterator[int]:
        epoch, first = self.epoch, self.first
        self.set_epoch(epoch + 1)
        return self.positions(epoch, slice(first, None))

    def positions(self, epoch: int, part: slice) -> Iterator[int]:
        """Positions that this process takes in one epoch, in order, from a part of its turns."""
        turns = range(self.rank, len(self) * self.num_replicas, self.num_replicas)[part]
        return (epoch * self.length + turn % self.length for turn in turns)

    def __len__(self) -> int:
        return -(-self.length // self.num_replicas)
