"""A bundle's network as a function of blocks, loaded once a process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Activationsd, AsDiscreted, CopyItemsd, Invertd, LoadImaged, SaveImaged
from torch import Tensor, nn

from unet_med.bundle import find_weights
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.batch_statistics import BatchNorm, batch_norms
from unet_med.inferers.region import Read, image_statistics, region_logits
from unet_med.inferers.tiling import Tiling, tiling_of
from unet_med.networks import load_weights
from unet_med.transforms import CheckPaird, InstancesFromLogits, InstancesFromLogitsd, Standardized
from unet_med.volumes.blocks import Block
from unet_med.volumes.sources import Source

__all__ = ["Model", "Statistics", "load_model"]

Statistics = Mapping[str, np.ndarray]
"""What was found out about the whole source, by name, one row a plane or one for all.

`mean` and `std` `(planes, C)` where the network wants standardised input; for each layer k of
batch normalisation that looks at the image, its statistics as `norm.k.NAME`.
"""

_POSTPROCESSING = (
    Activationsd,
    CopyItemsd,
    Invertd,  # of the preprocessing, in which nothing is left to invert
    AsDiscreted,
    InstancesFromLogitsd,
    SaveImaged,
)


@dataclass(frozen=True)
class Model:
    """Network and all that its bundle says about using it.

    Attributes:
        network: in evaluation, on its device.
        inferer: border, test-time averaging, whose statistics.
        tiling: geometry of the network.
        in_channels: of the image.
        out_channels: classes.
        standardize: whether the network wants zero mean and unit deviation.
        instances: how the bundle makes instances of a prediction.
        layers: of batch normalisation that take the statistics of the image at hand.
    """

    network: nn.Module
    inferer: OverlapTileInferer
    tiling: Tiling
    in_channels: int
    out_channels: int
    standardize: bool
    instances: InstancesFromLogits
    layers: Sequence[BatchNorm]

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights."""
        return next(self.network.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def by_plane(self, source: Source) -> bool:
        """Whether the planes of a volume are images of their own."""
        return self.tiling.spatial_dims == 2 and len(source.shape) == 3

    def probabilities(
        self, source: Source, block: Block, statistics: Statistics, tile: Sequence[int]
    ) -> np.ndarray:
        """Class probabilities of a block, as one pass over the whole gives them.

        Args:
            source: the whole image.
            block: the part.
            statistics: of `look` over the whole image.
            tile: largest input sides of the network, px, in the order `([Z,] Y, X)`.

        Returns:
            `(K, [Z,] Y, X)`, in the network's type.

        Raises:
            ValueError: the image holds NaN or infinite pixels.
        """
        if not self.by_plane(source):
            logits = self._logits(source, None, block.slices, statistics, tile)
            return _to_file(torch.softmax(logits[0], dim=0))
        planes, *rest = block.slices
        # Statistics of its own make each plane a network of its own.
        step = 1 if self.layers else planes.stop - planes.start
        groups = [slice(z, z + step) for z in range(planes.start, planes.stop, step)]
        logits = torch.cat([self._logits(source, g, rest, statistics, tile) for g in groups])
        return _to_file(torch.softmax(logits, dim=1).movedim(0, -1))  # (K, X, Y, Z)

    def _logits(
        self,
        source: Source,
        planes: slice | None,
        window: Sequence[slice],
        statistics: Statistics,
        tile: Sequence[int],
    ) -> Tensor:
        """`(B, K, X, Y[, Z])`, a row a plane."""
        if self.layers:
            self._adopt(statistics, planes.start if planes else 0)
        with torch.inference_mode():
            return region_logits(
                self.reader(source, planes, statistics),
                source.shape[::-1][: len(window)],
                tuple((side.start, side.stop) for side in window[::-1]),
                self.network,
                inferer=self.inferer,
                tiling=self.tiling,
                tile=list(tile)[::-1],
            )

    def _adopt(self, statistics: Statistics, row: int) -> None:
        """Give the layers of batch normalisation what they found in an image."""
        for k, layer in enumerate(self.layers):
            for name, buffer in layer.named_buffers():
                buffer.copy_(torch.as_tensor(statistics[f"norm.{k}.{name}"][row]))

    def look(self, source: Source, planes: slice | None, statistics: Statistics) -> Statistics:
        """Statistics of batch normalisation of one image: `norm.k.NAME` with one row."""
        found = image_statistics(
            self.reader(source, planes, statistics),
            source.shape[::-1][: self.tiling.spatial_dims],
            self.network,
            self.layers,
            inferer=self.inferer,
            tiling=self.tiling,
        )
        return {
            f"norm.{k}.{name}": buffer.cpu().numpy()[None]
            for k, layer in enumerate(found)
            for name, buffer in layer.items()
        }

    def reader(self, source: Source, planes: slice | None, statistics: Statistics) -> Read:
        """Pixels as the network wants them, by box `(X, Y[, Z])` of an image.

        Args:
            source: the whole image.
            planes: those of a volume that are images of their own; None: the source is one.
            statistics: its mean and deviation, if the network wants them.
        """

        def read(box: Sequence[tuple[int, int]]) -> Tensor:
            window = [slice(*side) for side in box[::-1]]
            pixels = source.read([planes, *window] if planes else window)  # (C, [Z,] Y, X)
            if not np.isfinite(pixels).all():
                raise ValueError(f"{source.path} holds NaN or infinite pixels in {window}")
            image = torch.from_numpy(np.ascontiguousarray(_native(pixels)))
            image = image.to(self.device).to(self.dtype)
            if self.standardize:
                image = (image - self._row(statistics["mean"], planes, image.ndim)) / self._row(
                    statistics["std"], planes, image.ndim
                )
            image = image.permute(0, *range(image.ndim - 1, 0, -1))  # (C, X, Y[, Z])
            return image.movedim(-1, 0) if planes else image[None]  # (B, C, X, Y[, Z])

        return read

    def _row(self, values: np.ndarray, planes: slice | None, dims: int) -> Tensor:
        """A number a channel and plane, `(planes, C)`, as `(C, planes, 1, 1)` or `(C, 1, ...)`."""
        rows = torch.from_numpy(values[planes or slice(0, 1)]).to(self.device, self.dtype)
        return rows.T.reshape(rows.shape[1], rows.shape[0], *[1] * (dims - 2))


def load_model(
    folder: Path, settings: Mapping[str, Any] | None = None, device: str = "cpu"
) -> Model:
    """Network of a trained bundle, refused where blocks could not equal one pass.

    Args:
        folder: the bundle.
        settings: ids of its `inference.json` to override.
        device: where the network runs.

    Raises:
        ValueError: the bundle has no weights that fit; or a transform, the inferer or the network
            looks at the whole image in a way
            that blocks cannot follow.
    """
    parser = _parser(folder, settings or {}, device)
    _check_inferer(inferer := parser.get_parsed_content("inferer"))
    network = parser.get_parsed_content("network")
    load_weights(network, weights_of(folder, settings or {}))
    network.to(device).eval()
    in_channels = int(parser.get_parsed_content("in_channels"))
    tiling = _facts(network, inferer)
    return Model(
        network=network,
        inferer=inferer,
        tiling=tiling,
        in_channels=in_channels,
        out_channels=int(parser.get_parsed_content("out_channels")),
        standardize=_standardizes(parser, tiling),
        instances=_instances(parser),
        layers=batch_norms(network) if inferer.statistics == "image" else [],
    )


def weights_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """File of a bundle's weights, unless the settings name another."""
    return Path(settings["checkpoint"]) if "checkpoint" in settings else find_weights(folder)


def _parser(folder: Path, settings: Mapping[str, Any], device: str) -> Any:
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / "configs" / "metadata.json")
    parser.update({"bundle_root": str(folder), "device": f"$torch.device('{device}')", **settings})
    parser.update({"outputs": ["mask", "instances"]})  # the rules of instances are always read
    return parser


def _check_inferer(inferer: Any) -> None:
    if not isinstance(inferer, OverlapTileInferer):
        raise ValueError(
            f"the bundle's inferer is {type(inferer).__name__}; only OverlapTileInferer gives "
            f"blocks that equal one pass"
        )


def _facts(network: nn.Module, inferer: OverlapTileInferer) -> Tiling:
    tiling = tiling_of(network, torch.empty(()), margin=inferer.margin, stride=inferer.stride)
    if tiling.whole_image_layer:
        raise ValueError(
            f"{tiling.whole_image_layer} computes statistics over the whole image, so blocks "
            f"cannot equal one pass; use a network with batch normalisation, or with none"
        )
    return tiling if tiling.padding else tiling.assume("same")


def _standardizes(parser: Any, tiling: Tiling) -> bool:
    """Whether the bundle standardises; refuses preprocessing that needs the whole image."""
    found = False
    for transform in parser.get_parsed_content("preprocessing").transforms:
        if isinstance(transform, Standardized):
            if (transform.transform.spatial_dims or 3) != tiling.spatial_dims:
                raise ValueError("the bundle standardises over other axes than its network's")
            found = True
        elif not isinstance(transform, (LoadImaged, CheckPaird)):
            raise ValueError(
                f"the bundle's preprocessing has {type(transform).__name__}, which is not known to "
                f"work block by block; apply it to the source beforehand"
            )
    return found


def _instances(parser: Any) -> InstancesFromLogits:
    """The bundle's step from probabilities to instances; refuses what is not known."""
    steps = parser.get_parsed_content("postprocessing").transforms
    for step in steps:
        if not isinstance(step, _POSTPROCESSING):
            raise ValueError(
                f"the bundle's postprocessing has {type(step).__name__}, which is not known to "
                f"work block by block; take it out of inference.json and apply it to the result"
            )
    wrapped = (getattr(step, "transform", None) for step in steps)
    rules = (transform for transform in wrapped if isinstance(transform, InstancesFromLogits))
    return next(rules, InstancesFromLogits())


def _native(pixels: np.ndarray) -> np.ndarray:
    """In a type that torch knows: native byte order, no unsigned integers above 8 bits."""
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize > 1:
        wider = {2: np.int32, 4: np.int64, 8: np.float64}
        return pixels.astype(wider[pixels.dtype.itemsize])
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _to_file(values: Tensor) -> np.ndarray:
    """`(K, X, Y[, Z])` to `(K, [Z,] Y, X)`."""
    return np.ascontiguousarray(values.permute(0, *range(values.ndim - 1, 0, -1)).cpu().numpy())
