"""Two files share a grid, can be turned onto it, or are refused with what differs."""

from __future__ import annotations

import re
from itertools import permutations
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from nibabel.orientations import apply_orientation, inv_ornt_aff

from unet_med import data
from unet_med.cli import main
from unet_med.data.grids import Grid, no_turn, turn_onto
from unet_med.planning import fingerprint
from unet_med.transforms import ReorientToMatchd

AFFINE = np.array([[-0.7, 0, 0, 40.5], [0, 0.69, -0.411, -3], [0, 0.12, 2.365, 7], [0, 0, 0, 1]])
IMAGE = np.random.default_rng(0).integers(0, 99, (5, 4, 3)).astype(np.int16)


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> str:
    path.parent.mkdir(exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return str(path)


@pytest.mark.parametrize("order", list(permutations(range(3))))
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, -1), (-1, -1, -1)])
def test_what_nibabel_turned_comes_back(tmp_path: Path, order, signs) -> None:
    turn = np.array(list(zip(order, signs, strict=True)))
    turned = apply_orientation(IMAGE, turn)
    affine = AFFINE @ inv_ornt_aff(turn, IMAGE.shape)
    image = write(tmp_path / "image.nii", IMAGE, AFFINE)
    label = write(tmp_path / "label.nii", turned, affine)
    loaded = {"image": data.load_image(image), "label": data.load_image(label)}
    found = ReorientToMatchd("label")(loaded)["label"]
    assert torch.equal(torch.as_tensor(found), torch.as_tensor(IMAGE[None]).float())
    assert found.is_contiguous()
    np.testing.assert_allclose(found.affine, AFFINE, atol=1e-6)
    onto = data.turned_onto(turned, label, image, ("label", "image"))
    np.testing.assert_array_equal(onto, IMAGE)


def moved(by: float, axis: int = 0) -> np.ndarray:
    """The affine, its origin moved by a part of a voxel."""
    affine = AFFINE.copy()
    affine[:3, 3] += by * AFFINE[:3, axis]
    return affine


@pytest.mark.parametrize("axis", range(3))
def test_what_headers_round_is_one_grid_and_half_a_voxel_is_another(axis: int) -> None:
    image = Grid("image a.nii", (5, 4, 3), AFFINE, "mm", True)
    for by, fits in ((0.02, True), (0.5, False), (-0.5, False)):
        label = Grid("label a.nii", (5, 4, 3), moved(by, axis), "mm", True)
        if fits:
            assert turn_onto(label, image).order == (0, 1, 2)
        else:
            with pytest.raises(ValueError, match=r"label a\.nii does not lie .* image a\.nii: ori"):
                turn_onto(label, image)


@pytest.mark.parametrize(
    ("affine", "said"),
    [
        (np.diag([1, 1, 2.5, 1.0]), r"voxel size \(1, 1, 2\.5\) mm, not \(1, 1, 2\) mm;"),
        (np.diag([-1, 1, 2, 1.0]), r"directions LAS, not RAS;"),
    ],
)
def test_what_differs_is_said(affine: np.ndarray, said: str) -> None:
    image = Grid("its image", (5, 4, 3), np.diag([1, 1, 2, 1.0]), "mm", True)
    label = Grid("label", (5, 4, 3), affine, "mm", True)
    with pytest.raises(ValueError, match=said):
        turn_onto(label, image)


def test_units_and_lost_units() -> None:
    image = Grid("image", (5, 4, 3), np.diag([0.5, 0.5, 2, 1]), "um", True)
    for affine in (np.diag([5e-4, 5e-4, 2e-3, 1]), image.affine):
        assert turn_onto(Grid("label", (5, 4, 3), affine, "mm", True), image) == no_turn(3)


def test_a_pixel_size_alone_is_no_place() -> None:
    image = Grid("image", (5, 4), np.diag([0.5, 0.5, 1, 1]), "um", False)
    for size, sides in (((9, 9, 1), (5, 4)), ((1, 1, 1), (5, 4, 1))):
        label = Grid("label", sides, np.diag([*size, 1.0]), "um", False)
        assert turn_onto(label, image) == no_turn(2)
    with pytest.raises(ValueError, match=r"label has shape \(4, 5\), image \(5, 4\)"):
        turn_onto(Grid("label", (4, 5), np.eye(4), "um", False), image)


@pytest.mark.parametrize(
    ("label", "image", "said"),
    [
        ((7, 5), (5, 7), "it lies on its side: transpose it"),
        ((7, 5, 3), (5, 7, 3), "it lies on its side: transpose it"),
        (
            (5, 6),
            (5, 7),
            "one of them was cropped or resampled: export both .* by nearest neighbour",
        ),
        ((5, 7), (5, 7, 3), "if one plane is annotated, give that plane as image, or a label"),
        ((5, 7, 3), (5, 7), r"the 3 pages of label are taken for z"),
    ],
)
def test_unequal_shapes_have_a_way_out(
    label: tuple[int, ...], image: tuple[int, ...], said: str
) -> None:
    grids = (Grid(name, s, np.eye(4), "um", False) for name, s in (("label", label), ("a", image)))
    with pytest.raises(ValueError, match=f"they must be equal; .*{said}"):
        turn_onto(*grids)


def test_training_refuses_another_place_before_it_starts(tmp_path: Path) -> None:
    for k in range(2):
        write(tmp_path / f"images/{k}.nii.gz", IMAGE, AFFINE)
        write(tmp_path / f"labels/{k}.nii.gz", (IMAGE > 50).astype(np.uint8), moved(2.0 * k))
    with pytest.raises(
        ValueError, match=r"label 1\.nii\.gz does not .*its image 1\.nii\.gz: origin"
    ):
        fingerprint(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize("two", ["its image", "label"])
def test_a_second_place_in_a_header_is_named_where_the_other_file_lies_there(
    tmp_path: Path, two: str
) -> None:
    """A program that reads the qform saved one of two files."""
    places = {"its image": [AFFINE, None], "label": [AFFINE, None]}
    places[two] = [moved(2.0), AFFINE] if two == "label" else [AFFINE, moved(2.0)]
    if two == "its image":
        places["label"] = [moved(2.0), None]
    for what, (sform, qform) in places.items():
        image = nib.Nifti1Image((IMAGE > 50).astype(np.uint8), sform)
        image.set_qform(qform, int(qform is not None))
        folder = tmp_path / what.removeprefix("its ")
        folder.mkdir()
        nib.save(image, folder / "a.nii.gz")
    said = rf"label a\.nii\.gz does not lie .*: origin .*; but it does by the qform of {two} a\.nii"
    with pytest.raises(ValueError, match=said):
        fingerprint(tmp_path / "image", tmp_path / "label")


def test_a_flipped_truth_scores_as_it_lies_and_a_moved_one_is_refused(tmp_path: Path, capsys):
    mask = (IMAGE > 50).astype(np.uint8)
    result = write(tmp_path / "r/a_mask.nii.gz", mask, AFFINE)
    flip = np.array([[0, -1], [1, 1], [2, 1]])
    affine = AFFINE @ inv_ornt_aff(flip, mask.shape)
    truth = write(tmp_path / "t/a.nii.gz", mask[::-1], affine)
    assert main(["evaluate", result, truth]) == 0
    assert re.search(
        r"^a +1\.0000 +0\.0000 +0\.0000 +1\.0000", capsys.readouterr().out, re.MULTILINE
    )
    write(tmp_path / "t/a.nii.gz", mask, moved(1.0))
    assert main(["evaluate", result, truth]) == 2
    assert "result a_mask.nii.gz does not lie on the grid of its truth" in capsys.readouterr().err


def test_a_label_of_another_pixel_size_gets_that_of_its_image(tmp_path: Path) -> None:
    pixels = np.eye(6, dtype=np.uint8)
    for name, per_um in (("image", 5), ("label", 2.5)):
        resolution = {"resolution": (per_um, per_um), "metadata": {"unit": "um"}}
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, imagej=True, **resolution)
    item = {key: data.load_image(tmp_path / f"{key}.tif") for key in ("image", "label")}
    label = ReorientToMatchd("label")(item)["label"]
    np.testing.assert_allclose(label.affine, np.diag([0.2, 0.2, 1, 1]))


def test_pages_that_may_be_channels_are_spoken_of(tmp_path: Path) -> None:
    for part, array in (("images", IMAGE), ("labels", IMAGE[0] > 50)):
        (tmp_path / part).mkdir()
        tifffile.imwrite(
            tmp_path / part / "a.tif", np.asarray(array, np.uint8), photometric="minisblack"
        )
    folders = tmp_path / "images", tmp_path / "labels"
    with pytest.raises(
        ValueError, match=r"its image a\.tif \(3, 4, 5\).*the 5 pages.*if they are channels.*--axes"
    ):
        fingerprint(*folders)
    found = fingerprint(*folders, axes="CYX").cases[0]
    assert (found.image.channels, found.image.shape, found.label.shape) == (5, (3, 4), (3, 4))


def test_pages_of_a_label_that_may_be_times_are_spoken_of(tmp_path: Path) -> None:
    movie = np.arange(3 * 20, dtype=np.uint8).reshape(3, 4, 5)
    for part, name in (("images", "TYX"), ("labels", None)):
        (tmp_path / part).mkdir()
        pixels = movie if name else (movie > 45).astype(np.uint8)
        options: dict[str, Any] = {"imagej": True, "metadata": {"axes": name}} if name else {}
        tifffile.imwrite(tmp_path / part / "a.tif", pixels, photometric="minisblack", **options)
    folders = tmp_path / "images", tmp_path / "labels"
    with pytest.raises(
        ValueError, match=r"the 3 pages of label a\.tif .*--time takes one, .*--axes, such as TYX"
    ):
        fingerprint(*folders, time=2)
    found = fingerprint(*folders, time=2, axes="TYX").cases[0]
    assert (found.image.shape, found.label.shape, found.values) == ((5, 4), (5, 4), "0..1")
