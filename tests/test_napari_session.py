"""A session's folder: what is written, read back, replaced, settled and refused."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from skimage.io import imsave

from unet_med.data import load_image, sha256, stem
from unet_med.data.array_writer import smallest_label_dtype
from unet_med.data.grids import axes_of
from unet_med.napari_widget.planes import labelled_planes, plane_digests, without_labels
from unet_med.napari_widget.segmenting import ORIENTATION
from unet_med.napari_widget.session import SAVED_AS, Session, file_name
from unet_med.planning.labels import LOOK_LIKE
from unet_med.planning.plan import ASKED


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session.open(tmp_path / "cells")


def random_pair(
    rng: np.random.Generator, *shape: int, channels: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Image `(C, X, Y[, Z])`, labels `(X, Y[, Z])`."""
    image = rng.integers(0, 4000, (channels, *shape)).astype(np.uint16)
    return image, rng.integers(1, 300, shape).astype(np.int32)


def weights(bundle: Path, content: bytes = b"1") -> None:
    (bundle / "models").mkdir(parents=True)
    (bundle / "models/model.pt").write_bytes(content)


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pair_is_two_files_that_the_command_line_reads(
    session: Session, rng: np.random.Generator, shape: tuple[int, ...], channels: int
) -> None:
    image, labels = random_pair(rng, *shape, channels=channels)
    spacing = (0.25, 0.5, 2.0)[: len(shape)]
    assert session.add("day 1_mask", image, labels, spacing=spacing) == ["day-1-mask"]
    ((image_file, label_file),) = session.pairs().values()
    assert (image_file.parent, label_file.parent) == (session.images, session.labels)
    assert image_file.name == label_file.name == "day-1-mask.tif"
    there = load_image(image_file)
    np.testing.assert_array_equal(there.numpy(), image)
    np.testing.assert_allclose(np.diag(there.affine)[: len(shape)], spacing)
    assert there.meta["spacing_source"] == "ome"
    np.testing.assert_array_equal(load_image(label_file).numpy()[0], labels)
    assert tifffile.imread(label_file).dtype == smallest_label_dtype(labels).dtype


def test_planes_with_labels_are_images_of_their_own(
    session: Session, rng: np.random.Generator
) -> None:
    image, labels = random_pair(rng, 7, 5, 4)
    labels[..., [0, 2]] = 0
    planes = labelled_planes(labels)
    names = session.add("stack", image, labels, spacing=(0.5, 0.5, 3), planes=planes)
    assert names == ["stack-z001", "stack-z003"] == list(session.pairs())
    for z, name in zip((1, 3), names, strict=True):
        found = [load_image(file).numpy() for file in session.pairs()[name]]
        np.testing.assert_array_equal(found[0], image[..., z])
        np.testing.assert_array_equal(found[1][0], labels[..., z])
    with pytest.raises(ValueError, match="no plane has labels"):
        labelled_planes(np.zeros_like(labels))
    assert session.add("one", image[..., :1], labels[..., :1], planes=[0]) == ["one"]
    assert load_image(session.pairs()["one"][0]).shape == (1, 7, 5)


def test_planes_of_a_correction_are_those_that_changed(rng: np.random.Generator) -> None:
    _, labels = random_pair(rng, 7, 5, 4)
    labels[..., 3] = 0
    predicted = plane_digests(labels)
    with pytest.raises(ValueError, match="no plane was corrected"):
        labelled_planes(labels.astype(np.uint16), predicted)
    labels[..., 0] = 0  # all that was found there was wrong
    labels[2, 3, 3] = 7
    assert labelled_planes(labels, predicted) == [0, 3]


def test_planes_that_nobody_painted_are_said() -> None:
    labels = np.zeros((6, 5, 4), np.uint16)
    labels[1:3, 2, 1] = 1
    assert without_labels(labels).startswith("; 3 of 4 planes have no labels and count as backgr")
    labels[0, 0] = 2  # a pixel of every plane
    assert without_labels(labels) == without_labels(labels[..., 0]) == ""
    assert without_labels(0 * labels[..., 0]) == "; it has no labels and counts as background"


def test_new_labels_of_the_same_pixels_replace_the_old_ones(
    session: Session, rng: np.random.Generator
) -> None:
    image, labels = random_pair(rng, 7, 5)
    real = rng.normal(size=(1, 7, 5))  # float64: files are read in single precision
    real[0, 0, 0] = np.nan
    for pixels, name in ((image, "a"), (real, "a-2"), (image, "a"), (real, "a-2")):
        labels = labels + 1
        assert session.add("a", pixels, labels) == [name]
        np.testing.assert_array_equal(load_image(session.pairs()[name][1]).numpy()[0], labels)
    assert sorted(session.pairs()) == ["a", "a-2"]
    empty = np.zeros_like(labels)  # a correction that leaves nothing
    session.add("a", image, empty)
    assert not load_image(session.pairs()["a"][1]).numpy().any()


@pytest.mark.parametrize("spacing", [None, (0.25, 0.5, 2.0)])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_pair_comes_back_as_layers(
    session: Session, rng: np.random.Generator, spacing: Any, channels: int
) -> None:
    image, labels = random_pair(rng, 7, 5, 3, channels=channels)
    session.add("stack", image, labels, spacing=spacing)
    *images, painted = session.read("stack")
    names = ["stack"] if channels == 1 else ["stack 0", "stack 1"]
    assert [meta["name"] for _, meta, _ in images] == names
    for channel, (data, meta, kind) in zip(image, images, strict=True):
        np.testing.assert_array_equal(data, channel.T)
        assert kind == "image"
        assert meta["metadata"] == {SAVED_AS: "stack"}
    np.testing.assert_array_equal(painted[0], labels.T)
    assert painted[1]["name"] == "stack labels"
    assert painted[2] == "labels"
    for _, meta, _ in (*images, painted):
        if spacing is None:
            assert "scale" not in meta
        else:
            assert meta["scale"] == pytest.approx((2.0, 0.5, 0.25))
            assert meta["units"] == ("um",) * 3


def test_colours_come_back_as_colours(session: Session, rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (3, 7, 5)).astype(np.uint8)
    session.add("tissue", image, np.ones((7, 5), np.int32))
    data, meta, _ = session.read("tissue")[0]
    assert meta["rgb"] is True
    assert data.dtype == np.uint8
    np.testing.assert_array_equal(data, image.transpose(2, 1, 0))  # (Y, X, RGB)


def test_what_a_training_left_becomes_the_bundle(session: Session) -> None:
    weights(session.training)
    log = session.folder / "training.log"
    log.write_text(f"use it with --bundle {session.training} --log-file {session.training}.log")
    assert session.settle()
    assert session.is_trained
    now = f"use it with --bundle {session.bundle} --log-file {session.training}.log"
    assert log.read_text() == now
    weights(session.training, b"2")
    assert Session.open(session.folder).is_trained
    assert (session.bundle / "models/model.pt").read_bytes() == b"2"
    assert (session.folder / "bundle_previous/models/model.pt").read_bytes() == b"1"
    (session.training / "configs").mkdir(parents=True)  # stopped before there were weights
    assert not session.settle()
    assert not session.training.exists()
    assert (session.bundle / "models/model.pt").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["training", "bundle", "bundle_previous"])
def test_what_is_not_a_sessions_is_not_touched(name: str, tmp_path: Path) -> None:
    """A data set with a folder `training`, such as DRIVE, loses nothing."""
    file = tmp_path / "set" / name / "images/1.tif"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"1")
    with pytest.raises(ValueError, match=f"{name} is no trained bundle"):
        Session.open(tmp_path / "set")
    assert file.read_bytes() == b"1"
    assert [path.name for path in (tmp_path / "set").iterdir()] == [name]
    for nothing in ("", "."):
        with pytest.raises(ValueError, match="choose a folder"):
            Session.open(nothing)


def test_a_file_with_the_same_pixels_stays_as_it_is(session: Session) -> None:
    pixels = np.arange(35, dtype=np.uint16).reshape(5, 7)
    tifffile.imwrite(session.images / "a.tif", pixels, description="of the microscope")
    before = (session.images / "a.tif").read_bytes()
    again = pixels.T[None].astype(np.float32)
    assert session.add("a", again, np.ones((7, 5), np.int32)) == ["a"]
    assert (session.images / "a.tif").read_bytes() == before
    assert list(session.pairs()) == ["a"]


def put_pair(session: Session, file: str, image: np.ndarray, labels: np.ndarray) -> None:
    """Files `(X, Y[, Z])` as others write them; the label of a NIfTI is turned the other way."""
    if file.endswith(".nii.gz"):
        own, other = np.diag([-0.5, -0.5, 2.0, 1.0]), np.diag([0.5, 0.5, 2.0, 1.0])
        other[:2, 3] = -0.5 * (np.array(image.shape[:2]) - 1)
        nibabel.save(nibabel.Nifti1Image(image, own), session.images / file)
        nibabel.save(nibabel.Nifti1Image(labels[::-1, ::-1], other), session.labels / file)
        return
    for folder, pixels in ((session.images, image), (session.labels, labels)):
        imsave(folder / file, pixels.T, check_contrast=False)


@pytest.mark.parametrize(
    ("file", "shape"),
    [("cells_01.tif", (7, 5)), ("b.png", (7, 5)), ("p.1_a.nii.gz", (7, 5, 3))],
)
def test_a_correction_of_what_is_shown_stays_one_pair(
    session: Session, rng: np.random.Generator, file: str, shape: tuple[int, ...]
) -> None:
    """Whatever its name and format; under any other name it is the same image as well."""
    image, labels = random_pair(rng, *shape)
    put_pair(session, "other_01.tif", image[0].T[:5, :5], labels.T[:5, :5].astype(np.uint16))
    put_pair(session, file, image[0], labels.astype(np.uint16))
    before = (session.images / file).read_bytes()
    (pixels, meta, _), (painted, _, _) = session.read(stem(file))
    np.testing.assert_array_equal(painted, labels.T)
    spacing = (0.5e3, 0.5e3, 2e3) if len(shape) == 3 else None
    for name in (meta["metadata"][SAVED_AS], "of another name"):
        painted = painted + 1
        assert session.add(name, pixels.T[None], painted.T, spacing=spacing) == [stem(file)]
        for folder in (session.images, session.labels):
            assert sorted(each.name for each in folder.iterdir()) == sorted([file, "other_01.tif"])
        assert (session.images / file).read_bytes() == before
        there, written = map(load_image, session.pairs()[stem(file)])
        np.testing.assert_array_equal(written.numpy()[0], painted.T)
        np.testing.assert_allclose(written.affine, there.affine)
    session.add(stem(file), image + 1, labels)  # other pixels: another image, and file
    assert sorted(session.pairs()) == sorted([stem(file), "other_01", free_name(stem(file))])


def free_name(name: str) -> str:
    return file_name(name) if file_name(name) != name else f"{name}-2"


@pytest.mark.parametrize("planes", [None, [1]])
def test_what_states_its_orientation_becomes_a_nifti(
    session: Session, rng: np.random.Generator, planes: Any
) -> None:
    image, labels = random_pair(rng, 7, 5, 3)
    with pytest.raises(ValueError, match="states its orientation, LSA, and no pixel size"):
        session.add("ct", image, labels, orientation="LSA", planes=planes)
    spacing = (500.0, 250.0, 2000.0)
    (name,) = session.add("ct", image, labels, spacing=spacing, orientation="LSA", planes=planes)
    dims = 3 if planes is None else 2
    for file, pixels in zip(session.pairs()[name], (image, labels[None]), strict=True):
        assert file.name.endswith(".nii.gz")
        there = load_image(file)
        np.testing.assert_array_equal(there.numpy(), pixels if dims == 3 else pixels[..., 1])
        assert axes_of(np.asarray(there.affine)) == "LSA"
        sizes = np.linalg.norm(np.asarray(there.affine)[:3, :3], axis=0)[:dims]
        np.testing.assert_allclose(sizes, spacing[:dims])
    assert session.read(name)[0][1]["metadata"] == {SAVED_AS: name, ORIENTATION: "LSA"}


def test_a_pixel_size_that_is_given_later_is_written(
    session: Session, rng: np.random.Generator
) -> None:
    image, labels = random_pair(rng, 7, 5)
    session.add("c", image, labels)
    for spacing in ((0.5, 0.25), (0.5, 0.25), (2.0, 2.0), None):
        session.add("c", image.astype(np.float32), labels, spacing=spacing)
        for file in session.pairs()["c"]:
            there = load_image(file)
            np.testing.assert_allclose(np.diag(there.affine)[:2], spacing or (2.0, 2.0))
            assert there.meta["spacing_source"] == "ome"
    assert tifffile.imread(session.pairs()["c"][0]).dtype == np.uint16
    np.testing.assert_array_equal(load_image(session.pairs()["c"][0]).numpy(), image)
    known = {"image": {"sha256": sha256(str(session.pairs()["c"][0]))}}
    (session.bundle / "configs").mkdir(parents=True)
    (session.bundle / "configs/plan.json").write_text(json.dumps({"data": {"cases": [known]}}))
    with pytest.raises(ValueError, match=r"are 1 x 1 um, and c.tif states 2 x 2 um; .* learned"):
        session.add("c", image, labels, spacing=(1.0, 1.0))


def test_files_of_others_keep_their_pixel_size(session: Session, rng: np.random.Generator) -> None:
    image, labels = random_pair(rng, 7, 5)
    put_pair(session, "d.tif", image[0], labels.astype(np.uint16))
    before = (session.images / "d.tif").read_bytes()
    match = r"are 0.5 x 0.25 um, and d.tif states no pixel size; a session gives one to TIFFs"
    with pytest.raises(ValueError, match=match):
        session.add("d", image, labels + 1, spacing=(0.5, 0.25))
    assert (session.images / "d.tif").read_bytes() == before
    np.testing.assert_array_equal(load_image(session.labels / "d.tif").numpy()[0], labels)


@pytest.mark.skipif(sys.platform == "win32", reason="a lock of POSIX")
def test_a_session_that_trains_is_left_alone(session: Session) -> None:
    weights(session.training)
    with session.log(), pytest.raises(ValueError, match=r"a training is running in .*cells"):
        Session.open(session.folder)
    assert session.training.is_dir()
    assert Session.open(session.folder).is_trained


def test_what_does_not_fit_is_refused(session: Session, rng: np.random.Generator) -> None:
    image, labels = random_pair(rng, 7, 5)
    match = "labels are 7 x 5 px, and a is 5 x 7 px: choose"
    with pytest.raises(ValueError, match=match):
        session.add("a", image, labels.T)
    assert session.pairs() == {}


def test_names_mean_nothing_to_the_command_line() -> None:
    assert file_name("Zellen_ä 0001") == "Zellen-ä-0001"
    assert file_name("../a/b") == "a-b"


def test_what_a_system_leaves_is_no_image(session: Session, rng: np.random.Generator) -> None:
    (session.images / ".DS_Store").write_bytes(b"x")
    assert session.pairs() == {}
    (session.images / "notes.txt").write_text("x")
    session.add("day 1", *random_pair(rng, 7, 5))
    assert list(session.pairs()) == ["day-1"]
    (session.labels / "day-1.tif").unlink()
    assert session.pairs() == {}
    shutil.rmtree(session.images)
    assert session.pairs() == {}


def test_what_the_labels_were_said_to_be_is_known_again(session: Session) -> None:
    assert session.label_kind is None
    for reason, kind in ((ASKED, "classes"), (LOOK_LIKE["classes"], None)):
        plan = {"ids": {"label_kind": {"value": "classes", "reason": reason}}}
        file = session.bundle / "configs/plan.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(plan))
        assert session.label_kind == kind
