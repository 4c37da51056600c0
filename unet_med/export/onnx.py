"""ONNX, for any runtime, with image sides and batch left open."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unet_med.data.atomic import atomic_write
from unet_med.export.trained import load_trained

TOLERANCE = 1e-4  # of the largest logit, between torch and onnxruntime


def export_onnx(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
) -> Path:
    """Write the network of a trained bundle, and compare it with torch in onnxruntime.

    Args:
        bundle: folder of a trained bundle.
        path: file to write; None: `models/model.onnx` of the bundle.
        trust: run also what unet-med's own bundle does not name.

    Returns:
        The file. Its input `image` `(B, C, X, Y[, Z])`, standardised, with sides that the network
        takes, gives `logits`.

    Raises:
        ImportError: onnxruntime or torch's ONNX exporter is not installed.
        ValueError: it is no trained bundle, or the exported network computes something else.
    """
    trained = load_trained(bundle, trust=trust)
    path = trained.folder / "models" / "model.onnx" if path is None else Path(path)
    axes = trained.tiling.axes
    images = [trained.example(trained.sides(steps), seed=steps) for steps in (3, 2, 5)]
    write_onnx(
        trained.network,
        images,
        path,
        stride=[axis.stride for axis in axes],
        offset=[axis.smallest % axis.stride for axis in axes],
        output="logits",
        rules={
            "stride": trained.tiling.stride,
            "margin": trained.tiling.margin,
            "smallest": trained.tiling.smallest,
            "padding": trained.tiling.padding,
        },
    )
    return path


def write_onnx(
    module: nn.Module,
    images: list[Tensor],
    path: Path,
    *,
    stride: Sequence[int],
    offset: Sequence[int],
    output: str,
    rules: Mapping[str, Any],
) -> None:
    """Write a module as ONNX with open sides `stride * k + offset`, checked in onnxruntime.

    Args:
        module: in evaluation; maps `(B, C, *S)` to `(B, K, *S')`.
        images: inputs; the first is exported with, all are compared.
        path: file to write.
        stride: step of the sides, px, one an axis.
        offset: smallest legal remainder of the sides, px, one an axis.
        output: name of the output; the input is `image`.
        rules: what a consumer must know to tile, kept as JSON in the file's metadata.

    Raises:
        ImportError: onnxruntime or torch's ONNX exporter is not installed.
        ValueError: the results differ by more than 1e-4 of the largest value.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError:
        raise ImportError("ONNX needs more packages: pip install 'unet-med[export]'") from None
    with atomic_write(path) as beside:
        _export(module, images[0], beside, stride=stride, offset=offset, output=output)
        _keep_rules(beside, rules)
        session = onnxruntime.InferenceSession(
            beside.read_bytes(), providers=["CPUExecutionProvider"]
        )
        for image in images:
            _compare(module, session, image)


def _keep_rules(path: Path, rules: Mapping[str, Any]) -> None:
    """Write rules into the metadata of an ONNX file."""
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in rules.items()})
    onnx.save(model, path)


def _export(
    module: nn.Module,
    image: Tensor,
    path: Path,
    *,
    stride: Sequence[int],
    offset: Sequence[int],
    output: str,
) -> None:
    dynamic = torch.export.Dim
    axes: dict[int, Any] = {0: dynamic.DYNAMIC}
    for axis, (step, first) in enumerate(zip(stride, offset, strict=True), start=2):
        steps = dynamic(f"k{axis}", min=1)
        axes[axis] = steps if step == 1 else step * steps + first if first else step * steps
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            module,
            (image,),
            str(path),
            dynamo=True,
            dynamic_shapes=(axes,),
            input_names=["image"],
            output_names=[output],
            external_data=False,  # one file
        )


def _compare(module: nn.Module, session: Any, image: Tensor) -> None:
    with torch.no_grad():
        expected = module(image)
    found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    error = float((found - expected).abs().max() / expected.abs().max())
    if not error <= TOLERANCE:
        raise ValueError(
            f"onnxruntime differs from torch by {error:.1e} of the largest value, more than "
            f"{TOLERANCE:g}: try other versions of torch and onnxscript"
        )
