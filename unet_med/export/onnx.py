"""ONNX, for any runtime, with image sides and batch left open."""

from __future__ import annotations

import contextlib
import io
import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unet_med.data.atomic import atomic_write
from unet_med.export.card import CARD, card_of
from unet_med.export.graphs import TOLERANCE, Graph, beside, disagreement, graphs_of
from unet_med.export.trained import by_image, load_trained
from unet_med.geometry import PerAxis


def export_onnx(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
    statistics: str | None = None,
) -> Path:
    """Write the network of a trained bundle, and compare it with torch in onnxruntime.

    Args:
        bundle: folder of a trained bundle.
        path: file to write; None: `models/model.onnx` of the bundle.
        trust: run also what unet-med's own bundle does not name.
        statistics: of batch normalisation: `"image"`, `"training"`, or None as the bundle has it.

    Returns:
        The file. Its input `image` `(B, C, X, Y[, Z])`, standardised, with sides that the network
        takes, gives `logits`. Where batch normalisation has the statistics of each image, its
        further inputs are `mean` and `variance`, which the file `NAME.statistics.onnx` finds.

    Raises:
        ImportError: onnxruntime or torch's ONNX exporter is not installed.
        ValueError: it is no trained bundle, or the exported network computes something else.
    """
    trained = load_trained(bundle, trust=trust)
    path = trained.file("model.onnx", path)
    own = by_image(trained, statistics)
    card = card_of(trained, by_image=own)
    for part, graph in graphs_of(trained, by_image=own).items():
        write_onnx(
            graph,
            beside(path, part),
            stride=trained.tiling.stride,
            smallest=trained.tiling.smallest,
            card=card,
        )
    return path


def write_onnx(
    graph: Graph, path: Path, *, stride: PerAxis, smallest: PerAxis, card: Mapping[str, Any]
) -> None:
    """Write a graph as ONNX with open batch and sides, checked in onnxruntime.

    Args:
        graph: what the file computes.
        path: file to write.
        stride: step of the sides, px.
        smallest: side, px.
        card: what the file says of itself, in its metadata.

    Raises:
        ImportError: onnxruntime or torch's ONNX exporter is not installed.
        ValueError: the results differ by more than 1e-4 of the largest value.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 - torch.onnx needs it
    except ImportError:
        raise ImportError("ONNX needs more packages: pip install 'unet-med[export]'") from None
    with atomic_write(path) as unseen:
        _export(graph, unseen, stride=stride, smallest=smallest, card=json.dumps(card))
        session = onnxruntime.InferenceSession(
            unseen.read_bytes(), providers=["CPUExecutionProvider"]
        )
        for case in graph.cases:
            _compare(graph, session, case)


def _export(graph: Graph, path: Path, *, stride: PerAxis, smallest: PerAxis, card: str) -> None:
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        torch.no_grad(),
    ):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            graph.module,
            graph.cases[0],
            dynamo=True,
            dynamic_shapes=graph.open_sides(stride=stride, smallest=smallest),
            input_names=graph.inputs,
            output_names=graph.outputs,
        )
    assert program is not None  # torch gives one where it is not told a file
    program.model.metadata_props[CARD] = card
    program.save(str(path), external_data=False)  # one file


def _compare(graph: Graph, session: Any, case: tuple[Tensor, ...]) -> None:
    given = {name: tensor.numpy() for name, tensor in zip(graph.inputs, case, strict=True)}
    found = [torch.from_numpy(output) for output in session.run(None, given)]
    error = disagreement(found, graph.expected(case))
    if not error <= TOLERANCE:
        raise ValueError(
            f"onnxruntime differs from torch by {error:.1e} of the largest value, more than "
            f"{TOLERANCE:g}: try other versions of torch and onnxscript"
        )
