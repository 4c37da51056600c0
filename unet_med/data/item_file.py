"""One image after its deterministic transforms in a file, of which only what is used is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, EnumMeta
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import enums
from numpy._core import multiarray

from unet_med.data.cases import files_of
from unet_med.data.entries import Item
from unet_med.data.tensor_file import write_tensors

Types = dict[str, torch.dtype]

NARROW = (torch.uint8, torch.int8, torch.int16, torch.int32)
WIDE = (torch.int16, torch.int32, torch.int64)
ENUMS = {name: kind for name, kind in vars(enums).items() if isinstance(kind, EnumMeta)}  # MONAI's
MEMBER = "member of an enum"

# MONAI's traces of transforms hold arrays; torch loads what is listed, and tensors.
torch.serialization.add_safe_globals(
    [
        *(np.ndarray, np.dtype, multiarray._reconstruct, multiarray.scalar),
        *(type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?fdegFD"),
    ]
)


def narrowed(item: Mapping[str, Any]) -> tuple[Item, Types]:
    """Integer tensors in the smallest type that holds them, and the types that they had.

    >>> item, types = narrowed({"label": torch.tensor([0, 300]), "image": torch.ones(1)})
    >>> item["label"].dtype, types
    (torch.int16, {'label': torch.int64})
    """
    small, types = dict(item), {}
    for key, value in item.items():
        if isinstance(value, torch.Tensor) and value.dtype in WIDE and value.numel():
            low, high = (int(end) for end in torch.aminmax(value.as_subclass(torch.Tensor)))
            kind = next((k for k in NARROW if _holds(k, low, high)), value.dtype)
            if kind.itemsize < value.dtype.itemsize:
                small[key], types[key] = value.to(kind), value.dtype
    return small, types


def widened(item: Mapping[str, Any], types: Mapping[str, torch.dtype]) -> Item:
    """The item with tensors in given types."""
    return {**item, **{key: item[key].to(kind) for key, kind in types.items()}}


def write_item(path: Path, item: Item, types: Types) -> None:
    """Write what `narrowed` gave; the file is whole or not there.

    Raises:
        ValueError: the item holds what such a file cannot.
        OSError: it cannot be written.
    """
    names = {key: str(kind).removeprefix("torch.") for key, kind in types.items()}
    write_tensors({"item": _changed(item, _as_text), "types": names}, path)
    try:
        read_item(path)
    except UnpicklingError as error:
        path.unlink()
        found = re.search(r"GLOBAL (\S+)", str(error))
        raise ValueError(
            f"an image with {found[1] if found else 'an object'} in it cannot be kept in a file, "
            "only tensors, arrays, numbers, text, and lists and dictionaries of them: let the "
            "last of the deterministic transforms remove it, or "
            "leave --cache out and set cache::spill to null"
        ) from None


def read_item(path: Path) -> tuple[Item, Types]:
    """What was written; tensors are mapped, and a change of them does not reach the file.

    Raises:
        FileNotFoundError: there is no such file.
        UnpicklingError, RuntimeError: it is no such file, or cut short.
    """
    content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    types = {key: getattr(torch, name) for key, name in content["types"].items()}
    return _changed(content["item"], _as_member), types


def is_whole(path: Path) -> bool:
    """Whether there is such a file, and it is not cut short."""
    try:
        read_item(path)
    except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError, ValueError):
        return False
    return True


def name_anew(image: Any, files: Sequence[Any]) -> None:
    """Write into the metadata of an image where its files lie now."""
    if isinstance(image, MetaTensor) and "filename_or_obj" in image.meta:
        paths = [str(Path(file).expanduser()) for file in files_of(files)]
        image.meta["filename_or_obj"] = paths[0]
        if "files" in image.meta:
            image.meta["files"] = paths


def _as_text(value: Any) -> Any:
    """A member of an enum as text: Python 3.11.2 pickles it as code, which torch does not load."""
    return (MEMBER, type(value).__name__, value.name) if isinstance(value, Enum) else value


def _as_member(value: Any) -> Any:
    """What `_as_text` was given."""
    return ENUMS[value[1]][value[2]] if _is_member(value) else value


def _is_member(value: Any) -> bool:
    return isinstance(value, tuple) and value[:1] == (MEMBER,)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """The same with every plain value of it changed, those of traces and metadata too."""
    if isinstance(value, MetaTensor):
        tensor = MetaTensor(value.as_tensor())
        tensor.meta = _changed(value.meta, change)  # afterwards: MONAI adds what it misses
        tensor.applied_operations = _changed(value.applied_operations, change)
        return tensor
    if isinstance(value, dict):
        return {_changed(key, change): _changed(part, change) for key, part in value.items()}
    if isinstance(value, list) or (type(value) is tuple and not _is_member(value)):
        return type(value)(_changed(part, change) for part in value)
    return change(value)


def _holds(kind: torch.dtype, low: int, high: int) -> bool:
    info = torch.iinfo(kind)
    return bool(info.min <= low and high <= info.max)
