"""A BioImage Model Zoo package: what ilastik, deepImageJ, QuPath and bioimageio.core read."""

from __future__ import annotations

import keyword
import os
import re
import tempfile
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_med.data import SyntheticCells
from unet_med.data.atomic import atomic_write
from unet_med.export.card import card_of
from unet_med.export.graphs import Graph
from unet_med.export.onnx import write_onnx
from unet_med.export.trained import TrainedBundle, load_trained, refuse_statistics
from unet_med.export.wrapper import MirrorPadded
from unet_med.geometry import alike, per_axis

LICENCE = "Apache-2.0"  # of the bundle
PAPER_DOI = "10.1007/978-3-319-24574-4_28"
PAPER = "Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation"

Array = NDArray[np.float32]


def export_bioimageio(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
    statistics: str | None = None,
) -> Path:
    """Write a trained bundle as a package of the BioImage Model Zoo, format 0.5.

    The model takes raw images, standardises them as the bundle does, and gives class
    probabilities of the image's size, see `MirrorPadded`. It declares the halo with which a
    consumer's blocks equal one pass over the whole image.

    Args:
        bundle: folder of a trained bundle.
        path: zip file to write; None: `models/model.bioimageio.zip` of the bundle.
        trust: run also what unet-med's own bundle does not name.
        statistics: of batch normalisation: `"training"`, or None as the bundle has it.

    Returns:
        The file: TorchScript and ONNX weights, test tensors, cover picture, documentation.

    Raises:
        ImportError: bioimageio.spec is not installed.
        ValueError: it is no trained bundle, its statistics are those of each image, it clips
            several channels, or the package does not pass the format's checks.
    """
    try:
        from bioimageio.spec import save_bioimageio_package
    except ImportError:
        raise ImportError(
            "a BioImage Model Zoo package needs bioimageio.spec: pip install 'unet-med[export]'"
        ) from None
    trained = load_trained(bundle, trust=trust)
    refuse_statistics(trained, statistics, "BioImage Model Zoo")
    _scale(trained), _names(trained, "outputs", "pred")  # refused before work begins
    path = trained.file("model.bioimageio.zip", path)
    with tempfile.TemporaryDirectory() as scratch, atomic_write(path) as unseen:
        folder = Path(scratch)
        model = MirrorPadded(trained.network, trained.tiling).eval()
        write_parts(folder, trained, model)
        description = _describe(folder, trained, model)
        save_bioimageio_package(description, output_path=unseen)
    return path


def block_sides(model: MirrorPadded) -> list[int]:
    """Smallest sides of a block, `([Z,] Y, X)`, px: its halo, and four strides that stay."""
    halos, strides = by_axis(model)
    return [2 * halo + 4 * stride for halo, stride in zip(halos, strides, strict=True)]


def by_axis(model: MirrorPadded) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Halo and stride of each axis of an image, `([Z,] Y, X)`, px."""
    dims = len(model.reversed) - 2
    halo, stride = (per_axis("px", px, dims)[::-1] for px in (model.halo, model.stride))
    return halo, stride


def write_parts(folder: Path, trained: TrainedBundle, model: MirrorPadded) -> None:
    """Write weights, test tensors, cover and documentation of a package."""
    sides, (_, strides) = block_sides(model), by_axis(model)
    dims = len(sides)
    test = SyntheticCells(1, sides[::-1], seed=0)[0]["image"].numpy().astype(np.float32)
    axes = (0, *range(dims, 0, -1))
    image = np.repeat(test.transpose(axes), trained.in_channels, axis=0)[None]  # (1, C, [Z,] Y, X)
    standard = trained.standardize(torch.from_numpy(image[0]))[None]
    with torch.no_grad():
        output = model(standard).numpy()
    np.save(folder / "test_input.npy", image)
    np.save(folder / "test_output.npy", output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Java readers know nothing newer
        torch.jit.script(model).save(str(folder / "model.ts"))
    images = [standard, *(_narrower(standard, k * strides[-1]) for k in (1, 2))]
    write_onnx(
        Graph(model, [(image,) for image in images], outputs=("probabilities",)),
        folder / "model.onnx",
        stride=strides,
        smallest=strides,
        card=card_of(trained, by_image=False)
        | {
            "image": "standardised (B, C, [Z,] Y, X)",
            "sides": {"smallest": strides, "step": strides, "lost_per_side": 0},
        },
    )
    _write_cover(folder / "cover.png", image[0, 0], output[0, 1])
    (folder / "README.md").write_text(_documentation(trained, model), encoding="utf-8")


def _narrower(image: torch.Tensor, px: int) -> torch.Tensor:
    """Noise of an image's shape, so many pixels less along its last axis."""
    return torch.randn_like(image)[..., : image.shape[-1] - px]


def _write_cover(path: Path, image: Array, probability: Array) -> None:
    """Input and result side by side, of a volume the middle plane."""
    from matplotlib.image import imsave

    planes = [a[len(a) // 2] if a.ndim == 3 else a for a in (image, probability)]
    low, high = planes[0].min(), planes[0].max()
    imsave(path, np.hstack([(planes[0] - low) / max(high - low, 1), planes[1]]), cmap="gray")


def _documentation(trained: TrainedBundle, model: MirrorPadded) -> str:
    halos, strides = by_axis(model)
    step, around = (in_px(alike(px)) for px in (strides, halos))
    return f"""# {trained.metadata["name"]}

{trained.metadata["description"]}

Input: a raw image; the package says how it is standardised. Output: the
probability of each class, of the input's size. {trained.left_behind()}

## Blocks

Sides are multiples of {step}. Blocks that overlap by the declared halo of {around}
equal one pass over the whole image{_at_the_border(trained)}. A last block that is shifted back
to end with the image does so only where it begins at a multiple of {step}.

## Validation

Not validated beyond the images that it was trained on: compare its results with annotations of your
own before use, for example with `unet-med evaluate RESULTS TRUTH`.
"""


def in_px(sides: int | tuple[int, ...]) -> str:
    """One side, or one an axis of a file, for a sentence.

    >>> in_px(16), in_px((4, 16, 16))
    ('16 px', '4 x 16 x 16 px (Z x Y x X)')
    """
    if isinstance(sides, int):
        return f"{sides} px"
    axes = "ZYX"[-len(sides) :]
    return f"{' x '.join(map(str, sides))} px ({' x '.join(axes)})"


def _at_the_border(trained: TrainedBundle) -> str:
    if trained.tiling.padding == "valid":
        return "; at its border too where the consumer mirrors as the package says (`reflect`)"
    return ", but at its border, where the network expects zeros and consumers mirror"


def _describe(folder: Path, trained: TrainedBundle, model: MirrorPadded) -> Any:
    """The package's `ModelDescr`, checked."""
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.common import FileDescr
    from bioimageio.spec.model import v0_5

    metadata = trained.metadata
    with ValidationContext(root=folder):
        inputs, outputs = _tensors(folder, trained, model)
        return v0_5.ModelDescr(
            name=metadata["name"],
            version=v0_5.Version(metadata["version"]),
            description=metadata["description"],
            authors=[v0_5.Author(name=metadata["authors"])],
            cite=[v0_5.CiteEntry(text=PAPER, doi=v0_5.Doi(PAPER_DOI))],
            license=v0_5.LicenseId(LICENCE),
            tags=["unet", "segmentation", f"{trained.tiling.spatial_dims}d", "monai"],
            documentation=FileDescr(source=folder / "README.md"),
            covers=[FileDescr(source=folder / "cover.png")],
            inputs=inputs,
            outputs=outputs,
            weights=v0_5.WeightsDescr(
                torchscript=v0_5.TorchscriptWeightsDescr(
                    source=folder / "model.ts",
                    pytorch_version=v0_5.Version(torch.__version__.split("+")[0]),
                ),
                onnx=v0_5.OnnxWeightsDescr(
                    source=folder / "model.onnx",
                    opset_version=_opset(folder / "model.onnx"),
                    parent="torchscript",
                ),
            ),
        )


def _opset(path: Path) -> int:
    import onnx

    return int(onnx.load(path).opset_import[0].version)


def _tensors(folder: Path, trained: TrainedBundle, model: MirrorPadded) -> tuple[Any, Any]:
    """Descriptions of the input and the output."""
    from bioimageio.spec.common import FileDescr
    from bioimageio.spec.model import v0_5

    axes = [v0_5.AxisId(name) for name in "zyx"[-trained.tiling.spatial_dims :]]
    halos, strides = by_axis(model)
    sizes = [
        v0_5.ParameterizedSize(min=side, step=step)
        for side, step in zip(block_sides(model), strides, strict=True)
    ]
    image = v0_5.InputTensorDescr(
        id=v0_5.TensorId("image"),
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=_names(trained, "inputs", "image")),
            *(
                v0_5.SpaceInputAxis(id=axis, size=size)
                for axis, size in zip(axes, sizes, strict=True)
            ),
        ],
        test_tensor=FileDescr(source=folder / "test_input.npy"),
        pad=v0_5.ReflectPadding(mode="reflect"),  # spelled out, or it is not written
        preprocessing=_preprocessing(trained, axes),
    )
    probabilities = v0_5.OutputTensorDescr(
        id=v0_5.TensorId("probabilities"),
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=_names(trained, "outputs", "pred")),
            *(
                v0_5.SpaceOutputAxisWithHalo(
                    id=axis,
                    size=v0_5.SizeReference(tensor_id=image.id, axis_id=axis),
                    halo=halo,
                )
                for axis, halo in zip(axes, halos, strict=True)
            ),
        ],
        test_tensor=FileDescr(source=folder / "test_output.npy"),
    )
    return [image], [probabilities]


def _preprocessing(trained: TrainedBundle, axes: list[Any]) -> list[Any]:
    """What a consumer makes of intensities: the bundle's scale, or each image by itself."""
    from bioimageio.spec.model import v0_5

    if not (scale := _scale(trained)):
        kwargs = v0_5.ZeroMeanUnitVarianceKwargs(axes=axes)  # every channel by itself
        return [v0_5.ZeroMeanUnitVarianceDescr(kwargs=kwargs)]
    low, high, mean, std = (scale[name] for name in ("low", "high", "mean", "std"))
    fixed = v0_5.FixedZeroMeanUnitVarianceKwargs(mean=mean, std=std)
    return [
        v0_5.ClipDescr(kwargs=v0_5.ClipKwargs(min=low, max=high)),
        v0_5.FixedZeroMeanUnitVarianceDescr(kwargs=fixed),
    ]


def _scale(trained: TrainedBundle) -> Mapping[str, float] | None:
    """The one scale of the bundle's images; None: each image has its own."""
    scales = trained.standardize.intensity
    if any(scales) and len(scales) > 1:
        raise ValueError(
            f"a package cannot clip each of {len(scales)} channels to a range of its own: "
            "export with --format onnx or torchscript"
        )
    scale = scales[0] if scales else None
    if isinstance(scale, str):
        raise ValueError(
            "a package cannot clip each image to a range of its own, as the bundle does against "
            "hot pixels (`intensity` in its plan): export with --format onnx or torchscript"
        )
    return scale


def _names(trained: TrainedBundle, part: str, tensor: str) -> list[Any]:
    """Names of the channels as `metadata.json` has them, in letters that the format allows."""
    from bioimageio.spec.model.v0_5 import Identifier

    channels = trained.metadata["network_data_format"][part][tensor]["channel_def"]
    names = identifiers([channels[str(k)] for k in range(len(channels))])
    return [Identifier(name) for name in names]


def identifiers(names: Sequence[str]) -> list[str]:
    """Names as Python's identifiers, which are all that the format takes; no two alike.

    >>> identifiers(["background", "left-kidney", "left kidney", "2nd molar", "class", "-"])
    ['background', 'left_kidney', 'left_kidney_2', '_2nd_molar', 'class_', '_']
    """
    found: list[str] = []
    for name in names:
        plain = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", name)).strip("_") or "_"
        plain = plain if plain.isidentifier() else f"_{plain}"
        plain += "_" * keyword.iskeyword(plain)
        numbered = (f"{plain}_{k}" for k in count(2))
        found.append(next(each for each in chain([plain], numbered) if each not in found))
    return found
