"""What a digest sees of code beyond its own lines: constants and functions of other modules."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from scipy.ndimage import median_filter

from unet_med.data.digest import digest
from unet_med.data.referred import reached, taken
from unet_med.transforms import RandTileCropd

HELPERS = """
LIMIT = 3
def clip(x):
    return min(x, LIMIT)
"""
SCRIPT = """
import functools, logging, threading
import numpy as np
import helpers
from helpers import clip

FACTOR, STEPS = 2, [clip, {"low": np.zeros(2)}]
LOG, LOCK = logging.getLogger("script"), threading.Lock()

def scale(x):
    LOG.info("scaled")
    with LOCK:
        return again(x) if x > 9 else [FACTOR * x for _ in range(2)]

def again(x):
    return scale(x - 1)

def first(x):
    return again(x)

def through_a_module(x):
    return helpers.clip(x)

def through_a_list(x):
    return STEPS[0](x)

def with_default(x, step=clip):
    return step(x)

@functools.lru_cache
def wrapped(x):
    return clip(x)

half = functools.partial(clip)

class Clip:
    def __call__(self, x):
        return self.limited(x)

    @property
    def limit(self):
        return again

    @staticmethod
    def limited(x):
        return clip(x)

class Clipped(Clip):
    def __call__(self, x):
        return super().__call__(x)

CLIPPED = Clipped()

def by_an_object(x):
    return CLIPPED(x)
"""


def a_script(monkeypatch: pytest.MonkeyPatch, script: str = SCRIPT, helpers: str = HELPERS) -> Any:
    """The user's own modules, as a process of their own would have them."""
    for name, text in (("helpers", helpers), ("script", script)):
        monkeypatch.setitem(sys.modules, name, module := ModuleType(name))
        exec(text, vars(module))
    return module


CLIPPING = [
    *("clip", "through_a_module", "through_a_list", "with_default", "wrapped", "half", "Clip"),
    *("Clipped", "CLIPPED", "by_an_object"),
]


@pytest.mark.parametrize("name", CLIPPING)
def test_a_digest_sees_what_code_takes_from_modules(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The constant lies in another module than what uses it, and deeper than what is kept."""
    before = digest(getattr(a_script(monkeypatch), name))
    assert digest(getattr(a_script(monkeypatch), name)) == before
    changed = HELPERS.replace("LIMIT = 3", "LIMIT = 4")
    assert digest(getattr(a_script(monkeypatch, helpers=changed), name)) != before
    called = HELPERS.replace("min(x", "max(x")
    assert digest(getattr(a_script(monkeypatch, helpers=called), name)) != before


@pytest.mark.parametrize("name", ["scale", "again", "first", "Clip"])
def test_a_digest_sees_through_functions_that_call_each_other(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = a_script(monkeypatch)
    before = digest(getattr(script, name))
    script.LOG.setLevel("ERROR")  # of the logger and the lock nothing counts
    script.UNUSED = 1
    assert digest(getattr(script, name)) == before
    script.FACTOR = 3
    assert digest(getattr(script, name)) != before
    called = a_script(monkeypatch, SCRIPT.replace("x - 1", "x - 2"))
    assert digest(getattr(called, name)) != before


def test_a_digest_follows_nothing_that_is_installed() -> None:
    """Of numpy, scipy and torch the versions count, and much in them changes while they run."""
    assert reached(median_filter) == [median_filter]
    assert taken(median_filter) == [[], {}]
    assert reached(RandTileCropd) == [RandTileCropd]
    assert a_script in reached(torch.no_grad()(a_script))
