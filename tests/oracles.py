"""Slow, obvious versions of what the package computes; the tests compare against them."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter, deque
from fractions import Fraction

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F


def walk_valid_unet(
    side: int, depth: int, convs_per_level: int, pool: int, upsample_crop: int
) -> int | None:
    """Output side of a valid U-Net, one layer after the other; None where it cannot run."""
    levels = [pool] * depth, [3] * (depth + 1), [upsample_crop] * depth
    return walk_valid_axis(side, *levels, convs_per_level)


def walk_valid_axis(
    side: int, pools: list[int], kernels: list[int], crops: list[int], convs_per_level: int
) -> int | None:
    """The same along one axis, whose levels may differ; all top to bottom."""
    for pool, kernel in zip(pools, kernels, strict=False):
        for _ in range(convs_per_level):
            side -= kernel - 1
        if side < 1 or side % pool:
            return None
        side //= pool
    for _ in range(convs_per_level):
        side -= kernels[-1] - 1
    for pool, kernel, crop in reversed(list(zip(pools, kernels, crops, strict=False))):
        if side < 1:
            return None
        side = side * pool - 2 * crop
        for _ in range(convs_per_level):
            side -= kernel - 1
    return side if side > 0 else None


def reach_of_padded_unet(depth: int, convs_per_level: int, pool: int, upsample_crop: int) -> int:
    """Distance of the furthest input pixel an output pixel sees, traced back layer by layer."""
    levels = [pool] * depth, [3] * (depth + 1), [upsample_crop] * depth
    return reach_of_padded_axis(*levels, convs_per_level)


def reach_of_padded_axis(
    pools: list[int], kernels: list[int], crops: list[int], convs_per_level: int
) -> int:
    """The same along one axis, whose levels may differ; all top to bottom."""
    furthest, levels = 0, list(zip(pools, kernels, crops, strict=False))
    for pixel in range(math.prod(pools)):  # every position within a cell of the lowest level
        left = right = pixel
        for pool, kernel, crop in levels:
            look = convs_per_level * (kernel // 2) + crop
            left, right = (left - look) // pool, (right + look) // pool
        look = convs_per_level * (kernels[-1] // 2)
        left, right = left - look, right + look
        for pool, kernel, _ in reversed(levels):
            look = convs_per_level * (kernel // 2)
            left, right = left * pool - look, right * pool + pool - 1 + look
        furthest = max(furthest, pixel - left, right - pixel)
    return furthest


def figure_1(
    x: torch.Tensor, layers: list[torch.Tensor], *, slope: float = 0.0, up_act: bool = False
) -> torch.Tensor:
    """Figure 1 of the paper, one line an arrow.

    Args:
        x: `(B, C, H, W)`.
        layers: weight, bias, weight, ... in order.
        slope: of the activation below 0; Falk et al. 2019 have 0.1.
        up_act: whether an activation follows the up-convolutions, as in the release and in Falk.
    """
    parameters = iter(layers)

    def conv(x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(F.conv2d(x, next(parameters), next(parameters)), slope)

    x1 = conv(conv(x))
    x2 = conv(conv(F.max_pool2d(x1, 2)))
    x3 = conv(conv(F.max_pool2d(x2, 2)))
    x4 = conv(conv(F.max_pool2d(x3, 2)))
    y = conv(conv(F.max_pool2d(x4, 2)))
    for skip in (x4, x3, x2, x1):
        y = F.conv_transpose2d(y, next(parameters), next(parameters), stride=2)
        y = F.leaky_relu(y, slope) if up_act else y
        lost = (skip.shape[2] - y.shape[2]) // 2
        skip = skip[:, :, lost:-lost, lost:-lost]
        y = conv(conv(torch.cat([y, skip], dim=1)))
    return F.conv2d(y, next(parameters), next(parameters))


def weighted_cross_entropy(
    logits: np.ndarray, label: np.ndarray, weight: np.ndarray, ignore_index: int = 255
) -> tuple[float, float]:
    """Eq. 1 of the paper, pixel by pixel: `(sum of w * -log p, sum of w)`.

    Args:
        logits: `(B, K, H, W)`.
        label: `(B, H, W)`.
        weight: `(B, H, W)`.
    """
    energy = total = 0.0
    for b, y, x in np.ndindex(label.shape):
        if label[b, y, x] == ignore_index:
            continue
        a = [float(value) for value in logits[b, :, y, x]]
        p = math.exp(a[int(label[b, y, x])]) / sum(math.exp(value) for value in a)
        energy -= float(weight[b, y, x]) * math.log(p)
        total += float(weight[b, y, x])
    return energy, total


def by_letter(array: np.ndarray, axes: str, index: dict[str, int]) -> np.generic:
    """One sample of an array whose axes have letters; letters it lacks do not matter."""
    return array[tuple(index[letter] for letter in axes)]


def deepest_cell(
    where: np.ndarray, centres: np.ndarray, shapes: list[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Owner and level of each pixel: all cells measured everywhere, the deepest (below 1) wins."""
    size = where.shape[1:]
    owner, level = np.zeros(size, np.int32), np.ones(size)
    for pixel in np.ndindex(size):
        position = where[(slice(None), *pixel)]
        depths = [np.linalg.norm(m @ (position - c)) for c, m in zip(centres, shapes, strict=True)]
        if min(depths) < 1:
            owner[pixel], level[pixel] = np.argmin(depths) + 1, min(depths)
    return owner, level


def whole_pass(image: np.ndarray, network, *, first, side_for) -> np.ndarray:
    """Logits of one pass over a mirrored image `(B, C, *S)`, cut back to the image.

    Args:
        image: `(B, C, *S)`.
        network: maps a tensor to logits.
        first: px mirrored before each axis: a valid network's margin, 0 for a padded one; one, or
            one an axis.
        side_for: input sides, px, that cover an image of so many px.
    """
    spatial = image.shape[2:]
    before = [first] * len(spatial) if isinstance(first, int) else first
    pads = [
        (px, side - px - length)
        for px, side, length in zip(before, side_for(spatial), spatial, strict=True)
    ]
    mirrored = np.pad(image, [(0, 0), (0, 0), *pads], mode="reflect")
    with torch.inference_mode():
        logits = network(torch.from_numpy(mirrored)).numpy()
    return logits[(slice(None), slice(None), *(slice(0, length) for length in spatial))]


def unet_pass(image: torch.Tensor, net) -> np.ndarray:
    """Logits of one pass of a `UNet` over a mirrored image `(B, C, *S)`."""
    first = net.margin if net.padding == "valid" else 0
    return whole_pass(image.numpy(), net, first=first, side_for=net.input_size_for)


def keys_cubic(x: float, a: float = -0.75) -> float:
    """Keys' cubic convolution kernel at distance `x`, in grid steps."""
    x = abs(x)
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    if x < 2:
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return 0.0


def cubic_bspline(x: float) -> float:
    """Cubic B-spline basis function at distance `x`, in grid steps."""
    return float(np.nan_to_num(_bspline_basis()(x)))


@functools.cache
def _bspline_basis():
    from scipy.interpolate import BSpline

    return BSpline.basis_element(np.arange(-2, 3), extrapolate=False)


def displacement_by_loops(nodes: np.ndarray, shape: tuple[int, int], kernel: str) -> np.ndarray:
    """Every pixel asks every node within two grid steps; (2, g, g) -> (2, *shape)."""
    rim = 1 if kernel == "bspline" else 0
    grid = [n - 2 * rim for n in nodes.shape[1:]]
    weight = cubic_bspline if kernel == "bspline" else keys_cubic
    field = np.zeros((2, *shape))
    for y in range(shape[0]):
        for x in range(shape[1]):
            at_y = y / (shape[0] - 1) * (grid[0] - 1)
            at_x = x / (shape[1] - 1) * (grid[1] - 1)
            for i in range(-3, grid[0] + 3):
                for j in range(-3, grid[1] + 3):
                    k = min(max(i + rim, 0), nodes.shape[1] - 1)
                    m = min(max(j + rim, 0), nodes.shape[2] - 1)
                    field[:, y, x] += nodes[:, k, m] * weight(at_y - i) * weight(at_x - j)
    return field


def warp_by_scipy(image: np.ndarray, displacement: np.ndarray, order: int) -> np.ndarray:
    """One channel `(*S)` at displaced positions, scipy's mirror; order 0 nearest, 1 linear."""
    from scipy.ndimage import map_coordinates

    where = np.indices(image.shape) + displacement
    return map_coordinates(image, where, order=order, mode="mirror")


def crop_mirrored(image: np.ndarray, start: list[int], sizes: list[int]) -> np.ndarray:
    """Window `(C, *sizes)` of an image that `np.pad` has mirrored far beyond its border."""
    for axis, (first, size) in enumerate(zip(start, sizes, strict=True), start=1):
        side = image.shape[axis]
        before, after = max(0, -first), max(0, first + size - side)
        pad = [(0, 0)] * image.ndim
        pad[axis] = (before, after)
        image = np.pad(image, pad, mode="reflect" if side > 1 else "edge")
        image = np.take(image, range(first + before, first + before + size), axis=axis)
    return image


def ridge_by_loops(instances: np.ndarray, kind: str) -> np.ndarray:
    """Pixel by pixel, neighbour by neighbour: is another instance next to this one?"""
    found = np.zeros(instances.shape, bool)
    for here in np.ndindex(instances.shape):
        for offset in itertools.product((-1, 0, 1), repeat=instances.ndim):
            there = tuple(h + o for h, o in zip(here, offset, strict=True))
            if min(there) < 0 or any(t >= n for t, n in zip(there, instances.shape, strict=True)):
                continue
            if kind == "falk" and np.ravel_multi_index(there, instances.shape) > (
                np.ravel_multi_index(here, instances.shape)
            ):
                continue
            a, b = instances[here], instances[there]
            found[here] |= a > 0 and b > 0 and a != b
    return found


def two_nearest_by_transforms(instances: np.ndarray, spacing=None) -> tuple[np.ndarray, np.ndarray]:
    """One distance transform of the whole image an instance, the two least at every pixel."""
    first = np.full(instances.shape, np.inf)
    second = first.copy()
    for number in np.unique(instances[instances > 0]):
        distance = ndimage.distance_transform_edt(instances != number, spacing)
        second = np.minimum(second, np.maximum(first, distance))
        first = np.minimum(first, distance)
    return first, second


def border_weights_by_transforms(instances: np.ndarray, w0=10.0, sigma=5.0, spacing=None):
    """Second term of equation 2, with `two_nearest_by_transforms`, in float64."""
    d1, d2 = two_nearest_by_transforms(instances, spacing)
    return np.where(instances == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def falk_weights_by_loops(
    instances: np.ndarray,
    classes: np.ndarray,
    *,
    separation=50.0,
    sigma_separation=6.0,
    background=0.1,
    sigma_balance=10.0,
    spacing=None,
) -> np.ndarray:
    """Falk et al. 2019, line by line, with their constants and all classes."""
    weight = np.ones(instances.shape)
    one_class = [np.where(classes == c, instances, 0) for c in np.unique(classes[instances > 0])]
    ground = instances == 0
    for members in one_class:
        ground = ground | ridge_by_loops(members, "falk")
    weight[ground] = background
    for members in one_class:
        d1, d2 = two_nearest_by_transforms(members, spacing)
        border = separation * np.exp(-((d1 + d2) ** 2) / (2 * sigma_separation**2))
        balance = (1 - background) * np.exp(-(d1**2) / (2 * sigma_balance**2))
        weight[ground] += (border + balance)[ground]
    weight[instances < 0] = 0
    return weight


def flooded(interior: np.ndarray) -> np.ndarray:
    """Thinning of the ISBI organisers: basins flooded through one queue, pixel by pixel."""
    height, width = interior.shape
    if not interior.any():
        return np.ones(interior.shape, int)

    def neighbours(y: int, x: int) -> list[tuple[int, int]]:
        around = [(y, x - 1), (y - 1, x), (y, x + 1), (y + 1, x)]
        return [(v, u) for v, u in around if 0 <= v < height and 0 <= u < width]

    segments = ndimage.label(interior)[0]
    queued = interior.copy()
    queue = deque()
    for x in range(width):
        for y in range(height):
            if not interior[y, x] and any(interior[near] for near in neighbours(y, x)):
                queue.append((y, x))
                queued[y, x] = True
    while queue:
        pixel = queue.popleft()
        found = {segments[near] for near in neighbours(*pixel)} - {0}
        segments[pixel] = found.pop() if len(found) == 1 else 0
        for near in neighbours(*pixel):
            if not queued[near]:
                queued[near] = True
                queue.append(near)
    return segments


def v_rand_and_v_info(truth: np.ndarray, proposal: np.ndarray) -> tuple[float, float]:
    """Both scores of thinned labels: over all pairs of pixels, and from three entropies."""
    lone = itertools.count(-1, -1)  # a background pixel is a segment of its own
    pixels = [
        (a, b if b else next(lone)) for a, b in zip(truth.flat, proposal.flat, strict=True) if a
    ]
    both = in_truth = in_proposal = 0
    for a, b in pixels:
        for c, d in pixels:
            both += a == c and b == d
            in_truth += a == c
            in_proposal += b == d

    def entropy(labels: list) -> float:
        shares = [count / len(pixels) for count in Counter(labels).values()]
        return -sum(p * math.log(p) for p in shares)

    h_truth, h_proposal = entropy([a for a, _ in pixels]), entropy([b for _, b in pixels])
    information = h_truth + h_proposal - entropy(pixels)
    if min(h_truth, h_proposal) == 0:
        return 2 * both / (in_truth + in_proposal), 0.0
    split, merge = information / h_proposal, information / h_truth
    v_info = 2 * split * merge / (split + merge) if information > 1e-12 else 0.0
    return 2 * both / (in_truth + in_proposal), v_info


def seg_and_det(prediction: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """SEG and DET of one frame, object by object (Cell Tracking Challenge)."""
    true_labels = [r for r in np.unique(truth) if r > 0]
    overlaps, owners = [], []
    for r in true_labels:
        for s in np.unique(prediction[(prediction > 0) & (truth >= 0)]):
            R, S = truth == r, (prediction == s) & (truth >= 0)
            if (R & S).sum() > 0.5 * R.sum():
                overlaps.append((R & S).sum() / (R | S).sum())
                owners.append(s)
    predicted = set(np.unique(prediction[truth >= 0])) - {0}
    cost = 5 * (len(owners) - len(set(owners)))
    cost += 10 * (len(true_labels) - len(owners)) + len(predicted - set(owners))
    worst = 10 * len(true_labels)
    return sum(overlaps) / len(true_labels), 1 - min(cost, worst) / worst


def most_matches(jaccard: np.ndarray, threshold: float) -> int:
    """Largest number of pairs with at least `threshold`, by trying every assignment."""
    jaccard = jaccard if jaccard.shape[0] <= jaccard.shape[1] else jaccard.T
    rows, columns = jaccard.shape
    return max(
        sum(jaccard[i, j] >= threshold for i, j in enumerate(chosen))
        for chosen in itertools.permutations(range(columns), rows)
    )


def warped_splits_and_mergers(
    probability: np.ndarray, truth: np.ndarray, threshold: float
) -> tuple[int, int]:
    """Warping error's split and merge pixels of one slice, rule by rule of its description."""
    corners = np.ones((3, 3))
    proposal, relaxed = np.pad(probability > threshold, 1), np.pad(truth != 0, 1).astype(bool)
    strength = np.pad(np.abs(probability - threshold).astype(np.float32), 1)

    def mismatches() -> list[tuple[int, int]]:
        found = [(y, x) for x, y in zip(*np.nonzero((proposal != relaxed).T), strict=True)]
        return sorted(found, key=lambda pixel: -strength[pixel])  # stable

    def is_simple(y: int, x: int) -> bool:
        ring = relaxed[y - 1 : y + 2, x - 1 : x + 2].copy()
        ground = ~ring
        ring[1, 1] = ground[1, 1] = False
        objects = ndimage.label(ring)[0]
        beside = {objects[0, 1], objects[1, 0], objects[1, 2], objects[2, 1]} - {0}
        return len(beside) == 1 and ndimage.label(ground, corners)[1] == 1

    def objects_near(interior: np.ndarray, y: int, x: int) -> set[int]:
        around = ndimage.label(interior)[0][y - 1 : y + 2, x - 1 : x + 2].ravel().tolist()
        return set(around[:4] + around[5:])

    changed = True
    while changed:
        changed = False
        for pixel in mismatches():
            if is_simple(*pixel):
                relaxed[pixel] = not relaxed[pixel]
                changed = True
    split = merge = 0
    for y, x in mismatches():
        found = objects_near(relaxed, y, x)
        if len(found - {0}) > 1:
            split, merge = split + relaxed[y, x], merge + (not relaxed[y, x])
        elif relaxed[y, x] and len(found) == 2:
            window = np.pad(relaxed, 20)[y : y + 41, x : x + 41].copy()
            window[20, 20] = False
            split += len(objects_near(window, 20, 20) - {0}) > 1
    return int(split), int(merge)


def fates_by_sets(truth: np.ndarray, result: np.ndarray) -> tuple[dict[int, str], dict[int, str]]:
    """What became of each object, told from sets of pixels, one object after the other."""
    kept = np.flatnonzero(truth.ravel() != -1)
    t, r = (
        {n: {p for p in kept if a.flat[p] == n} for n in set(a.ravel()[kept].tolist()) if n > 0}
        for a in (truth, result)
    )

    def lies_in(one: set, other: set) -> bool:
        return len(one & other) > len(one) / 2

    def fate(own: set, others: dict, peers: dict, lost: str, here: str, there: str) -> str:
        inside = [o for o in others.values() if lies_in(own, o)]
        content = [o for o in others.values() if lies_in(o, own)]
        crowded = any(sum(lies_in(p, o) for p in peers.values()) > 1 for o in inside)
        names = {there} if crowded else set()
        names |= {here} if len(content) > 1 else set()
        if names:
            return "merged" if "merged" in names else "split"
        if any(len(own & o) / len(own | o) > 0.5 for o in others.values()):
            return "correct"
        return "inexact" if inside or content else lost

    return (
        {n: fate(pixels, r, t, "missed", "split", "merged") for n, pixels in t.items()},
        {n: fate(pixels, t, r, "false", "merged", "split") for n, pixels in r.items()},
    )


def spread_by_loops(
    labels: np.ndarray, kinds: list[int], reach: int | tuple[int, ...]
) -> np.ndarray:
    """Objects walk into the pixels of their class, a step at a time; see `instances.spread`.

    Of N steps, those along an axis of n px are the first whole ones after N / n, 2 N / n, ..., N.
    """
    now = labels.copy()
    each = (reach,) * labels.ndim if isinstance(reach, int) else reach
    longest = max(each)
    walked = [{math.ceil(Fraction(k * longest, n)) for k in range(1, n + 1)} for n in each]
    for step in range(1, longest + 1):
        before = now.copy()
        for place in np.argwhere(before < 0):
            for axis in range(labels.ndim):
                if step not in walked[axis]:
                    continue
                for side in (-1, 1):
                    there = place.copy()
                    there[axis] += side
                    if not 0 <= there[axis] < labels.shape[axis] or now[tuple(place)] > 0:
                        continue
                    owner = before[tuple(there)]
                    if owner > 0 and kinds[owner] == -before[tuple(place)]:
                        now[tuple(place)] = owner
    return np.maximum(now, 0)


def known_surface(
    mask: np.ndarray, known: np.ndarray, spacing: tuple[float, ...]
) -> list[tuple[np.ndarray, float]]:
    """Place and area of each element of a surface that is known in part, one after the other.

    Elements are where 4 pixels of a plane, 8 of a volume meet; the table of areas is MONAI's.
    """
    from monai.metrics.utils import get_code_to_measure_table

    table = get_code_to_measure_table(list(spacing))[0].numpy()
    corners = list(itertools.product((0, 1), repeat=mask.ndim))
    every = list(itertools.product(*(range(-1, side + 1) for side in mask.shape)))

    def is_known(place: tuple[int, ...]) -> bool:
        """Beyond the image as a pixel further in."""
        sides = zip(place, mask.shape, strict=True)
        return bool(known[tuple(1 if p < 0 else n - 2 if p >= n else p for p, n in sides)])

    seen = np.array([place for place in every if is_known(place)])
    value = {}
    for place in every:  # of an unknown pixel that of the nearest known one
        far = np.linalg.norm((seen - place) * spacing, axis=1)
        there = tuple(seen[far.argmin()].tolist())
        inside = all(0 <= p < n for p, n in zip(there, mask.shape, strict=True))
        value[place] = inside and bool(mask[there])
    found = []
    for first in itertools.product(*(range(-1, side) for side in mask.shape)):
        pixels = [tuple(np.add(first, corner).tolist()) for corner in corners]
        shown = [value[pixel] for pixel in pixels if is_known(pixel)]
        if len(set(shown)) == 2:
            code = sum(value[pixel] << bit for bit, pixel in enumerate(reversed(pixels)))
            area = float(table[code]) * len(shown) / len(pixels)
            found.append((np.array(first) * spacing, area))
    return found


def calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, where: np.ndarray | None = None
) -> float:
    """Class-wise expected calibration error: pixel by pixel, bin by bin."""
    errors = []
    for k in range(1, len(probabilities)):
        bins: dict[int, list[tuple[float, bool]]] = {}
        for place in np.ndindex(truth.shape):
            if where is None or where[place]:
                p = float(probabilities[(k, *place)])
                number = next(b for b in range(15) if p < (b + 1) / 15 or b == 14)
                bins.setdefault(number, []).append((p, bool(truth[place] == k)))
        total = sum(len(pairs) for pairs in bins.values())
        error = 0.0
        for pairs in bins.values():
            gap = sum(p for p, _ in pairs) / len(pairs) - sum(t for _, t in pairs) / len(pairs)
            error += len(pairs) / total * abs(gap)
        errors.append(error)
    return sum(errors) / len(errors)


def near_borders(labels: np.ndarray, distance: float, spacing: list[float]) -> np.ndarray:
    """Pixels near one that has another known label beside it: all pairs of pixels."""
    border = []
    for place in np.ndindex(labels.shape):
        for axis, step in itertools.product(range(labels.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            if 0 <= other[axis] < labels.shape[axis]:
                pair = labels[place], labels[tuple(other)]
                if pair[0] != pair[1] and min(pair) >= 0:
                    border.append(place)
    found = np.zeros(labels.shape, bool)
    for place in np.ndindex(labels.shape):
        far = [
            math.sqrt(sum(((a - b) * s / min(spacing)) ** 2 for a, b, s in
                          zip(place, other, spacing, strict=True)))
            for other in border
        ]  # fmt: skip
        found[place] = labels[place] >= 0 and any(each <= distance for each in far)
    return found
