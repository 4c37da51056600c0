"""What functions and classes take from beyond themselves: values, and others that they call."""

from __future__ import annotations

import argparse
import functools
import os
import sys
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch

Code = types.FunctionType | type

_INSTALLED = {"site-packages", "dist-packages"}  # folders of what has a version
_PLAIN = (type(None), bool, int, float, complex, str, bytes, Enum, os.PathLike, np.generic)
_ARRAYS = (np.ndarray, np.dtype, torch.Tensor, torch.dtype, torch.device)
_SETTINGS = (*_PLAIN, *_ARRAYS, types.SimpleNamespace, argparse.Namespace)
_NESTED = 5  # levels of containers that are looked into


def reached(start: Code) -> list[Code]:
    """A function or class, and the user's own ones that it comes to use, each once, in order.

    What is installed has a version, and is not followed.
    """
    found = [start]
    known = {id(start)}
    for each in found:  # which grows
        for other in (*_cells(each), *(value for _, value in _looked_up(each))):
            if _is_own_code(other) and id(other) not in known:
                known.add(id(other))
                found.append(other)
    return found


def taken(code: Code) -> list[Any]:
    """Values that code is made with or looks up, but for the code that is `reached` from it."""
    cells = [value for value in _cells(code) if not _is_own_code(value)]
    names = {name: value for name, value in _looked_up(code) if not _is_own_code(value)}
    return [cells, {name: value for name, value in names.items() if _is_setting(value)}]


@functools.cache
def _is_own(module: str | None) -> bool:
    """Whether a module is the user's: not of Python, not installed, not of this package."""
    top = (module or "").partition(".")[0]
    if top in sys.stdlib_module_names or top in ("", "unet_med"):
        return False
    file = getattr(sys.modules.get(module or ""), "__file__", None) or ""
    return not _INSTALLED & {*Path(file).parts}


def _is_own_code(value: Any) -> bool:
    return isinstance(value, Code) and _is_own(_module_of(value))


def _module_of(code: Code) -> str | None:
    """Where it is written; what wraps a function goes by the name of that one's module."""
    if isinstance(code, types.FunctionType):
        return code.__globals__.get("__name__")
    return code.__module__


def _cells(code: Code) -> list[Any]:
    """What a function encloses."""
    return [cell.cell_contents for cell in getattr(code, "__closure__", None) or ()]


def _looked_up(code: Code) -> Iterator[tuple[str, Any]]:
    """What the user's own code finds by name: in modules, and in a class by its instances."""
    if isinstance(code, type):
        for kind in reversed(code.__mro__):
            if _is_own(kind.__module__):
                yield from _members(kind)
    elif _is_own(_module_of(code)):
        names = {name for name in _names(code.__code__) if not name.startswith("__")}
        yield from _found(code.__globals__, names, ())


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """What a class defines, of its properties the functions."""
    for name, value in vars(kind).items():
        if isinstance(value, property):
            parts = {"get": value.fget, "set": value.fset}
            yield from ((f"{name}.{part}", function) for part, function in parts.items())
        elif isinstance(value, staticmethod | classmethod):
            yield name, value.__func__
        elif isinstance(value, types.FunctionType) or not name.startswith("__"):
            yield name, value


def _names(code: types.CodeType) -> set[str]:
    """Of globals and of attributes, which bytecode keeps together."""
    inner = (part for part in code.co_consts if isinstance(part, types.CodeType))
    return {*code.co_names}.union(*map(_names, inner))


def _found(
    namespace: Mapping[str, Any], names: set[str], within: tuple[str, ...]
) -> Iterator[tuple[str, Any]]:
    """What names lead to, also through modules of the user's own: `settings.LIMIT`."""
    for name in sorted(names & namespace.keys()):
        value = namespace[name]
        if not isinstance(value, types.ModuleType):
            yield ".".join((*within, name)), value
        elif _is_own(value.__name__) and name not in within:
            yield from _found(vars(value), names, (*within, name))


def _is_setting(value: Any, levels: int = _NESTED) -> bool:
    """Whether a result may depend on what a value is, as it does not on loggers and locks."""
    if isinstance(value, Mapping | list | tuple | set | frozenset):
        parts = value.values() if isinstance(value, Mapping) else value
        return levels > 0 and all(_is_setting(part, levels - 1) for part in parts)
    return isinstance(value, _SETTINGS) or callable(value) or _is_own(type(value).__module__)
