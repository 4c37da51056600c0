"""Random elastic deformation of image, label and weight by one random coarse grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import RandomizableTransform
from monai.utils import TransformBackends, convert_to_tensor, ensure_tuple_rep

from unet_med.deformation import Field, draw_nodes, interpolate_nodes, node_grid, warp
from unet_med.deformation.nodes import Kernel
from unet_med.deformation.resampling import Mode, PaddingMode
from unet_med.transforms.shared_random_state import SharedRandomTransform, no_draw
from unet_med.transforms.tensors import AnyImage, as_tensor, with_metadata_of

ONE_SHAPE = "one field deforms one shape: crop labels to the network's output after the deformation"


class RandElasticDeform(RandomizableTransform):
    """Deform an image by Gaussian displacement vectors on a coarse grid.

    Ronneberger et al. 2015, section 3.1: a 3x3 grid, 10 px, bicubic. The
    displacements are interpolated, not the coordinates: the deformation has the paper's
    strength, and ``sigma=0`` is the identity to the last bit.

    Args:
        sigma: standard deviation of the vectors, px; one, or one an axis.
        grid: nodes along each axis, from edge to edge of the image.
        kernel: ``"bicubic"`` (the paper) or ``"bspline"`` (the authors' caffe_unet:
            about 0.6 times the displacement at the same sigma).
        mode: ``"bilinear"``, ``"nearest"`` for labels, or ``"bicubic"`` (2-D only).
        prob: of a deformation; otherwise the image stays unchanged.
        padding_mode: ``"reflection"``, mirrored without repeating the edge pixel, or
            ``"border"``.
        spacing: size of a pixel, one number or one an axis, in whose unit `sigma` then is;
            None: 1.
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - MONAI's own convention

    def __init__(
        self,
        sigma: float | Sequence[float] = 10.0,
        grid: int | Sequence[int] = 3,
        *,
        kernel: Kernel = "bicubic",
        mode: Mode = "bilinear",
        prob: float = 1.0,
        padding_mode: PaddingMode = "reflection",
        spacing: float | Sequence[float] | None = None,
    ) -> None:
        super().__init__(prob)
        self.sigma = sigma
        self.spacing = spacing
        self.grid = grid
        self.kernel: Kernel = kernel
        self.mode: Mode = mode
        self.padding_mode: PaddingMode = padding_mode
        self._nodes: torch.Tensor | None = None

    def randomize(self, data: torch.Tensor) -> None:
        """Draw whether and how an image `(C, *S)` is deformed; only its number of axes is read."""
        super().randomize(None)
        if self._do_transform:
            dims = data.ndim - 1
            sigma = self.sigma if self.spacing is None else self._sigma_px(dims, self.spacing)
            self._nodes = draw_nodes(dims, self.grid, sigma=sigma, kernel=self.kernel, rng=self.R)

    def _sigma_px(self, dims: int, spacing: float | Sequence[float]) -> list[float]:
        """`sigma` along each axis, px, from the unit of the spacing."""
        pairs = zip(*(ensure_tuple_rep(x, dims) for x in (self.sigma, spacing)), strict=True)
        return [float(sigma) / float(size) for sigma, size in pairs]

    def nodes(self, spatial_dims: int) -> torch.Tensor:
        """The last draw's vectors, px `(d, *grid)`; zeros: no deformation.

        Raises:
            RuntimeError: nothing was drawn yet.
        """
        if not self._do_transform:
            return torch.zeros(spatial_dims, *node_grid(spatial_dims, self.grid, self.kernel))
        if self._nodes is None:
            raise no_draw()
        return self._nodes

    def displacement(self, img: torch.Tensor) -> torch.Tensor | None:
        """The last draw's field for an image `(C, *S)`, px `(d, *S)`; None: no deformation."""
        if not self._do_transform:
            return None
        nodes = self.nodes(img.ndim - 1).to(img.device)
        return interpolate_nodes(nodes, img.shape[1:], kernel=self.kernel)

    def apply(
        self, img: torch.Tensor, displacement: torch.Tensor | Field | None, mode: Mode
    ) -> torch.Tensor:
        """Warp an image `(C, *S)` and keep its metadata; None leaves it in place."""
        if mode != "nearest" and not img.is_floating_point():
            img = img.float()  # one dtype, deformed or not
        if displacement is None:
            return img
        batch = convert_to_tensor(img, track_meta=False).unsqueeze(0)
        out = warp(batch, displacement, mode=mode, padding_mode=self.padding_mode)
        return with_metadata_of(img, out[0])

    def __call__(self, img: AnyImage, randomize: bool = True) -> torch.Tensor:
        """Deform an image.

        Args:
            img: `(C, *S)`.
            randomize: draw anew; False repeats the last draw.

        Returns:
            As `img`; integers become float32 unless the mode is ``"nearest"``.
        """
        img = as_tensor(img)
        if randomize:
            self.randomize(img)
        return self.apply(img, self.displacement(img), self.mode)


class RandElasticDeformd(SharedRandomTransform):
    """Deform all keys by one draw of `RandElasticDeform`.

    Args:
        keys: images, labels, weight maps `(C, *S)`, all of one spatial shape.
        sigma: standard deviation of the vectors, px; one, or one an axis.
        grid: nodes along each axis, from edge to edge of the image.
        kernel: ``"bicubic"`` (the paper) or ``"bspline"``.
        mode: one, or one a key: ``"bilinear"``, ``"nearest"`` for labels, ``"bicubic"``.
        prob: of a deformation.
        padding_mode: ``"reflection"`` or ``"border"``.
        spacing: as in `RandElasticDeform`.
        allow_missing_keys: no error when a key is absent.
    """

    backend = RandElasticDeform.backend
    drawn: RandElasticDeform

    def __init__(
        self,
        keys: KeysCollection,
        sigma: float | Sequence[float] = 10.0,
        *,
        grid: int | Sequence[int] = 3,
        kernel: Kernel = "bicubic",
        mode: Mode | Sequence[Mode] = "bilinear",
        prob: float = 1.0,
        padding_mode: PaddingMode = "reflection",
        spacing: float | Sequence[float] | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        drawn = RandElasticDeform(
            sigma, grid, kernel=kernel, prob=prob, padding_mode=padding_mode, spacing=spacing
        )
        super().__init__(keys, drawn, allow_missing_keys)
        self.modes: tuple[Mode, ...] = ensure_tuple_rep(mode, len(self.keys))

    def __call__(self, data: Mapping[Hashable, Any], randomize: bool = True) -> dict[Hashable, Any]:
        """Deform every key.

        Args:
            data: dictionary with the keys.
            randomize: draw anew; False repeats the last draw.

        Raises:
            ValueError: spatial shapes differ.
        """
        d = dict(data)
        images = self.images_of_one_shape(d, ONE_SHAPE)
        if not images:
            return d
        image = next(iter(images.values()))
        if randomize:
            self.randomize(image)
        displacement = self.drawn.displacement(image)
        field = None if displacement is None else Field(displacement)
        for key, mode in self.key_iterator(d, self.modes):
            d[key] = self.drawn.apply(images[key], field, mode)
        return d


RandElasticDeformD = RandElasticDeformDict = RandElasticDeformd
