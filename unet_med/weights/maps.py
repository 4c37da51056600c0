"""The paper's border weights and class balance, and Falk's recipe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from unet_med.devices import weighs_batches
from unet_med.instances import IGNORED, as_integers, ridge
from unet_med.weights.arrays import Map, Spacing, as_numpy, like, pixel_size, spatial
from unet_med.weights.device import border_reach, border_terms, class_weights_of, no_class
from unet_med.weights.distances import Method, distances

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def border_weight_map(
    instances: Map,
    w0: float = 10.0,
    sigma: float = 5.0,
    spacing: Spacing = None,
    *,
    method: Method = "cheapest",
) -> Map:
    """The border term of the paper's weight map, `w0 exp(-(d1 + d2)^2 / (2 sigma^2))`.

    Ronneberger et al. 2015, equation 2, on the instance map as it is given:
    call `separate` first if touching instances are to have a border. Terms below
    `2**-24`, which float32 cannot add to 1, may be 0.

    Args:
        instances: 1..N are the instances, 0 is background, -1 ignored.
        w0: weight where two instances touch; 10 in the paper.
        sigma: width of the border, in pixels or in the unit of `spacing`; about
            5 px in the paper.
        spacing: size of a pixel, one number or one an axis; None: 1.
        method: how distances are found, as for `two_nearest`; a GPU has its own.

    Returns:
        The term on background, float32; 0 inside instances, on ignored pixels
        and where there are fewer than two instances.

    Raises:
        ValueError: as `two_nearest`, or `w0` is negative or `sigma` not positive.

    >>> border_weight_map(np.array([1, 0, 2]), sigma=2.0).round(3)
    array([0.   , 6.065, 0.   ], dtype=float32)
    """
    if isinstance(instances, torch.Tensor) and weighs_batches(instances.device):
        batch = instances.reshape(1, *instances.shape[-len(pixel_size(instances.shape, spacing)) :])
        return border_terms(batch, w0, sigma, spacing).reshape(instances.shape)
    labels, pixel = spatial(instances, spacing)
    ground = labels == 0
    term = np.zeros(labels.shape, np.float32)
    term[ground] = _border_term(labels, ground, pixel, w0, sigma, method)
    return like(term, instances)


def falk_weight_map(
    instances: Map,
    classes: Map | None = None,
    *,
    separation: float = 50.0,
    sigma_separation: float = 6.0,
    background: float = 0.1,
    sigma_balance: float = 10.0,
    spacing: Spacing = None,
) -> Map:
    """The whole weight map of Falk et al. 2019 (Nature Methods 16:67-70).

    Foreground weighs 1, ignored pixels 0, and background
    `v_bal + sum_c (lambda exp(-(d1 + d2)^2 / (2 sigma_sep^2)) + (1 - v_bal)
    exp(-d1^2 / (2 sigma_bal^2)))`. Pixels of the ridge between touching
    instances of a class count as background; the distances are those before
    the ridge was made, so give the instances as they were annotated.

    Args:
        instances: 1..N are the instances, 0 is background, -1 ignored.
        classes: class of every pixel, the shape of `instances`; None: all
            instances are of one class.
        separation: lambda, the weight where two instances touch.
        sigma_separation: sigma_sep, px or the unit of `spacing`.
        background: v_bal, the weight far from everything.
        sigma_balance: sigma_bal, px or the unit of `spacing`.
        spacing: size of a pixel, one number or one an axis; None: 1, as Falk
            has it after rescaling.

    Returns:
        Weight map, float32.

    Raises:
        ValueError: as `border_weight_map`, or `classes` is of another shape.
    """
    labels, pixel = spatial(instances, spacing)
    ground = labels == 0
    groups = list(_of_one_class(labels, classes))
    for members in groups:
        ground |= ridge(members, "falk")
    weight = np.where(labels < 0, 0, 1).astype(np.float32)
    weight[ground] = background
    for members in groups:
        weight[ground] += _border_term(members, ground, pixel, separation, sigma_separation)
        nearest = distance_transform_edt(members <= 0, pixel)[ground].astype(np.float32)
        weight[ground] += (1 - background) * _gaussian(nearest, sigma_balance)
    return like(weight, instances)


def class_weight_map(
    label: Map,
    num_classes: int = 2,
    class_weights: Sequence[float] | None = None,
    ignore: int = IGNORED,
) -> Map:
    """The paper's `w_c`, "the weight map to balance the class frequencies".

    The paper gives no formula. Ours is `n / (K n_k)` on the `n_k` pixels of
    class k, with n pixels and K classes that are not ignored and present:
    the classes weigh alike and the mean weight is 1.

    Args:
        label: classes 0..num_classes - 1.
        num_classes: number of classes, background included.
        class_weights: one weight a class, used as they are; None: the formula.
        ignore: label of the pixels that weigh nothing.

    Returns:
        Weight map, float32, always finite; 0 on ignored pixels.

    Raises:
        ValueError: labels that are not whole numbers, a class outside the
            range, or weights that are negative, not finite or not one a class.

    >>> class_weight_map(np.array([0, 0, 0, 1])).round(3)
    array([0.667, 0.667, 0.667, 2.   ], dtype=float32)
    """
    if isinstance(label, torch.Tensor) and weighs_batches(label.device):
        table = None if class_weights is None else _class_weights(class_weights, num_classes)
        return class_weights_of(label, num_classes, table, ignore)
    classes = as_integers(as_numpy(label))
    valid = classes != ignore
    members = classes[valid]
    if members.size and not 0 <= members.min() <= members.max() < num_classes:
        wrong = members.min() if members.min() < 0 else members.max()
        raise no_class(wrong, num_classes, ignore)
    if class_weights is None:
        counts = np.bincount(members, minlength=num_classes)
        table = members.size / (max(np.count_nonzero(counts), 1) * np.maximum(counts, 1))
    else:
        table = _class_weights(class_weights, num_classes)
    weight = np.zeros(classes.shape, np.float32)
    weight[valid] = table.astype(np.float32)[members]
    return like(weight, label)


def _border_term(
    labels: NDArray[Any],
    wanted: NDArray[np.bool_],
    pixel: tuple[float, ...],
    w0: float,
    sigma: float,
    method: Method = "cheapest",
) -> Floats:
    """`w0 exp(-(d1 + d2)^2 / (2 sigma^2))` of the wanted pixels, about 0 where negligible."""
    reach = border_reach(w0, sigma)
    if reach == 0:
        return np.zeros(np.count_nonzero(wanted), np.float32)
    d1, d2 = distances(labels, wanted, pixel, reach, total=reach, method=method)
    return np.float32(w0) * _gaussian(d1 + d2, sigma)


def _gaussian(distance: Floats, sigma: float) -> Floats:
    return np.exp(np.square(distance) / np.float32(-2 * sigma**2))


def _of_one_class(
    labels: NDArray[Any], classes: NDArray[Any] | torch.Tensor | None
) -> Iterator[NDArray[Any]]:
    """The instance map, one class at a time; an instance is in every class it has pixels of."""
    if not (labels > 0).any():
        return
    if classes is None:
        yield labels
        return
    values = as_integers(as_numpy(classes))
    if values.size != labels.size:
        raise ValueError(
            f"classes of shape {values.shape} for instances of shape {labels.shape}; "
            "they must be of one shape"
        )
    values = values.reshape(labels.shape)
    for value in np.unique(values[labels > 0]):
        yield np.where((values == value) | (labels < 0), labels, 0)


def _class_weights(class_weights: Sequence[float], num_classes: int) -> NDArray[np.float64]:
    table = np.asarray(class_weights, dtype=np.float64)
    if table.shape != (num_classes,):
        raise ValueError(f"{table.size} class weights for {num_classes} classes; give one a class")
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"class weights {table.tolist()}; they must be finite and not negative")
    return table
