"""The scores as MONAI metrics, for `key_metric` and `additional_metrics` of a bundle.

Each keeps what is counted in every image, a few numbers, and pools them in `aggregate`: the same
code as the functions, so that batches add up to the score of all their images at once, on one
process or several. A prediction is a batch `(B, C, *S)` or a list of `(C, *S)`; so is the truth.

MONAI's spatial order is (X, Y[, Z]), the challenges' ([Z,] Y, X): the axes are reversed before
counting, and every plane along Z is a slice. In a config,

    {"_target_": "monai.handlers.IgniteMetricHandler",
     "metric_fn": {"_target_": "unet_med.metrics.VRandMetric"},
     "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}

For an error, where less is better, as key metric, the evaluator needs `"metric_cmp_fn": "$lambda
new, best: new < best"`. What a call returns, and what the handler keeps of all images for MONAI's
`MetricsSaver`, are scores of single images, which the pooled one is not the mean of.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.metrics import CumulativeIterationMetric
from numpy.typing import NDArray

from unet_med.metrics.isbi import PIXEL_ERROR, RAND_ERROR, V_INFO, V_RAND
from unet_med.metrics.objects import DET, SEG, precision_score
from unet_med.metrics.score import Score
from unet_med.metrics.surface import Surfaces
from unet_med.metrics.warping import WARPING_ERROR
from unet_med.weights.arrays import as_numpy


class _PooledMetric(CumulativeIterationMetric):
    """Counts every image, pools at the end."""

    score: Score

    def __call__(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Count a batch; its images' scores `(B, 1)`, NaN where one has none."""
        scores, _ = super().__call__(*args, **kwargs)
        return cast(torch.Tensor, scores)

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any
    ) -> list[torch.Tensor]:
        """Scores of a batch's images, float64 `(B, 1)`, and the rows counted in it, `(N, ...)`.

        Predictions and truths are `(B, C, *S)`; what comes back is on the CPU.
        """
        pairs = zip(y_pred, _truth_of(y_pred, y, type(self).__name__), strict=True)
        rows = [self.score.count(self._array(p), self._array(truth)) for p, truth in pairs]
        scores = torch.tensor([[self.score.pool(row)] for row in rows], dtype=torch.float64)
        return [scores, torch.from_numpy(np.concatenate(rows))]

    def get_buffer(self) -> torch.Tensor | None:
        """Scores of all images since the last `reset`, `(images, 1)`; None: there was none."""
        both = super().get_buffer()
        return None if both is None else both[0]

    def aggregate(self) -> torch.Tensor:
        """Score of all images since the last `reset`, a float64 scalar; NaN: it is not defined.

        A validation whose images hold no object, or none that anybody annotated, ends no training.

        Raises:
            ValueError: no image yet.
        """
        both = super().get_buffer()
        if both is None:
            raise _no_image(self)
        return torch.tensor(self.score.pool(both[1].numpy()), dtype=torch.float64)

    @abstractmethod
    def _array(self, image: torch.Tensor) -> NDArray[Any]:
        """One image `(C, *S)` in the order and without the channels of the function."""


class _InteriorMetric(_PooledMetric):
    """Probability of interior against true interior; the last channel, where there are several."""

    def _array(self, image: torch.Tensor) -> NDArray[Any]:
        return as_numpy(image[-1]).T  # (Y, X) or (Z, Y, X)


class _ObjectMetric(_PooledMetric):
    """Instance labels against instance labels."""

    def _array(self, image: torch.Tensor) -> NDArray[Any]:
        if len(image) != 1:
            raise ValueError(
                f"an image has {len(image)} channels; instance labels have one: put "
                "unet_med.transforms.InstancesFromLogitsd on the prediction before the metric"
            )
        return as_numpy(image[0])


class PixelErrorMetric(_InteriorMetric):
    """`unet_med.metrics.pixel_error` over all slices seen.

    Prediction: probability of interior or binary, one channel, or the last of several (softmax,
    one-hot). Truth: interior where not 0, likewise.
    """

    score = PIXEL_ERROR


class RandErrorMetric(_InteriorMetric):
    """`unet_med.metrics.rand_error` over all slices seen; inputs as `PixelErrorMetric`."""

    score = RAND_ERROR


class WarpingErrorMetric(_InteriorMetric):
    """`unet_med.metrics.warping_error` over all slices seen; inputs as `PixelErrorMetric`."""

    score = WARPING_ERROR


class VRandMetric(_InteriorMetric):
    """`unet_med.metrics.v_rand` over all slices seen; inputs as `PixelErrorMetric`.

    The mean over slices at each threshold comes first, then the best threshold.
    """

    score = V_RAND


class VInfoMetric(_InteriorMetric):
    """`unet_med.metrics.v_info` over all slices seen; inputs as `PixelErrorMetric`."""

    score = V_INFO


class SEGMetric(_ObjectMetric):
    """`unet_med.metrics.seg` over the objects of all images seen.

    Prediction and truth are instance labels, one channel: 1..N, 0 background; -1 in the truth is
    ignored. `unet_med.transforms.InstancesFromLogitsd` makes them of a network's output.
    """

    score = SEG


class DETMetric(_ObjectMetric):
    """`unet_med.metrics.det` over the objects of all images seen; inputs as `SEGMetric`."""

    score = DET


class AveragePrecisionMetric(_ObjectMetric):
    """`unet_med.metrics.average_precision` over all images seen; inputs as `SEGMetric`.

    Args:
        iou_threshold: least intersection over union of a match, in (0, 1]; one, or several to
            average over.
    """

    def __init__(self, iou_threshold: float | Sequence[float] = 0.5) -> None:
        super().__init__()
        self.score = precision_score(iou_threshold)


class _SurfaceMetric(CumulativeIterationMetric):
    """Measures every object of every image, and takes the mean at the end.

    Prediction and truth are binary or one-hot, `(B, C, *S)`: of several channels the first is
    background and left out. Distances are in the unit of `spacing`, which a call may state, as in
    `metric(y_pred, y, spacing=(0.8, 0.8, 3))`; else of the truth's affine, or the prediction's
    where the truth is a plain tensor; else in pixels.
    """

    def _compute_tensor(
        self, y_pred: torch.Tensor, y: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """Scores `(B, C)` of a batch, NaN where neither holds the object."""
        y = _truth_of(y_pred, y, type(self).__name__)
        if y_pred.shape[1] != y.shape[1]:
            raise ValueError(
                f"{y_pred.shape[1]} channel(s) of the prediction against {y.shape[1]} of the "
                "truth: make one a class of both (monai.transforms.AsDiscreted with to_onehot)"
            )
        for masks in (y_pred, y):
            self._require_binary(masks)
        given = kwargs.get("spacing")
        placed = y if isinstance(y, MetaTensor) else y_pred
        sizes = _spacings_of(placed) if given is None else [given] * len(y)
        first = 1 if y.shape[1] > 1 else 0
        pairs = [
            zip(p[first:], truth[first:], strict=True) for p, truth in zip(y_pred, y, strict=True)
        ]
        rows = [
            [self._score(Surfaces.between(as_numpy(p), as_numpy(t), spacing)) for p, t in image]
            for image, spacing in zip(pairs, sizes, strict=True)
        ]
        return torch.tensor(rows, dtype=torch.float64)

    def aggregate(self) -> torch.Tensor:
        """Mean over all objects of all images since the last `reset`, a float64 scalar; NaN: none.

        Raises:
            ValueError: no image yet.
        """
        scores = self.get_buffer()
        if scores is None:
            raise _no_image(self)
        return scores.nanmean()

    def _require_binary(self, masks: torch.Tensor) -> None:
        """Refuse numbers of classes, whose foreground would be scored as one object."""
        found = masks[masks > 0]
        if found.numel() and found.min() != found.max():
            raise ValueError(
                f"{type(self).__name__} takes binary masks, or one channel a class, and was given "
                f"values from {float(found.min()):g} to {float(found.max()):g}: make one channel "
                "of each class first (monai.transforms.AsDiscreted with to_onehot)"
            )

    @abstractmethod
    def _score(self, surfaces: Surfaces) -> float:
        """Score of one object."""


class HD95Metric(_SurfaceMetric):
    """`unet_med.metrics.hd95`, mean over images and classes that truth or prediction hold.

    Prediction and truth: binary, or one-hot with the background first. The unit is that of the
    truth's affine, or the prediction's; `metric(y_pred, y, spacing=...)` states another.
    """

    def _score(self, surfaces: Surfaces) -> float:
        return surfaces.hd95()


class ASSDMetric(_SurfaceMetric):
    """`unet_med.metrics.assd`, mean over images and classes; inputs as `HD95Metric`."""

    def _score(self, surfaces: Surfaces) -> float:
        return surfaces.assd()


class NSDMetric(_SurfaceMetric):
    """`unet_med.metrics.nsd`, mean over images and classes; inputs as `HD95Metric`.

    Args:
        tolerance: distance that still counts as right, in the unit of the affine.
    """

    def __init__(self, tolerance: float = 1.0) -> None:
        super().__init__()
        self.tolerance = tolerance

    def _score(self, surfaces: Surfaces) -> float:
        return surfaces.nsd(self.tolerance)


def _no_image(metric: CumulativeIterationMetric) -> ValueError:
    return ValueError(f"{type(metric).__name__} has seen no image: call it before aggregate()")


def _truth_of(y_pred: torch.Tensor, y: torch.Tensor | None, metric: str) -> torch.Tensor:
    """The truth of a batch, one a prediction."""
    if y is None:
        raise ValueError(f"{metric} needs the truth: call it with (y_pred, y)")
    if len(y) != len(y_pred):
        raise ValueError(f"{metric} was given {len(y_pred)} predictions and {len(y)} truths")
    return y


def _spacings_of(masks: torch.Tensor) -> list[list[float]]:
    """Pixel size of each item of `(B, C, *S)` with MONAI's affine; 1 px of a plain tensor.

    A collated batch has an affine for each item, `(B, 4, 4)`.
    """
    dims = masks.ndim - 2
    affine = getattr(masks, "affine", None)
    if affine is None:
        return [[1.0] * dims] * len(masks)
    affine = affine.as_subclass(torch.Tensor).expand(len(masks), *affine.shape[-2:])
    sizes: list[list[float]] = torch.linalg.norm(affine[:, :-1, :dims], dim=1).tolist()
    return sizes  # of a plane that stands upright in space too
