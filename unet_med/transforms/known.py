"""Where a partly annotated image is known, line by line, for tiles that hold a known pixel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import MapTransform

from unet_med.data.entries import KNOWN
from unet_med.transforms.tensors import labels_of, tensor_of


@dataclass(frozen=True)
class KnownPixels:
    """The known pixels of a label in the order of its axes, the last one fastest.

    To list them takes a second in a large volume, and memory as for eight such labels; to count
    them along the last axis is enough to find each.

    Attributes:
        label: `(*S)`.
        ignore: its value where it is not known.
        up_to: known pixels up to the end of each line along the last axis, `(lines,)`.
    """

    label: torch.Tensor
    ignore: int
    up_to: torch.Tensor

    @classmethod
    def of(cls, label: Any, ignore: int, up_to: torch.Tensor | None = None) -> KnownPixels:
        """Those of a label `(1, *S)`; `up_to` where they are counted already."""
        pixels = tensor_of(label)[0].as_subclass(torch.Tensor)
        if up_to is None:
            known = labels_of(pixels) != ignore
            up_to = known.flatten(0, -2).sum(dim=-1).cumsum(dim=0)
        return cls(pixels, ignore, up_to)

    def __len__(self) -> int:
        return int(self.up_to[-1])

    def has(self, place: Sequence[int]) -> bool:
        """Whether the pixel at a place is known."""
        return bool(labels_of(self.label[tuple(place)]) != self.ignore)

    def place(self, number: int) -> list[int]:
        """Place of the known pixel of this number, from 0 on."""
        ends = self.up_to.numpy()
        line = int(np.searchsorted(ends, number, side="right"))
        lead = [int(k) for k in np.unravel_index(line, self.label.shape[:-1])]
        along = (labels_of(self.label[tuple(lead)]) != self.ignore).nonzero().flatten()
        return [*lead, int(along[number - (int(ends[line - 1]) if line else 0)])]


class NoteKnownd(MapTransform):
    """Note in the entry `KNOWN` how many pixels of a label are known up to the end of each line.

    Args:
        key: the label `(1, *S)`.
        ignore: its value where it is not known.
    """

    def __init__(self, key: str, ignore: int) -> None:
        super().__init__(key)
        self.ignore = ignore

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Note them."""
        [key] = self.keys
        return {**data, KNOWN: KnownPixels.of(data[key], self.ignore).up_to}
