"""What cohorts bring, whole and block by block: the same result and line, or a refusal by both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from test_volumes import make_bundle

from unet_med.cli import main
from unet_med.data import load_image, save_image

zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")

RNG = np.random.default_rng(0)
PLANE = RNG.gamma(2.0, 20.0, (48, 40)).astype(np.uint8)  # Y, X; few bright pixels
STACK = RNG.gamma(2.0, 20.0, (3, 48, 40)).astype(np.uint8)
KNOWN = {
    "unit": "um", "pixel_size": [[0.5, 0.5], [0.5, 0.5]], "orientations": [],
    "skews": [[0.2, 0.6], [0.2, 0.6]],
}  # fmt: skip


def tiff(path: Path, array: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, array, **options)
    return path


def imagej(path: Path, array: np.ndarray, axes: str, size: float = 0.5) -> Path:
    metadata = {"axes": axes, "unit": "um"}
    return tiff(path, array, imagej=True, resolution=(1 / size, 1 / size), metadata=metadata)


def two_images(path: Path) -> Path:
    with tifffile.TiffWriter(path) as tif:
        tif.write(PLANE[:24, :24])
        tif.write(PLANE)
    return path


def cut_short(path: Path) -> Path:
    tiff(path, PLANE, rowsperstrip=8)
    path.write_bytes(path.read_bytes()[:1200])
    return path


def wrong_checksum(path: Path) -> Path:
    noise = RNG.integers(0, 4000, (48, 40, 64)).astype(np.int16)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + bytes([content[-8] ^ 1]) + content[-7:])
    return path


def no_size(path: Path) -> Path:
    nib.save(nib.Nifti1Image(STACK.T, None), path)
    content = bytearray(path.read_bytes())
    content[80:84] = bytes(4)
    path.write_bytes(bytes(content))
    return path


def with_nan(path: Path) -> Path:
    pixels = PLANE.astype(np.float32)
    pixels[20, 20] = np.nan
    return tiff(path, pixels)


class Case(NamedTuple):
    """An input.

    Attributes:
        write: writes it under a path.
        name: of its file.
        options: of the command line.
        bundle: ids of its `inference.json`.
        said: in the refusal, or in the line on the image; None: nothing is said.
        refused: both ways.
    """

    write: Callable[[Path], Path]
    name: str = "a #1.tif"
    options: tuple[str, ...] = ()
    bundle: dict[str, Any] = {}  # noqa: RUF012 - never changed
    said: str | None = None
    refused: bool = False


CASES = {
    "pages that are channels": Case(
        lambda p: tiff(p, STACK[:2]), options=("--axes", "CYX"), bundle={"in_channels": 2}
    ),
    "a movie": Case(lambda p: imagej(p, STACK, "TYX"), options=("--time", "1")),
    "a movie, of no time": Case(
        lambda p: imagej(p, STACK, "TYX"), said="take one of T with --time 0", refused=True
    ),
    "a channel": Case(lambda p: imagej(p, STACK[:2], "CYX"), options=("--channel", "1")),
    "the second image": Case(two_images, options=("--series", "1")),
    "a pixel size that is told": Case(
        lambda p: tiff(p, PLANE),
        options=("--pixel-size", "0.5"),
        bundle={"element_size": 1.0, "element_unit": "um"},
    ),
    "axes as the bundle was trained": Case(
        lambda p: imagej(p, STACK, "TYX"),
        bundle={"reader": {"_target_": "unet_med.data.AutoReader", "axes": "ZYX"}},
        said="its 3 planes go through the 2-D network slice by slice: each is an image",
    ),
    "values of classes": Case(
        lambda p: tiff(p, PLANE), "$a::b.tif", bundle={"class_values": [0, 2, 4]}
    ),
    "a stack": Case(
        lambda p: imagej(p, STACK, "ZYX"),
        "%a@.tif",
        said="its 3 planes go through the 2-D network slice by slice: objects go through",
    ),
    "a stack of images": Case(
        lambda p: imagej(p, STACK, "ZYX"),
        options=("--planes", "apart"),
        said="slice by slice: each is an image with objects of its own",
    ),
    "larger pixels": Case(
        lambda p: imagej(p, PLANE, "YX", size=2.0),
        said="its pixels are 2 x 2 um, the training's 0.5 x 0.5 um",
    ),
    "inverted": Case(lambda p: tiff(p, 255 - PLANE), said="most of its pixels are bright, and of"),
    "a hot pixel": Case(
        lambda p: tiff(p, PLANE + np.uint16(65000) * (np.indices(PLANE.shape).sum(0) == 0)),
        said="a few of its pixels, far brighter or darker than all others, rule its contrast",
    ),
    "grey saved in colours": Case(lambda p: tiff(p, np.stack([PLANE] * 3, -1), photometric="rgb")),
    "constant": Case(lambda p: tiff(p, np.full((48, 40), 9, np.uint8)), said="all its pixels are"),
    "cut short": Case(cut_short, said="a #1.tif", refused=True),
    "a wrong checksum": Case(wrong_checksum, "a.nii.gz", said="it is damaged, copy", refused=True),
    "a pixel size of 0": Case(
        no_size,
        "a.nii",
        bundle={"element_size": 1.0, "element_unit": "mm"},
        said="the pixel size is unknown",
        refused=True,
    ),
    "NaN": Case(with_nan, said="NaN or infinite pixels", refused=True),
    "other channels": Case(
        lambda p: imagej(p, STACK, "CYX"), said="has 3 channels", refused=True
    ),
    "a plane for a 3-D network": Case(
        lambda p: tiff(p, PLANE),
        bundle={"spatial_dims": 3, "features": [2, 4]},
        said="the network takes",
        refused=True,
    ),
}  # fmt: skip


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [r.getMessage() for r in caplog.records if r.name.startswith("unet_med.transforms.")]
    caplog.clear()
    return found


@pytest.mark.parametrize("name", CASES)
def test_the_same_both_ways(
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = CASES[name]
    bundle = make_bundle(tmp_path / "b", trained_on=KNOWN, **case.bundle)
    image = case.write(tmp_path / case.name)
    stem = case.name.split(".")[0]
    common = ["predict", str(image), "--bundle", str(bundle), *case.options]
    codes, said, masks = [], [], []
    for output, result in (
        (tmp_path / "whole", tmp_path / f"whole/{stem}_mask.tif"),
        (tmp_path / "blocks.ome.zarr", tmp_path / "blocks.ome.zarr"),
    ):
        more = ["--workers", "1"] if output.suffix else []
        codes.append(main([*common, "--device", "cpu", "--output", str(output), *more]))
        error = capsys.readouterr().err.strip().splitlines()
        said.append(error[-1:] if case.refused else lines(caplog))
        masks += [] if case.refused else [load_image(result).numpy()]
        assert "Traceback" not in "".join(error)
    assert codes == [2 if case.refused else 0] * 2
    for found in said:
        assert len(found) == (case.said is not None)
        assert all(str(case.said) in line for line in found)
        assert case.refused or found == said[0]
    for mask in masks:
        np.testing.assert_array_equal(mask, masks[0])
    assert case.refused or len(np.unique(masks[0])) > 1 or name == "constant"


@pytest.mark.parametrize("more", [[], ["--instances"]])
def test_scores_that_are_no_numbers_are_refused_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """Weights of a training that diverged; a mask of background would pass for a result."""
    bundle = make_bundle(tmp_path / "b")
    weights = torch.load(bundle / "models/model.pt", weights_only=True)
    weights[next(name for name in weights if name.endswith("bias"))][:] = torch.nan
    torch.save(weights, bundle / "models/model.pt")
    words = ["predict", str(tiff(tmp_path / "a.tif", PLANE)), "--bundle", str(bundle), *more]
    reason = (
        "the scores hold NaN: so do the network's weights, or it overflowed in 16 bits; look at "
        "its training, or predict in float32"
    )
    assert main([*words, "--device", "cpu", "--output", str(tmp_path / "whole")]) == 2
    assert capsys.readouterr().err.strip().endswith(f"error: {reason}")
    blocks = ["--output", str(tmp_path / "blocks.ome.zarr"), "--workers", "1"]
    assert main([*words, "--device", "cpu", *blocks]) == 2
    assert f"blocks failed, the others are done: 0.0 ({reason})" in capsys.readouterr().err


def test_a_zarr_that_states_a_size_of_0(tmp_path: Path, capsys: Any) -> None:
    bundle = make_bundle(tmp_path / "b", element_size=1.0, element_unit="um")
    source = save_image(tmp_path / "a.ome.zarr", PLANE.T, affine=np.eye(4), spatial_unit="um")
    text = json.loads((source / "zarr.json").read_text())
    (scale,) = text["attributes"]["ome"]["multiscales"][0]["datasets"][0][
        "coordinateTransformations"
    ]
    scale["scale"][-1] = 0.0
    (source / "zarr.json").write_text(json.dumps(text))
    words = ["predict", str(source), "--bundle", str(bundle), "--device", "cpu", "--workers", "1"]
    assert main([*words, "--output", str(tmp_path / "out.ome.zarr")]) == 2
    assert "the pixel size is unknown" in capsys.readouterr().err
    words += ["--pixel-size", "0.5", "--output", str(tmp_path / "told.ome.zarr")]
    assert main(words) == 0
    assert main([*words[:-4], "--time", "1", "--output", str(tmp_path / "more.ome.zarr")]) == 2
    assert "--time 1 is for TIFF files, and a.ome.zarr is none" in capsys.readouterr().err


def test_a_result_of_another_source_is_not_replaced(tmp_path: Path, capsys: Any) -> None:
    bundle = make_bundle(tmp_path / "b")
    sources = [tiff(tmp_path / name, PLANE + k) for k, name in enumerate(("a.tif", "b.tif"))]
    output = tmp_path / "out.ome.zarr"
    words = ["--bundle", str(bundle), "--device", "cpu", "--output", str(output)]
    assert main(["predict", str(sources[0]), *words]) == 0
    before = load_image(output).numpy()
    for more, said in (([], "exists: go on with --resume"), (["--resume"], "the source changed")):
        assert main(["predict", str(sources[1]), *words, *more]) == 2
        assert said in capsys.readouterr().err
    np.testing.assert_array_equal(load_image(output).numpy(), before)
