"""The one runner: whatever predicts with a bundle loads it here."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.data.meta_tensor import MetaTensor
from monai.transforms import EnsureChannelFirstd, LoadImaged, SaveImaged

from unet_med import planning
from unet_med.bundle import (
    find_ensemble,
    find_trained,
    find_weights,
    inference_parser,
    load_config,
    require_trust,
)
from unet_med.data.cases import files_in, files_of
from unet_med.data.class_names import names_of
from unet_med.data.digest import digest
from unet_med.data.grids import Grid
from unet_med.data.pixel_size import states_size
from unet_med.data.sources import DiskImage
from unet_med.devices import HOST
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.tiling import Tiling, tiling_of
from unet_med.memory import where_it_fits
from unet_med.networks import load_weights
from unet_med.segmentation.arrays import NAMELESS, from_array, from_source, require_one_image
from unet_med.segmentation.result import Segmentation
from unet_med.segmentation.switches import as_if_alone
from unet_med.transforms import Calibrate, Calibrated, InstancesFromLogits, InstancesFromLogitsd

SECONDS = "seconds"  # entry of an item: how long reading and predicting took
OUTPUTS = ("mask", "instances", "probabilities", "uncertainty", "seg", "rois")
LOADING = (LoadImaged, EnsureChannelFirstd)  # what a chain begins with, for files


def target_of(part: object) -> str:
    """What a config names a part by: `_target_`."""
    return f"{type(part).__module__}.{type(part).__qualname__}"


class Segmenter:
    """A trained bundle as a function of images.

    Network, inferer, pre- and postprocessing are those of the bundle's `inference.json`, built
    by MONAI's parser, so that the result is that of `python -m monai.bundle run` to the bit.
    Threads may share one: where each image has statistics of its own (`modern`), the network serves
    one at a time. An autocast around it, and MONAI's `set_track_meta(False)`, do not hold within.

    Args:
        bundle: folder of a trained bundle, or the name of a model that comes with the package.
        device: where the network runs; None: as the bundle says, a GPU where there is one.
        tta: test-time averaging: ``"bundle"`` as the bundle says, None for none, ``"flips"`` or
            ``"rotations"``.
        ensemble: predict with the networks of all folds, the mean of their logits.
        object_width: of a typical object, px, where images are of another magnification than those
            that the bundle learned from; None: as the bundle says.
        trust: run also what unet-med's own bundle does not name; see `unet-med inspect`.
        **ids: ids of `inference.json` with new values, any Python objects.

    Attributes:
        folder: the bundle.
        network: in evaluation, on its device.
        inferer: as the bundle has it.
        preprocessing: MONAI's `Compose`, as the bundle has it.
        class_values: of each class in masks; None: 0 to K-1.
        names: of the classes, the background first.
        unit: of `spacing`, that of the bundle's element size.
        orientation: into which the network's images are turned; None: into none.

    Raises:
        ValueError: it is no trained bundle, its weights do not fit, it names what unet-med's own
            bundle does not, or an id is none of its `inference.json`.

    Example::

        segment = Segmenter("my-bundle")  # or Segmenter("nuclei")
        result = segment("image.tif")
        result = segment(array, axes="ZYX", spacing=(2, 0.5, 0.5))
        result.instances, result.mask, result.probabilities
        result.save("results")
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        *,
        device: torch.device | str | None = None,
        tta: str | None = "bundle",
        ensemble: bool = False,
        object_width: float | None = None,
        trust: bool = False,
        **ids: Any,
    ) -> None:
        self.folder = find_trained(bundle)
        if not trust:
            require_trust(self.folder)
        ids |= find_ensemble(self.folder) if ensemble else {}
        if object_width is not None:
            ids["scale"] = planning.Source.of(self.folder, trust=True).scale_for(object_width)
        self.weights = Path(ids["checkpoint"]) if "checkpoint" in ids else find_weights(self.folder)
        if tta != "bundle":
            ids["tta"] = tta
        if device is not None:
            ids["device"] = torch.device(device)
        self._ids = {**ids, "checkpoint": self.weights}
        self._finishing: dict[tuple[str, ...], Sequence[Any]] = {}  # by outputs, nowhere to write
        parser = self._parser()
        self.device: torch.device = parser.get_parsed_content("device")
        self.network: torch.nn.Module = parser.get_parsed_content("network")
        load_weights(self.network, self.weights)
        self.network.eval()
        self.inferer = parser.get_parsed_content("inferer")
        if isinstance(self.inferer, OverlapTileInferer):
            self.inferer.progress = False
        self.preprocessing = parser.get_parsed_content("preprocessing")
        value = parser.get_parsed_content
        self.spatial_dims: int = value("spatial_dims")
        self.in_channels: int = value("in_channels")
        self.out_channels: int = value("out_channels")
        self.outputs: Sequence[str] = value("outputs")
        known = partial(value, default=None)  # a bundle of an earlier version may lack it
        self.class_values = known("class_values")
        given = known("class_names")
        self.names = names_of(self.class_values or range(self.out_channels), given)
        self.orientation: str | None = known("orientation")
        self.unit: str = known("element_unit") or "um"

    @property
    def dtype(self) -> torch.dtype:
        """Type of the network's weights."""
        return next(self.network.parameters()).dtype

    @property
    def choice(self) -> dict[str, Any]:
        """What the bundle's reader takes of files that hold several; see `open_source`."""
        reader = self._parser().get_parsed_content("reader", default=None)
        return dict(getattr(reader, "choice", {}))

    @property
    def tiling(self) -> Tiling:
        """Geometry of the network, px.

        Raises:
            ValueError: the bundle does not predict with an `OverlapTileInferer`.
        """
        inferer = self.inferer
        if not isinstance(inferer, OverlapTileInferer):
            raise ValueError(
                f"the inferer of inference.json is {target_of(inferer)}; only that of unet-med's "
                f"own bundle gives blocks that equal one pass, and knows what a network loses"
            )
        image = torch.empty([1] * (2 + self.spatial_dims))
        tiling = tiling_of(self.network, image, margin=inferer.margin, stride=inferer.stride)
        return tiling if tiling.padding else tiling.assume("same")  # MONAI's networks

    @property
    def rule(self) -> InstancesFromLogits | None:
        """How the bundle makes objects of probabilities, px of the network; None: it does not."""
        for step in self.postprocessing(["instances"]):
            if isinstance(step, InstancesFromLogitsd):
                return step.rule
        return None

    @property
    def calibration(self) -> Calibrate | None:
        """How the bundle calibrates the probabilities that it gives out; None: not at all."""
        for step in self.postprocessing(["probabilities"]):
            if isinstance(step, Calibrated):
                return step.rule
        return None

    def __call__(
        self,
        image: str
        | os.PathLike[str]
        | list[str]
        | tuple[str, ...]
        | DiskImage
        | torch.Tensor
        | np.ndarray,
        axes: str | None = None,
        spacing: float | Sequence[float] | None = None,
        orientation: str | None = None,
    ) -> Segmentation:
        """Segment an image.

        Args:
            image: a file or folder that the bundle's reader knows, or a list of files, each a
                channel; an opened volume
                (`unet_med.volumes.open_source`); a `MetaTensor` `(C, X, Y[, Z])`, whose affine
                is in the bundle's unit where its metadata name none; or an array or tensor of
                grey values as in the file.
            axes: of an array, letters of X, Y, Z and C, such as ``"ZYX"`` or ``"CYX"``; needed
                beyond two axes, of which two are ``"YX"``.
            spacing: pixel size of an array, one, or one a spatial axis in the order of `axes`,
                in micrometres, or in the unit of the bundle's element size; of a `MetaTensor`, in
                place of its affine.
            orientation: of an array, where its X, Y and Z end, in this order whatever that of
                `axes`, such as ``"LPS"`` of what SimpleITK reads; with `spacing`. A bundle with
                an `orientation` needs it of every array, and of a `MetaTensor` that neither
                states a place nor was read from a file.

        Returns:
            The result; what is not asked of it is not computed.

        Raises:
            TypeError: it is neither files nor an array of real numbers.
            ValueError: the image does not fit the network, or axes or spacing the array; or it is
                a batch; or the bundle has an orientation, and the array states none.
        """
        require_one_image(image)
        if isinstance(image, str | os.PathLike | list | tuple):
            item: Any = {"image": files_of(image)}
            axes = None
        elif isinstance(image, DiskImage):
            item, axes = {"image": from_source(image)}, None
        elif isinstance(image, MetaTensor) and spacing is None and orientation is None:
            if axes not in (None, own := "CXYZ"[: image.ndim]):
                raise ValueError(
                    f"axes {axes!r} are not those of a MetaTensor, {own}, to which its affine "
                    "refers: leave them out, or give a plain array and its spacing"
                )
            item, axes = {"image": self._with_directions(_in_memory(image))}, own
        else:
            plain: Any = image
            if isinstance(image, MetaTensor):
                plain, axes = image.as_tensor(), axes or "CXYZ"[: image.ndim]
            tensor, axes = from_array(plain, axes, spacing, self.unit, orientation)
            item = {"image": self._with_directions(tensor)}
        return Segmentation(self, self._segment(item), axes)

    def _with_directions(self, image: MetaTensor) -> MetaTensor:
        """An image in memory, if it says which way its axes run or need not.

        What was read from a file is taken as the file is, of which a line of the log tells.
        """
        of_file = str(image.meta["filename_or_obj"]) != NAMELESS
        if self.orientation is None or of_file or Grid.of_image(image, NAMELESS).oriented:
            return image
        raise ValueError(
            f"the bundle's images are turned to {self.orientation}, and an array does not say "
            'which way its axes run: say where its X, Y and Z end, such as orientation="LPS" (of a '
            'layer of napari: layer.metadata["unet_med_orientation"] = "LPS"), or give the file'
        )

    def values_of(self, classes: np.ndarray) -> np.ndarray:
        """Values that masks hold, of class numbers 0 to K-1."""
        if self.class_values is None:
            return classes
        return np.asarray(self.class_values)[classes]

    def finish(
        self,
        item: dict[str, Any],
        outputs: Sequence[str],
        folder: str | Path | None = None,
    ) -> dict[str, Any]:
        """Postprocess a prediction, as the bundle does.

        Args:
            item: `image`, and the logits as `pred`, both `(C, X, Y[, Z])`; they and what is made of
                them lie in main memory, and the device is borrowed.
            outputs: what is wanted, of `mask`, `instances`, `probabilities`, `uncertainty`, `seg`
                and `rois`.
            folder: where to write them; None: nowhere.

        Raises:
            ValueError: an output is unknown, or there are results of another image.
        """
        if unknown := set(outputs) - set(OUTPUTS):
            raise ValueError(f"output {min(unknown)!r} is none of {', '.join(OUTPUTS)}")
        if "uncertainty" in outputs:
            self.require_confidence()
        record = None if folder is None else self._record(folder)
        if record is not None:
            files = files_in(item["image"].meta)
            of_file = all(Path(file).exists() for file in files)
            array = None if of_file else digest(item["image"].numpy(force=True))
            record.refuse_others([files], array=array)
            record.claim([files], self.device, array)
        steps = self._steps(outputs, folder)
        if folder is None:
            steps = [step for step in steps if not isinstance(step, SaveImaged)]
        name = _name_of(item["image"])
        with as_if_alone(self.device):
            item = where_it_fits(
                partial(_finished, item, steps),
                self.device,
                f"{name} is postprocessed in main memory",
            )
        if record is not None:
            record.note(item["image"], self.device, item.get(SECONDS, 0.0))
        return item

    def require_confidence(self) -> None:
        """Refuse a bundle that does not say how sure it is.

        Raises:
            ValueError: an earlier version made it.
        """
        if "calibration" not in load_config(self.folder / "configs" / "inference.json"):
            raise ValueError(
                f"{self.folder} was made by an earlier version, and does not say how sure it is: "
                "train it anew, or take configs/inference.json of `unet-med init`"
            )

    def _record(self, folder: str | Path) -> Any:
        """What keeps the record of a folder of results; None: the bundle keeps none."""
        parser = self._parser(output_dir=Path(folder))
        found = parser.get_parsed_content("record", default=None)
        return found if hasattr(found, "note") else None

    def _steps(self, outputs: Sequence[str], folder: str | Path | None) -> Sequence[Any]:
        """The transforms of `finish`; those that write nothing are made once."""
        if folder is not None:
            return self.postprocessing(outputs, folder)
        if (wanted := tuple(outputs)) not in self._finishing:
            self._finishing[wanted] = self.postprocessing(outputs)
        return self._finishing[wanted]

    def postprocessing(
        self, outputs: Sequence[str], folder: str | Path | None = None
    ) -> Sequence[Any]:
        """The bundle's transforms of a prediction, those that the outputs take."""
        place = {} if folder is None else {"output_dir": Path(folder)}
        parser = self._parser(outputs=list(outputs), preprocessing=self.preprocessing, **place)
        return list(parser.get_parsed_content("postprocessing").transforms)

    def _segment(self, item: dict[str, Any]) -> dict[str, Any]:
        """The item after the network: the image, and its logits as `pred`."""
        started = time.perf_counter()
        loaded = not isinstance(item["image"], list)
        with as_if_alone(self.device):
            for transform in self.preprocessing.transforms:
                if not (loaded and isinstance(transform, LOADING)):
                    item = transform(item)
            image, logits = self._predicted(item["image"])
        seconds = round(time.perf_counter() - started, 3)
        return {**item, "image": image, "pred": logits, SECONDS: seconds}

    def _predicted(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """An image `(C, X, Y[, Z])` and its logits, in main memory: a GPU keeps no result."""

        def predict(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
            batch = image[None].to(device)
            with torch.no_grad():
                logits = self.inferer(batch, self.network)
            return batch[0].to(HOST), logits[0].to(HOST)

        if not isinstance(self.inferer, OverlapTileInferer):  # others run where the image lies
            return predict(self.device)
        instead = f"{_name_of(image)} stays in main memory, and the network where it is"
        return where_it_fits(predict, self.device, instead)

    def _parser(self, **more: Any) -> ConfigParser:
        return inference_parser(self.folder, {**self._ids, **more})


def _finished(item: dict[str, Any], steps: Sequence[Any], device: torch.device) -> dict[str, Any]:
    """An item after the steps of postprocessing, done on a device, in main memory."""
    item = {**item, **{key: item[key].to(device) for key in ("image", "pred")}}
    for step in steps:
        item = step(item)
    return {k: v.to(HOST) if isinstance(v, torch.Tensor) else v for k, v in item.items()}


def _name_of(image: torch.Tensor) -> str:
    """File of an image, for a warning."""
    return str(getattr(image, "meta", {}).get("filename_or_obj", NAMELESS))


def _in_memory(image: MetaTensor) -> MetaTensor:
    """An image that is no file's as 32-bit floats, with a name for its results.

    An affine that is stated (`source_of`) is its place, whatever the transforms make of it.
    """
    found: Any = image.to(torch.float32)
    if states_size(found.meta):
        found.meta = {"original_affine": found.affine.clone(), **found.meta}
    if "filename_or_obj" not in found.meta:
        found.meta = {**found.meta, "filename_or_obj": NAMELESS}
    return cast(MetaTensor, found)
