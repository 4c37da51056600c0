"""Which images to annotate: drawn at random, or those that a network is least sure of.

On three sets nothing was learned faster from the least confident images than from random ones
(`benchmarks.next_image`), and random ones stand for all, so that the score of held-out images among
them does too. The least confident show where a network fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from monai.data.meta_tensor import MetaTensor
from numpy.typing import NDArray
from scipy import ndimage
from scipy.cluster.vq import kmeans2

from unet_med import bundle
from unet_med.data import load_image
from unet_med.data.cases import Files, files_of
from unet_med.data.checksum import sha256
from unet_med.planning.source import known_images
from unet_med.segmentation.segmenter import Segmenter

Array = NDArray[Any]

RULES = ("random", "confidence")  # the first unless told, in the shell as in napari


@dataclass(frozen=True)
class Candidate:
    """An image that could be annotated.

    Attributes:
        name: of the image.
        confidence: of the prediction; None: nothing is found in it.
        looks: what it looks like, see `looks_like`.
    """

    name: str
    confidence: float | None
    looks: Array


@dataclass(frozen=True)
class Choice:
    """An image to annotate, and why.

    Attributes:
        candidate: the image.
        reason: one sentence.
    """

    candidate: Candidate
    reason: str


def unknown(folder: Path, images: Sequence[Files]) -> list[Files]:
    """Images that neither a bundle nor those before it have learned from, by their content."""
    known = set(known_images(bundle.read_plan(folder)))
    return [image for image in images if sha256(files_of(image)) not in known]


def look(segmenter: Segmenter, name: str, image: Files | MetaTensor) -> Candidate:
    """How sure a network is of an image, and what the image looks like.

    Args:
        segmenter: the network.
        name: of the image.
        image: its files, or what is read already, `(C, X, Y[, Z])`.

    Raises:
        ValueError: the bundle was made by an earlier version, which does not say how sure it is.
    """
    segmenter.require_confidence()
    found = segmenter(image if isinstance(image, MetaTensor) else files_of(image))
    read = image if isinstance(image, MetaTensor) else load_image(image, **segmenter.choice)
    return Candidate(name, found.confidence, looks_like(read.numpy(), found.mask))


def choose_next(
    candidates: Sequence[Candidate], count: int, *, rule: str = RULES[0], seed: int = 0
) -> list[Choice]:
    """Images to annotate next, among those in which something is found.

    Args:
        candidates: images without annotation.
        count: how many to choose, at least 1; fewer are chosen where fewer hold anything.
        rule: `"random"`: each alike. `"confidence"`: the least confident of each kind, those first
            of which a network is least sure. There are as many kinds as are asked for, by what
            images look like (k-means): the least confident ones alone often are one image five
            times. What is left is filled with the least confident others.
        seed: of the draw, or of the kinds.

    Raises:
        ValueError: fewer than one is asked for, or by another rule.
    """
    if count < 1:
        raise ValueError(f"count {count}: choose 1 image or more")
    if rule not in RULES:
        raise ValueError(f"rule {rule} is neither {' nor '.join(RULES)}")
    found = [each for each in candidates if each.confidence is not None]
    if rule == "random":
        drawn = np.random.default_rng(seed).permutation(len(found))[:count]
        about = f"drawn at random from {len(found)} in which something is found"
        return [Choice(found[k], f"{about}, confidence {_confidence(found[k]):.3f}") for k in drawn]
    return _least_confident(found, count, seed)


def _least_confident(found: Sequence[Candidate], count: int, seed: int) -> list[Choice]:
    """Of each kind, then of all others; the least confident first."""
    order = sorted(found, key=_confidence)
    kinds = _kinds(order, min(count, len(order)), seed)
    chosen: dict[str, Choice] = {}
    of_its_kind = " of its kind" if len(set(kinds)) > 1 else ""
    for number, each in enumerate(order):
        own = [k for k, kind in enumerate(kinds) if kind == kinds[number]]
        if own[0] == number:  # the first of its kind
            among = (
                "the only image" if len(own) == 1 else f"the least confident of {len(own)} images"
            )
            chosen[each.name] = Choice(
                each, f"confidence {each.confidence:.3f}, {among}{of_its_kind}"
            )
    for each in order:
        if len(chosen) < count and each.name not in chosen:
            chosen[each.name] = Choice(each, f"confidence {each.confidence:.3f}, next in line")
    return sorted(chosen.values(), key=lambda choice: _confidence(choice.candidate))


def looks_like(image: Array, mask: Array) -> Array:
    """What an image looks like in five numbers: brightness, contrast, texture, and what is found.

    Args:
        image: grey values as in the file, `(C, *S)`; all channels count alike.
        mask: of the prediction, any order of axes.

    Returns:
        Median; 95 % less 5 % quantile; share of pixels in the outer fifths of this range; mean
        gradient over 1 px by the deviation; share of foreground.
    """
    grey = np.nan_to_num(np.asarray(image, np.float64).mean(axis=0))
    low, middle, high = np.quantile(grey, [0.05, 0.5, 0.95])
    rim = 0.2 * (high - low)
    outer = ((grey < low + rim) | (grey > high - rim)).mean()
    steps = ndimage.gaussian_gradient_magnitude(grey, 1.0).mean() / max(grey.std(), 1e-12)
    return np.array([middle, high - low, outer, steps, (np.asarray(mask) != 0).mean()])


def _kinds(candidates: Sequence[Candidate], count: int, seed: int) -> list[int]:
    """Number of the kind of each image; every number measured in its own deviations."""
    if count < 2:
        return [0] * len(candidates)
    looks = np.stack([each.looks for each in candidates])
    spread = looks.std(axis=0)
    scaled = (looks - looks.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    if len(np.unique(scaled, axis=0)) <= count:  # k-means has nothing to average
        return [int(k) for k in np.unique(scaled, axis=0, return_inverse=True)[1].ravel()]
    with warnings.catch_warnings():  # a kind that no image is of stays empty
        warnings.simplefilter("ignore", UserWarning)
        kinds = kmeans2(scaled, count, minit="++", rng=seed)[1]
    return [int(k) for k in kinds]


def _confidence(candidate: Candidate) -> float:
    assert candidate.confidence is not None
    return candidate.confidence
