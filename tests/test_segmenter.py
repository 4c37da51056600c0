"""Three lines of Python: what MONAI gives with the same bundle, whole or block by block."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from monai.data import (
    MetaTensor,
    decollate_batch,
    get_track_meta,
    list_data_collate,
    set_track_meta,
)
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform
from test_volumes import make_bundle, write_source

from unet_med import Segmenter, bundle
from unet_med.cli import main
from unet_med.data import load_image, save_image
from unet_med.napari_widget import segment_steps
from unet_med.napari_widget.layers import image_layers
from unet_med.segmentation.switches import as_if_alone
from unet_med.volumes import BlockJob, open_source, run_blocks
from unet_med.volumes.job_actions import finish

OUTPUTS = ("mask", "instances", "probabilities")
CT = {"low": 700.0, "high": 1200.0, "mean": 950.0, "std": 150.0}
SEEDS = {"threshold": 0.6, "mask_threshold": 0.5, "reach": 2}
PIXEL = {"element_size": [0.4, 0.35], "element_unit": "um"}


def blobs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise, of which networks make objects of many pixels, in 16 bits."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(rng.normal(size=shape), 1.2)
    return (1000 + 900 * noise / np.abs(noise).max()).astype(np.uint16)


def with_rules(folder: Path, **rules: Any) -> Path:
    """The bundle with ids of its own, or arguments of its step to instances."""
    path = folder / "configs" / "inference.json"
    config = json.loads(path.read_text())
    for name, value in rules.items():
        (config if name in config else config["finish"]["instances"])[name] = value
    path.write_text(json.dumps(config))
    return folder


def with_foreground(folder: Path, image: Any, share: float = 0.3, **options: Any) -> Path:
    """The bundle with a last bias that leaves a share of an image to the foreground."""
    scores = Segmenter(folder)(image, **options).probabilities
    if least := json.loads((folder / "configs/inference.json").read_text())["threshold"]:
        ahead = np.log((1 - scores[0]) / scores[0]) - np.log(least / (1 - least))
    else:
        ahead = np.log(scores[1:].max(0) / scores[0])
    weights = folder / "models" / "model.pt"
    state = torch.load(weights, weights_only=True)
    state[[*state][-1]][0] += float(np.quantile(ahead, 1 - share))
    torch.save(state, weights)
    return folder


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for planes with all that can be chosen: pixel size, averaging, statistics, rules."""
    choices = {"preset": "modern", "tta": "flips", "statistics": "image", "min_size": 4, "grow": 1}
    folder = make_bundle(tmp_path_factory.mktemp("planes") / "bundle", **choices, **PIXEL)
    pixels = blobs(np.random.default_rng(3), (61, 53))
    return with_foreground(with_rules(folder, **SEEDS), pixels, spacing=(0.3, 0.25))


def by_monai(folder: Path, image: Path, output: Path) -> dict[str, np.ndarray]:
    """Results of MONAI's own workflow, as read back from its files, `(X, Y[, Z])`."""
    settings = {"images": [str(image)], "output_dir": str(output), "outputs": list(OUTPUTS)}
    bundle.load_workflow(folder, "inference", settings).run()
    stem = image.name.split(".")[0]
    files = {name: next(output.glob(f"{stem}_{name}.*")) for name in OUTPUTS}
    found = {name: load_image(path).numpy() for name, path in files.items()}
    return {name: x if name == "probabilities" else x[0] for name, x in found.items()}


@pytest.fixture(scope="module")
def expected(
    planes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, np.ndarray]]:
    """A TIFF of a plane, and what MONAI's workflow makes of it."""
    folder = tmp_path_factory.mktemp("expected")
    pixels = blobs(np.random.default_rng(3), (61, 53))  # (X, Y)
    path = save_image(folder / "cells.tif", pixels[None], np.diag([0.25, 0.3, 1, 1]), "um")
    return path, by_monai(planes, path, folder / "results")


@pytest.mark.parametrize("door", ["path", "source", "tensor", "YX", "CYX", "YXC", "XY"])
def test_every_door_gives_what_monai_gives_to_the_bit(
    planes: Path, expected: tuple[Path, dict[str, np.ndarray]], door: str
) -> None:
    path, want = expected
    image = load_image(path)  # (1, X, Y)
    pixels = image.numpy()[0].astype(np.uint16)
    spacing: Any = {"XY": (0.25, 0.3)}.get(door, (0.3, 0.25))
    segment = Segmenter(planes, device="cpu")
    if door == "path":
        result = segment(path)
    elif door == "source":
        result = segment(open_source(path))
    elif door == "tensor":
        result = segment(image)
    else:
        array = {"XY": pixels, "YX": pixels.T, "CYX": pixels.T[None], "YXC": pixels.T[..., None]}
        result = segment(array[door], axes=None if door == "YX" else door, spacing=spacing)
    plain = door in ("tensor", "XY")
    assert result.axes == ("XY" if plain else "YX")
    assert want["instances"].max() > 3
    for name in ("mask", "instances"):
        found = getattr(result, name)
        np.testing.assert_array_equal(found if plain else found.T, want[name])
    order = {"YXC": (2, 1, 0)}.get(door, (0, 1, 2) if plain else (0, 2, 1))
    np.testing.assert_array_equal(result.probabilities.transpose(order), want["probabilities"])


def test_a_volume_in_the_callers_axes(tmp_path: Path, rng: np.random.Generator) -> None:
    folder = make_bundle(tmp_path / "bundle", spatial_dims=3, in_channels=2)
    array = rng.normal(size=(2, 9, 20, 17)).astype(np.float32)  # (C, X, Y, Z)
    segment = Segmenter(folder)
    result = segment(np.moveaxis(array, 0, -1).transpose(2, 1, 0, 3), axes="ZYXC")
    other = segment(MetaTensor(array))
    assert result.axes == "ZYX"
    assert result.mask.shape == (17, 20, 9)
    assert result.probabilities.shape == (17, 20, 9, 3)
    np.testing.assert_array_equal(result.mask.T, other.mask)
    np.testing.assert_array_equal(result.probabilities.T, other.probabilities.transpose(0, 1, 2, 3))
    assert other.mask.max() > 0


def test_it_writes_what_predict_writes(
    planes: Path,
    expected: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, _ = expected
    Segmenter(planes)(path).save(tmp_path / "a", outputs=OUTPUTS)
    words = ["--bundle", planes, "--output", tmp_path / "b", "--instances", "--probabilities"]
    assert main(["predict", str(path), *map(str, words)]) == 0
    names = [f"cells_{name}.tif" for name in OUTPUTS]
    assert {f.name for f in (tmp_path / "a").iterdir()} == {*names, "record.json"}
    ours, theirs = (json.loads((tmp_path / f / "record.json").read_text()) for f in "ab")
    for key in ("weights", "settings", "images", "device"):
        assert ours[key] == theirs[key]
    assert ours["seconds"] > 0
    assert main(["predict", str(path), *map(str, words), "--resume"]) == 0
    words[3] = tmp_path / "a"
    assert main(["predict", str(path), *map(str, words), "--resume"]) == 0
    assert capsys.readouterr().out.count("no image was left to do") == 2
    other = path.with_name("other") / path.name
    save_image(other, np.eye(40, dtype=np.uint8), np.diag([0.3, 0.3, 1.0, 1.0]))
    with pytest.raises(ValueError, match="would replace them: give another output folder"):
        Segmenter(planes)(other).save(tmp_path / "a")
    for name in names:
        ours, theirs = (load_image(tmp_path / folder / name) for folder in "ab")
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(ours.affine, theirs.affine)
    found = Segmenter(planes)(np.zeros((40, 40)), spacing=0.3)
    own = tmp_path / "c" / "image_mask.tif"
    save_image(own, np.eye(40, dtype=np.uint8)[None])
    with pytest.raises(ValueError, match=r"holds image_mask.tif, which no prediction recorded"):
        found.save(own.parent)
    own.unlink()
    found.save(own.parent, outputs=["mask"])
    found.save(own.parent)
    names = {"image_mask.tif", "image_instances.tif", "record.json"}
    assert {f.name for f in own.parent.iterdir()} == names
    written = own.read_bytes()
    for segmenter, array in (  # of another array, and by other settings
        (Segmenter(planes), np.eye(40)),
        (Segmenter(planes, threshold=0.9), np.zeros((40, 40))),
    ):
        with pytest.raises(ValueError, match=r"holds image_\w+.tif of another image, or made by"):
            segmenter(array, spacing=0.3).save(own.parent)
    assert own.read_bytes() == written
    Segmenter(planes)(np.zeros((40, 40)), spacing=0.3).save(own.parent)  # a script runs again
    assert own.read_bytes() == written
    assert {f.name for f in own.parent.iterdir()} == names  # nothing was kept aside
    save_image(tmp_path / "image.tif", np.eye(40, dtype=np.uint8)[None], np.eye(4))
    with pytest.raises(ValueError, match=r"holds image_\w+.tif of another image, or made by"):
        Segmenter(planes)(tmp_path / "image.tif").save(own.parent)


def test_an_array_takes_no_place_of_a_file(tmp_path: Path, planes: Path) -> None:
    save_image(tmp_path / "image.tif", np.eye(40, dtype=np.uint8)[None], np.diag([0.3, 0.3, 1, 1]))
    Segmenter(planes)(tmp_path / "image.tif").save(tmp_path / "results")
    written = (tmp_path / "results/image_mask.tif").read_bytes()
    with pytest.raises(ValueError, match=r"holds image_\w+.tif of another image, or made by"):
        Segmenter(planes)(np.eye(40)[::-1].copy(), spacing=0.3).save(tmp_path / "results")
    assert (tmp_path / "results/image_mask.tif").read_bytes() == written


def test_what_is_not_asked_for_is_not_computed(
    planes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    from unet_med.transforms import InstancesFromLogits

    rule = InstancesFromLogits.__call__
    monkeypatch.setattr(
        InstancesFromLogits, "__call__", lambda self, x: called.append("rule") or rule(self, x)
    )
    result = Segmenter(planes)(np.random.default_rng(0).normal(size=(40, 44)), spacing=0.3)
    assert result.mask.shape == result.probabilities.shape[1:]
    assert called == []
    assert result.instances is result.instances
    assert called == ["rule"]


def test_what_two_properties_need_is_computed_once(
    planes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[list[str]] = []
    finish_one = Segmenter.finish
    monkeypatch.setattr(
        Segmenter, "finish", lambda self, *args: finished.append(args[1]) or finish_one(self, *args)
    )
    result = Segmenter(planes)(np.random.default_rng(0).normal(size=(40, 44)), spacing=0.3)
    assert len(result.ratios) == result.probabilities.ndim - 1 == 2
    assert result.mask.shape == (40, 44)
    assert result.confidence is None or 0 <= result.confidence <= 1
    assert sorted(finished) == [["mask"], ["probabilities"]]


def test_choices_of_the_call(planes: Path, expected: tuple[Path, Any]) -> None:
    path, _ = expected
    plain = Segmenter(planes, tta=None)
    assert plain.inferer.tta is None
    assert Segmenter(planes).inferer.tta == "flips"
    assert Segmenter(planes, tta="rotations").inferer.tta == "rotations"
    assert np.abs(plain(path).probabilities - Segmenter(planes)(path).probabilities).max() > 1e-4
    assert Segmenter(planes, min_size=10**6)(path).instances.max() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r'an array of 3 axes could be a volume or several channels: say which, .* axes="ZYX"'),
        ({"axes": "TYX"}, "axes 'TYX' do not name the 3 axes"),
        ({"axes": "YX"}, "axes 'YX' do not name the 3 axes"),
        ({"axes": "ZYX", "spacing": (1, 2)}, r"spacing \(1, 2\) is not one positive size for each"),
        ({"axes": "CYX", "spacing": -1}, "spacing -1 is not one positive size"),
        ({"axes": "CYX", "spacing": 1}, "has 3 channels .*, the network takes 1"),
        ({"axes": "ZYX"}, "the pixel size is unknown"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(planes: Path, options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Segmenter(planes)(np.arange(2700.0).reshape(3, 30, 30), **options)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        ([np.zeros((30, 30))], TypeError, "a list of ndarray is no image: give a file, a list of"),
        ([], TypeError, "a list of nothing is no image"),
        (b"image.tif", TypeError, "bytes of .* is no image"),
        (io.BytesIO(), TypeError, "BytesIO of object is no image"),
        ((x for x in "ab"), TypeError, "generator of object is no image"),
        ({"image": "image.tif"}, TypeError, "dict of object is no image"),
        (None, TypeError, "NoneType of object is no image"),
        (np.zeros((30, 30), complex), TypeError, "ndarray of complex128 is no image"),
        (torch.zeros(30, 30, dtype=torch.complex64), TypeError, "Tensor of torch.complex64 is no"),
        (np.zeros((0, 30)), ValueError, r"an array of shape \(0, 30\) has no pixels"),
        (np.zeros(30), ValueError, "an array of 1 axes is no image"),
        (
            list_data_collate([MetaTensor(torch.zeros(1, 30, 30))] * 2),
            ValueError,
            "a batch of 2, where one image is expected: give them one by one",
        ),
    ],
)
def test_what_is_no_image_is_refused(
    planes: Path, image: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Segmenter(planes)(image)


def test_an_item_of_a_batch_is_an_image(planes: Path) -> None:
    image = MetaTensor(torch.rand(1, 30, 34), affine=torch.eye(4) * 0.3)
    segment = Segmenter(planes)
    want = segment(image, spacing=0.3).probabilities
    batch = list_data_collate([{"image": image}] * 2)
    for item in decollate_batch(batch):
        np.testing.assert_array_equal(segment(item["image"], spacing=0.3).probabilities, want)


@contextmanager
def untracked() -> Iterator[None]:
    """As MONAI's guide to fast trainings has it."""
    set_track_meta(False)
    try:
        yield
    finally:
        assert not get_track_meta()
        set_track_meta(True)


@pytest.mark.parametrize(
    "switch", [untracked, partial(torch.autocast, "cpu", torch.bfloat16), torch.inference_mode]
)
def test_what_a_training_has_switched_does_not_matter(
    planes: Path, expected: tuple[Path, Any], switch: Any
) -> None:
    path, want = expected
    segment = Segmenter(planes, device="cpu")
    with switch():
        for image in (path, open_source(path)):
            result = segment(image)
            np.testing.assert_array_equal(result.instances.T, want["instances"])
            found = result.probabilities.transpose(0, 2, 1)
            np.testing.assert_array_equal(found, want["probabilities"])


def test_threads_that_segment_as_if_alone_leave_the_switches_as_they_were() -> None:
    first, second = (as_if_alone(torch.device("cpu")) for _ in range(2))
    with untracked():
        with ExitStack() as both:
            with first:
                both.enter_context(second)
            assert get_track_meta()  # the second is not done
        assert not get_track_meta()


def test_a_misspelt_id_is_refused(planes: Path) -> None:
    with pytest.raises(ValueError, match="no config has an id min_sise; did you mean min_size"):
        Segmenter(planes, min_sise=3)


def test_every_door_asks_for_trust(tmp_path: Path) -> None:
    from unet_med.export import load_trained
    from unet_med.napari_widget import segment_array
    from unet_med.workflows import UNetInferWorkflow

    folder = make_bundle(tmp_path / "bundle", network="$@network_def.to(@device).double()")
    doors = {
        "segmenter": lambda **kw: Segmenter(folder, **kw),
        "export": lambda **kw: load_trained(folder, **kw),
        "napari": lambda **kw: segment_array(np.zeros((1, 9, 9)), folder, **kw),
        "workflow": lambda **kw: UNetInferWorkflow(folder, **kw),
        "blocks": lambda **kw: BlockJob.create(
            write_source(tmp_path / f"{len(kw)}.ome.zarr", np.zeros((20, 20), np.uint8)),
            tmp_path / f"out{len(kw)}.ome.zarr", folder, **kw,
        ),
        "MONAI": lambda trust=False: bundle.load_workflow(
            folder, "inference", {"images": []}, trust=trust
        ),
    }  # fmt: skip
    for name, door in doors.items():
        with pytest.raises(ValueError, match="names what unet-med's own bundle does not"):
            door()
        if name not in ("napari", "MONAI"):  # of which the one wants float32, the other images
            door(trust=True)


# --- block by block ---------------------------------------------------------------------


def in_blocks(folder: Path, image: Path, output: Path, block: Any) -> dict[str, np.ndarray]:
    """Results block by block, `(X, Y[, Z])`."""
    import zarr

    job = BlockJob.create(image, output, folder, block=block, outputs=OUTPUTS)
    run_blocks(job, progress=False)
    finish(job)
    assert len(job.blocks) > 3
    found = {
        name: np.asarray(zarr.open_array(output / f"labels/{name}/0", mode="r")[:]).T
        for name in OUTPUTS[:2]
    }
    scores = np.asarray(zarr.open_array(output / "0", mode="r")[:])
    found["probabilities"] = np.moveaxis(scores.T, -1, 0)
    return found


def check(found: dict[str, np.ndarray], whole: dict[str, np.ndarray]) -> None:
    """The same labels, numbers included; probabilities to rounding."""
    assert whole["instances"].max() > 5
    spread = np.abs(found["probabilities"] - whole["probabilities"]).max()
    assert spread <= 5e-5 * whole["probabilities"].std()
    np.testing.assert_array_equal(found["mask"], whole["mask"])
    np.testing.assert_array_equal(found["instances"], whole["instances"])


@pytest.mark.parametrize("kind", ["tif", "ome.zarr"])
def test_a_plane_by_blocks_is_the_whole_plane(
    planes: Path, tmp_path: Path, rng: np.random.Generator, kind: str
) -> None:
    image = tmp_path / f"in.{kind}"
    save_image(image, blobs(rng, (97, 83))[None], np.diag([0.25, 0.3, 1, 1]), "um")
    whole = by_monai(planes, image, tmp_path / "whole")
    check(in_blocks(planes, image, tmp_path / "out.ome.zarr", (24, 30)), whole)


@pytest.mark.parametrize(
    ("choices", "rules"),
    [
        ({"element_size": [0.3, 0.2, 0.45], "element_unit": "um"}, {"threshold": 0.4}),
        ({"element_size": [0.3, 0.2, 0.45], "element_unit": "um"}, {"connectivity": 3}),
        ({"scale": [0.8, 0.7, 1.0], "intensity": [CT]}, {"connectivity": 2}),
        ({"scale": [0.4, 0.5, 1.0]}, {**SEEDS, "grow": [1, 2, 1]}),  # along each axis by itself
        ({"element_size": [0.3, 0.2, 0.45], "element_unit": "um"}, SEEDS),
        ({}, {"threshold": 0.6, "connectivity": 2}),
    ],
)
def test_a_volume_by_blocks_is_the_whole_volume(
    tmp_path: Path, rng: np.random.Generator, choices: Any, rules: Any
) -> None:
    folder = make_bundle(
        tmp_path / "bundle", spatial_dims=3, preset="modern", min_size=3, grow=1, **choices
    )
    image = write_source(tmp_path / "in.ome.zarr", blobs(rng, (14, 34, 40)))
    with_foreground(with_rules(folder, **rules), image, 0.15)
    whole = by_monai(folder, image, tmp_path / "whole")
    check(in_blocks(folder, image, tmp_path / "out.ome.zarr", (8, 16, 16)), whole)


def test_planes_of_a_volume_by_blocks(
    planes: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    image = write_source(tmp_path / "in.ome.zarr", blobs(rng, (5, 44, 52)))
    whole = by_monai(planes, image, tmp_path / "whole")
    check(in_blocks(planes, image, tmp_path / "out.ome.zarr", (2, 20, 16)), whole)


def returned(steps: Generator[Any, None, Any]) -> Any:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_an_array_says_which_way_its_axes_run(planes: Path, tmp_path: Path) -> None:
    """Where it matters; a `MetaTensor` of the identity says nothing, and is no file's."""
    plain, oriented = Segmenter(planes), Segmenter(planes, orientation="RAS")
    pixels = blobs(np.random.default_rng(3), (31, 27))
    want = plain(pixels, spacing=(0.3, 0.25)).mask
    match = (
        r"turned to RAS, and an array does not say .* orientation=\"LPS\" .*unet_med_orientation"
    )
    for image in (pixels, torch.from_numpy(pixels.astype(np.int32)), MetaTensor(pixels[None])):
        with pytest.raises(ValueError, match=match):
            oriented(image, spacing=(0.3, 0.25))
    with pytest.raises(ValueError, match=match):
        oriented(MetaTensor(pixels[None].astype(np.float32)))
    with pytest.raises(ValueError, match="'RAS' is stated with the pixel size: give spacing"):
        oriented(pixels, orientation="RAS")
    with pytest.raises(ValueError, match="orientation 'XYZ' is not one letter of each"):
        oriented(pixels, spacing=0.3, orientation="XYZ")
    found = oriented(pixels, spacing=(0.3, 0.25), orientation="RAS").mask
    np.testing.assert_array_equal(found, want)
    path = save_image(tmp_path / "plane.tif", pixels.T[None], np.diag([0.25, 0.3, 1, 1]), "um")
    as_predict = oriented(path).mask.T  # which takes a file as it is
    np.testing.assert_array_equal(oriented(load_image(path)).mask, as_predict)
    mirrored = oriented(pixels[:, ::-1], spacing=(0.3, 0.25), orientation="LAS").mask
    np.testing.assert_array_equal(mirrored[:, ::-1], want)


@pytest.mark.parametrize(
    ("turn", "dims", "resampled"),
    [("LPS", 2, False), ("SAL", 2, True), ("PIR", 3, False), ("IRP", 3, True)],
)
def test_a_turned_volume_by_blocks_is_the_whole_volume(
    tmp_path: Path, rng: np.random.Generator, turn: str, dims: int, resampled: bool
) -> None:
    choices: dict[str, Any] = {"orientation": "RAS", "min_size": 0, "grow": 0, "spatial_dims": dims}
    choices |= {"threshold": 0.6, "mask_threshold": 0.45, "reach": 2}  # within the network's planes
    if resampled:
        choices |= {"element_size": [0.3, 0.2, 0.45][:dims], "element_unit": "mm"}
    folder = make_bundle(tmp_path / "bundle", preset="modern", **choices)
    pixels, affine = blobs(rng, (34, 40, 14)), np.diag([0.25, 0.25, 0.5, 1])  # RAS
    there = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(turn))
    turned = apply_orientation(pixels, there).astype(np.int16)
    image = tmp_path / "in.nii"
    nibabel.save(nibabel.Nifti1Image(turned, affine @ inv_ornt_aff(there, pixels.shape)), image)
    with_foreground(folder, image, 0.15)
    whole = by_monai(folder, image, tmp_path / "whole")
    back = ornt_transform(axcodes2ornt(turn), axcodes2ornt("RAS"))
    straight = tmp_path / "straight.nii"
    nibabel.save(nibabel.Nifti1Image(pixels.astype(np.int16), affine), straight)
    segment = Segmenter(folder)
    loaded = load_image(image)
    by_hand = MetaTensor(turned[None].astype(np.float32), affine=loaded.affine)
    for door in (open_source(image), loaded, by_hand):
        np.testing.assert_array_equal(segment(door).mask, whole["mask"])
    sizes = np.linalg.norm(loaded.affine[:3, :3], axis=0)
    array = segment(turned.T, axes="ZYX", spacing=sizes[::-1], orientation=turn)
    np.testing.assert_array_equal(array.mask.T, whole["mask"])
    ((data, meta, _),) = image_layers(loaded, "volume")
    steps = segment_steps(SimpleNamespace(data=data, rgb=0, multiscale=0, **meta), folder, "mask")
    np.testing.assert_array_equal(returned(steps)[0].T, whole["mask"])
    found = segment(straight)
    for name, want in (("mask", found.mask > 0), ("instances", found.instances > 0)):
        np.testing.assert_array_equal(apply_orientation(whole[name], back) > 0, want)
    block = [{14: 6, 34: 18, 40: 14}[side] for side in turned.shape[::-1]]
    check(in_blocks(folder, image, tmp_path / "out.ome.zarr", block), whole)


def test_predict_decides_by_kind_and_size(
    planes: Path,
    expected: tuple[Path, dict[str, np.ndarray]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path, want = expected
    small = load_image(path).numpy()
    twin = save_image(tmp_path / "twin.ome.zarr", small, np.diag([0.25, 0.3, 1, 1]), "um")
    words = ["predict", path, twin, "--bundle", planes, "--output", tmp_path / "out"]
    words += ["--instances", "--workers", 1]
    assert main([*map(str, words)]) == 0  # a TIFF that fits, whole; an OME-Zarr in blocks
    files = {f.name for f in (tmp_path / "out").iterdir()} - {"record.json"}
    stores = {"twin_mask.ome.zarr", "twin_mask.ome.zarr.job"}
    assert files == {"cells_mask.tif", "cells_instances.tif"} | stores
    monkeypatch.setattr("unet_med.memory.available_bytes", lambda: 61 * 53 * 32)
    words = ["predict", path, "--bundle", planes, "--output", tmp_path / "large", "--instances"]
    assert main([*map(str, words), "--workers", "1"]) == 0
    for name in ("mask", "instances"):
        found = load_image(tmp_path / "large" / f"cells_{name}.tif").numpy()[0]
        np.testing.assert_array_equal(found, want[name])


# --- in memory

VOLUME = (24, 16, 24)  # (X, Y, Z)


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle for volumes that works at 1.5 mm."""
    size = {"element_size": [1.5], "element_unit": "mm", "spatial_dims": 3, "preset": "modern"}
    folder = make_bundle(tmp_path_factory.mktemp("volumes") / "bundle", **size)
    pixels = blobs(np.random.default_rng(5), VOLUME).astype(np.int16)
    return with_foreground(folder, pixels, axes="XYZ", spacing=(3, 2.5, 3))


def test_a_volume_in_memory_gives_what_its_file_gives(volumes: Path, tmp_path: Path) -> None:
    import nibabel
    from monai.transforms import LoadImage

    from unet_med.napari_widget import segment_array

    pixels = blobs(np.random.default_rng(5), VOLUME).astype(np.int16)
    affine = np.diag([3.0, 2.5, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(pixels, affine), tmp_path / "volume.nii.gz")
    segment = Segmenter(volumes, device="cpu")
    want = segment(tmp_path / "volume.nii.gz")
    assert len(np.unique(want.mask)) > 1
    theirs = LoadImage(reader="NibabelReader", ensure_channel_first=True, image_only=True)
    zyx = np.ascontiguousarray(pixels.transpose(2, 1, 0))
    doors: dict[str, Any] = {
        "loaded by us": segment(load_image(tmp_path / "volume.nii.gz")).mask,
        "loaded by MONAI": segment(theirs(tmp_path / "volume.nii.gz")).mask,
        "a MetaTensor": segment(MetaTensor(pixels[None], affine=torch.from_numpy(affine))).mask,
        "a MetaTensor with another affine": segment(
            MetaTensor(pixels[None], affine=torch.eye(4)), spacing=(3, 2.5, 3)
        ).mask,
        "an array": segment(pixels, axes="XYZ", spacing=(3, 2.5, 3)).mask,
        "an array in the order of TIFF": segment(zyx, axes="ZYX", spacing=(3, 2.5, 3)).mask.T,
        "a tensor": segment(torch.from_numpy(pixels), axes="XYZ", spacing=(3, 2.5, 3)).mask,
        "napari's": segment_array(pixels[None], volumes, "mask", spacing=(3000, 2500, 3000)),
    }
    for door, mask in doors.items():
        np.testing.assert_array_equal(np.squeeze(mask), want.mask, err_msg=door)
    with pytest.raises(ValueError, match="axes 'CZYX' are not those of a MetaTensor, CXYZ"):
        segment(MetaTensor(pixels[None]), axes="CZYX")
    with pytest.raises(ValueError, match="the pixel size is unknown"):
        segment(MetaTensor(pixels[None], affine=torch.eye(4)))
    known = MetaTensor(pixels[None], affine=torch.eye(4), meta={"spatial_unit": "mm"})
    segment(known).save(tmp_path / "out", ["mask"])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"image_mask.tif", "record.json"}


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_two_hundred_images_in_memory_leave_nothing(planes: Path) -> None:
    """Neither memory nor files: the arrays of a case are 0.3 MB, of all 60 MB."""
    segment = Segmenter(planes, device="cpu", tta=None)
    opened: list[Any] = []
    watching = [False]

    def watch(event: str, args: Any) -> None:
        if watching[0] and event == "open" and not str(args[0]).startswith(("/proc/", "/sys/")):
            opened.append(args[0])

    sys.addaudithook(watch)

    def used() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6  # MB

    pixels = blobs(np.random.default_rng(7), (96, 96))
    first = segment(pixels, spacing=PIXEL["element_size"][::-1]).mask
    for k in range(200):
        if k == 20:
            before, watching[0] = used(), True
        result = segment(np.roll(pixels, k, axis=0), spacing=PIXEL["element_size"][::-1])
        assert result.mask.shape == result.instances.shape == pixels.shape
        assert result.probabilities.shape[1:] == pixels.shape
    watching[0] = False
    assert opened == []
    assert used() - before < 15
    np.testing.assert_array_equal(segment(pixels, spacing=PIXEL["element_size"][::-1]).mask, first)
