"""A name for what a chain of transforms makes of an item: equal names, equal results."""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
import os
import pickle
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import LoadImaged
from monai.utils import ensure_tuple

import unet_med
from unet_med.data.cases import files_named, files_of, names_apart, same_name
from unet_med.data.checksum import bytes_of, sha256
from unet_med.data.formats import DECODERS, version_of
from unet_med.data.referred import Code, reached, taken

PACKAGES = ("monai", "numpy", "scikit-image", "scipy", "torch", *DECODERS)  # results may change
_PLAIN = (type(None), bool, int, float, complex, str, bytes, np.dtype, torch.dtype, torch.device)
_RANDOM = (np.random.RandomState, np.random.Generator, torch.Generator)  # nothing here draws
_UNSEEN = (*_RANDOM, logging.Logger)  # no result depends on what they are


class ItemNames:
    """Names for items of a data list after a chain of deterministic transforms.

    A name holds the content of the item's files, not their folder; all that the transforms are
    set to; the source of their classes and of this package; and the versions of others.

    Args:
        chain: the transforms, in order.
    """

    def __init__(self, chain: Sequence[Any]) -> None:
        versions = {name: version_of(name) for name in PACKAGES}
        self._chain = digest([_own_source(), versions, list(chain)])
        self._loaded = loaded_keys(chain)
        self._content = functools.lru_cache(maxsize=None)(sha256)  # planes share their stack

    def of(self, item: Mapping[str, Any]) -> str:
        """The name of what the chain makes of an item, in hexadecimal."""
        return digest([self._chain, {key: self._value(key, item[key]) for key in item}])

    def _value(self, key: str, value: Any) -> Any:
        """Files by their content; elsewhere than for `LoadImaged` their path counts as well."""
        files = files_named(value, folders=key in self._loaded)
        if not files:
            return value
        contents = [(path.name, self._content(path)) for path in files]
        return contents if key in self._loaded else [contents, value]


def loaded_keys(chain: Sequence[Any]) -> set[str]:
    """Entries of an item that MONAI's `LoadImaged` reads from files."""
    return {str(key) for t in chain if isinstance(t, LoadImaged) for key in t.keys}


def digest(value: Any) -> str:
    """SHA-256 of what a value is: numbers, arrays, containers, functions, objects by their parts.

    Objects of equal classes and attributes have one digest, in every process. Random generators
    count as equal; an object that shows nothing of itself has a digest of its own each time. Of
    functions and classes count the values that they take from modules, and the user's own ones
    that they call; not what a function imports while it runs.

    >>> digest({"a": (1, 2.0), "b": np.zeros(2)}) == digest({"b": np.zeros(2), "a": (1, 2.0)})
    True
    >>> digest([1]) == digest([True])
    False
    """
    return hashlib.sha256(_described(value, ()).encode()).hexdigest()


def digest_of_names(
    items: Sequence[Mapping[str, Any]], among: Sequence[Mapping[str, Any]]
) -> str | None:
    """Twelve digits that say which images, or planes of them, a list has, wherever these lie.

    Args:
        items: the list, of items with `image` and, of a plane, `slice`.
        among: all items that their names have to tell apart.

    Returns:
        Equal digits for equal names, in any order; None where images are no files.
    """
    images = [item["image"] for item in (*among, *items)]
    files = (file for image in images for file in ensure_tuple(image, wrap_array=True))
    if not all(isinstance(file, str | os.PathLike) for file in files):
        return None
    cases = {tuple(files_of(image)): image for image in images}
    names = dict(zip(cases, names_apart(list(cases.values())), strict=True))
    listed = [f"{names[tuple(files_of(each['image']))]} {each.get('slice')}" for each in items]
    return digest(sorted(map(same_name, listed)))[:12]


def _described(value: Any, above: tuple[int, ...]) -> str:
    """A line that tells a value from others; `above` are the objects that it is part of."""
    kind = type(value).__qualname__
    if isinstance(value, _PLAIN):
        return f"{kind} {value!r}"
    if isinstance(value, _UNSEEN) or id(value) in above:
        return kind
    return f"{kind}({', '.join(_parts(value, (*above, id(value))))})"


def _parts(value: Any, above: tuple[int, ...]) -> Iterator[str]:
    """What a value that is not plain consists of."""
    parts: Iterable[Any]
    if isinstance(value, type | types.FunctionType | types.ModuleType):
        parts = _code(value)
    elif isinstance(value, Mapping):
        yield from sorted(
            f"{_described(k, above)}: {_described(v, above)}" for k, v in value.items()
        )
        return
    elif isinstance(value, set | frozenset):
        yield from sorted(_described(part, above) for part in value)
        return
    elif isinstance(value, Enum | os.PathLike):
        parts = [str(value)]
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, functools.partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, types.MethodType):
        parts = [value.__func__, value.__self__]
    elif _is_array(value):
        parts = [value.dtype, np.shape(value), hashlib.sha256(bytes_of(value)).digest()]
    else:
        parts = _of_object(value)
    yield from (_described(part, above) for part in parts)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic) and value.dtype != object


def _code(value: Any) -> list[Any]:
    """Of a function or class what it and the user's own code that it reaches are; a name else."""
    if isinstance(value, types.ModuleType):
        return [value.__name__]
    return [[*_own_code(each), taken(each)] for each in reached(value)]


def _own_code(value: Code) -> list[Any]:
    """Name and source of a class, with its bases; of a function its code."""
    if isinstance(value, type):
        return [(c.__module__, c.__qualname__, _source(c)) for c in value.__mro__[:-1]]
    made = [value.__defaults__, value.__kwdefaults__]
    return [value.__module__, *_code_parts(value.__code__), *made]


def _code_parts(code: types.CodeType) -> list[Any]:
    inner = [
        _code_parts(part) if isinstance(part, types.CodeType) else part for part in code.co_consts
    ]
    return [code.co_name, code.co_code, code.co_names, inner]


def _of_object(value: Any) -> list[Any]:
    """Class and attributes; of objects without any, their pickle."""
    parts: list[Any] = [type(value)]
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu().as_subclass(torch.Tensor).contiguous()
        parts += [plain.dtype, tuple(plain.shape), plain.flatten().view(torch.uint8).numpy()]
    if attributes := getattr(value, "__dict__", None):
        return [*parts, attributes]
    if len(parts) > 1 or attributes is not None:
        return parts
    try:
        return [*parts, pickle.dumps(value)]
    except Exception:  # it may raise anything
        return [*parts, os.urandom(16)]


@functools.cache
def _source(kind: type) -> str:
    """Digest of the file that a class is written in; empty where there is none."""
    try:
        return sha256(inspect.getsourcefile(kind) or "")
    except (TypeError, OSError):
        return ""


@functools.cache
def _own_source() -> str:
    """Digest of this package: transforms call much that stands elsewhere in it."""
    files = sorted(Path(unet_med.__file__).parent.rglob("*.py"))
    return sha256(files)
