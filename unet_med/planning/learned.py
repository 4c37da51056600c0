"""What the weights that a training starts from have learned: of images, and planes of stacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from unet_med.planning.ranges import as_ranges, from_ranges

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Learned:
    """What a bundle knows, by the SHA-256 of its images.

    Attributes:
        images: that it has learned from, or was validated on, as have the bundles before it.
        held_out: those of them that it was validated on alone.
        held_planes: planes of the others that it was validated on alone, as `as_ranges` writes
            them.
        fitted: whether those that it was validated on chose how it makes objects.
    """

    images: frozenset[str] = frozenset()
    held_out: frozenset[str] = frozenset()
    held_planes: Mapping[str, str] = field(default_factory=dict)
    fitted: bool = False

    @classmethod
    def of(cls, source: Mapping[str, Any]) -> Learned:
        """From what a plan keeps of the bundle that its training starts from; empty: of none."""
        images, held = (frozenset(source.get(key, ())) for key in ("images", "held_out"))
        return cls(images, held, source.get("held_planes", {}))

    def held(self, image: str, plane: int | None = None) -> bool:
        """Whether an image, or one plane of it, was held out."""
        planes = self.held_planes.get(image)
        return image in self.held_out or bool(planes and plane in from_ranges(planes))

    def has(self, image: str, plane: int | None = None) -> bool:
        """Whether an image, or one plane of it, was learned from."""
        return image in self.images and not self.held(image, plane)

    def chose(self, image: str) -> bool:
        """Whether an image was held out, and chose with others how objects are made."""
        return self.fitted and image in self.held_out

    def count(self, entries: Iterable[Entry]) -> int:
        """How many entries of a split name something that was learned from."""
        return sum(
            any(self.has(entry["sha256"]["image"], plane) for plane in planes_named(entry))
            for entry in entries
        )


def held_planes(
    split: Mapping[str, Any], before: Learned, replayed: Sequence[Entry]
) -> dict[str, str]:
    """`held_planes` of a bundle: of stacks of which it learned other planes.

    Args:
        split: of its training.
        before: what the weights had learned that it started from.
        replayed: entries of what it replayed.
    """
    learned: dict[str, set[int | None]] = {}
    for entry in (*split.get("training", ()), *replayed):
        learned.setdefault(entry["sha256"]["image"], set()).update(planes_named(entry))
    found: dict[str, set[int]] = {}
    for entry in split.get("validation", ()):
        image = entry["sha256"]["image"]
        others = learned.get(image, {None})  # else the image is held out, or learned, as a whole
        if None not in others:
            own = {z for z in planes_named(entry) if z is not None and z not in others}
            found.setdefault(image, set()).update(z for z in own if not before.has(image, z))
    return {image: str(as_ranges(planes)) for image, planes in found.items() if planes}


def planes_named(entry: Entry) -> Sequence[int | None]:
    """Planes of a stack that an entry names, where they are not all; else None."""
    return range(*entry["slices"]) if entry.get("slices") else [None]
