"""Outlines for Fiji and QuPath: exact to the pixel, holes kept, read back equal."""

from __future__ import annotations

import json
import re
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from matplotlib.path import Path as Shape
from test_segmenter import blobs, with_foreground, with_rules
from test_volumes import make_bundle, write_source

from unet_med import Segmenter
from unet_med.cli import main
from unet_med.data import load_image, save_image
from unet_med.data.outlines import Polygon, outlines
from unet_med.data.roi_writer import RoiWriter
from unet_med.data.tally import Found, Tally
from unet_med.volumes import split

MASKS = arrays.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)))


def filled(rings: Any, shape: tuple[int, int]) -> np.ndarray:
    """Pixels whose centre an odd number of rings surrounds, by matplotlib: `(Y, X)`."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel(), y.ravel()], 1) + 0.5
    inside = [Shape(ring).contains_points(centres).reshape(shape) for ring in rings]
    return np.sum(inside, axis=0) % 2 == 1


def from_zip(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Labels `([Z,] Y, X)` of a zip, as roifile reads it, and the ROIs by name."""
    roifile = pytest.importorskip("roifile")
    labels, named = np.zeros(shape, int), {}
    for roi in roifile.roiread(path):
        plane = labels if len(shape) == 2 else labels[(roi.position or roi.z_position) - 1]
        plane[filled(roi.coordinates(multi=True), plane.shape)] += roi.properties["object"]
        named[roi.name] = roi
    return labels, named


def from_geojson(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Labels of a GeoJSON, as its definition says, and the features."""
    labels, features = np.zeros(shape, int), json.loads(path.read_text())["features"]
    for feature in features:
        geometry = feature["geometry"]
        single = geometry["type"] == "Polygon"
        shapes = [geometry["coordinates"]] if single else geometry["coordinates"]
        plane = labels if len(shape) == 2 else labels[geometry["plane"]["z"]]
        for rings in shapes:
            assert all(ring[0] == ring[-1] for ring in rings)
            plane[filled(rings, plane.shape)] += int(feature["properties"]["name"])
    return labels, features


def polygons_of(mask: np.ndarray) -> list[Polygon]:
    return [each for outline in outlines(mask.astype(np.uint8)) for each in outline.polygons]


@given(MASKS)
def test_outlines_fill_to_the_mask_and_are_simple(mask):
    polygons = polygons_of(mask)
    rings = [ring for polygon in polygons for ring in polygon]
    if rings:
        np.testing.assert_array_equal(filled(rings, mask.shape), mask)
    for polygon in polygons:
        areas = [
            np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2 for x, y in (r.T for r in polygon)
        ]
        assert areas[0] > 0 > max(areas[1:], default=-1)  # outside, then holes the other way
        for ring in polygon:
            assert len({tuple(corner) for corner in ring.tolist()}) == len(ring)  # once each
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()  # along the edges of pixels
            assert (np.diff(steps == 0, axis=0)[:, 0] != 0).all()  # with corners alone
    assert not mask.any() or polygons


def test_a_ring_that_meets_itself_diagonally_becomes_a_hole():
    mask = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0]], bool)
    (outside, hole), = polygons_of(mask)  # fmt: skip
    assert hole.tolist() == [[2, 2], [2, 1], [1, 1], [1, 2]]
    np.testing.assert_array_equal(filled([outside], mask.shape), np.array(mask) | _at(1, 1))


def _at(y: int, x: int) -> np.ndarray:
    found = np.zeros((3, 3), bool)
    found[y, x] = True
    return found


LABELS = np.zeros((3, 12, 15), int)  # Z, Y, X
LABELS[0, 2:7, 2:8] = 1
LABELS[0, 3:5, 3:6] = 0  # a hole
LABELS[1, 2:7, 2:4] = 1
LABELS[1, 8, 9] = LABELS[1, 9, 10] = 2  # two pieces, by a corner
LABELS[2, :, 14] = 7


def write(path: Path, labels: np.ndarray, **options: Any) -> list[Path]:
    pytest.importorskip("roifile")
    found = {n: Found(1 + n % 2, n / 10) for n in np.unique(labels)}
    writer = RoiWriter(3, ["core", "rim"], **options.pop("writer", {}))
    return writer.write(path, outlines(labels, options.pop("windows", None)), found, **options)


@pytest.mark.parametrize("labels", [LABELS, LABELS[0], LABELS[1]])
def test_both_files_read_back_equal_with_names_and_scores(tmp_path, labels):
    rois, features = write(tmp_path / "a_rois", labels)
    back, named = from_zip(rois, labels.shape)
    np.testing.assert_array_equal(back, labels)
    again, listed = from_geojson(features, labels.shape)
    np.testing.assert_array_equal(again, labels)
    assert len(named) == len(listed) == len(zipfile.ZipFile(rois).namelist())
    for roi in named.values():
        number = roi.properties["object"]
        assert roi.properties == {
            "object": number, "class": ("core", "rim")[number % 2], "score": number / 10
        }  # fmt: skip
        y, x = np.nonzero((labels if labels.ndim == 2 else labels[roi.position - 1]) == number)
        assert (roi.left, roi.right, roi.top, roi.bottom) == (
            x.min(), x.max() + 1, y.min(), y.max() + 1
        )  # fmt: skip
    for feature in listed:
        properties, number = feature["properties"], int(feature["properties"]["name"])
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == ("core", "rim")[number % 2]
        assert properties["measurements"] == {"object": number, "score": number / 10}
    if labels.ndim == 3:
        assert {"000001-z0001", "000001-z0002", "000007-z0003"} <= set(named)


@pytest.mark.parametrize(
    ("channels", "time", "position", "places"),
    [(1, None, 2, (0, 0)), (3, None, 0, (2, 0)), (1, 4, 0, (2, 5))],
)
def test_planes_are_counted_as_imagej_does(tmp_path, channels, time, position, places):
    class Reader:
        choice = {} if time is None else {"time": time}

    rois, features = write(
        tmp_path / "a", LABELS[:2], channels=channels, writer={"reader": Reader()}
    )
    _, named = from_zip(rois, LABELS[:2].shape)
    roi = named["000002-z0002"]
    assert (roi.position, (roi.z_position, roi.t_position)) == (position, places)
    planes = [
        feature["geometry"]["plane"] for feature in json.loads(features.read_text())["features"]
    ]
    assert {"c": -1, "z": 1, "t": time or 0} in planes


def test_the_same_outlines_give_the_same_bytes(tmp_path, monkeypatch):
    made = []
    for name, year in (("a", 2001), ("b", 2026)):
        moment = (year, 1, 1, 0, 0, 0, 0, 1, 0)
        monkeypatch.setattr("time.localtime", lambda *_, now=moment: now)
        made.append([file.read_bytes() for file in write(tmp_path / name, np.eye(3, dtype=int))])
    assert made[0] == made[1]
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_DEFLATED}


def test_far_corners_and_no_object(tmp_path):
    labels = np.zeros((3, 70_000), np.uint8)
    labels[1, 69_000:69_005] = 1  # beyond what 16 bits hold
    labels[1, 40_000:40_004] = 2
    rois, features = write(tmp_path / "far", labels)
    np.testing.assert_array_equal(from_zip(rois, labels.shape)[0], labels)
    np.testing.assert_array_equal(from_geojson(features, labels.shape)[0], labels)
    _, features = write(tmp_path / "none", np.zeros((4, 4), int))
    assert json.loads(features.read_text()) == {"type": "FeatureCollection", "features": []}


class Read:
    """An array that notes how much of it is read, and how much at once."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape
        self.largest = self.all = 0

    def __getitem__(self, window):
        part = self.array[window]
        self.largest, self.all = max(self.largest, part.size), self.all + part.size
        return part


LATTICE = np.ones((8, 30, 40), int)  # one object as large as all, with holes, as axons may be
LATTICE[:, 2::5, 2::5] = 0
LATTICE[3:5, 4, 4] = 2


@pytest.mark.parametrize("labels", [LABELS, LATTICE])
def test_windows_give_the_same_outlines_and_bound_what_is_read(labels):
    sides = (2, 5, 6) if labels is LABELS else (4, 10, 20)
    windows = [block.slices for block in split(labels.shape, sides)]
    source = Read(labels)

    def keyed(found):
        return {(o.number, o.plane): [[r.tolist() for r in p] for p in o.polygons] for o in found}

    found = list(outlines(source, windows))
    assert len(found) == len(keyed(found)) > 3  # one a plane
    assert keyed(found) == keyed(outlines(labels))
    z, y, x = sides
    assert source.largest <= z * (y + 2) * (x + 2)  # a window, and 1 px around it
    assert source.all <= labels.size + len(windows) * z * (y + 2) * (x + 2)  # for all objects


def test_a_part_costs_what_it_holds_however_many_objects_there_are():
    tally = Tally(1_000_000, 3)
    labels, scores = np.array([[999_999, 0, 7]]), np.full((3, 1, 3), 1 / 3)
    tally.add_probabilities(labels, scores)
    tracemalloc.start()
    tally.add_probabilities(labels, scores)
    tally.add_classes(labels, np.array([[2, 0, 1]]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000
    assert tally.pixels[[7, 999_999]].tolist() == [[0, 3, 0], [0, 2, 1]]


def test_a_tally_says_class_and_score():
    labels = np.array([[1, 1, 0], [2, 2, 2]])
    scores = np.array([[[0.2, 0.4, 0.9], [0.1, 0.1, 0.7]],
                       [[0.8, 0.1, 0.1], [0.2, 0.1, 0.3]],
                       [[0.0, 0.5, 0.0], [0.7, 0.8, 0.0]]])  # fmt: skip
    tally = Tally(3, 3)
    for part in (slice(0, 1), slice(1, 2)):
        tally.add_probabilities(labels[part], scores[:, part])
    assert tally.found() == {1: Found(1, 0.7), 2: Found(2, 0.7)}
    tally = Tally(2, 3)
    tally.add_classes(labels, np.array([[0, 2, 0], [1, 1, 2]]))
    assert tally.found() == {1: Found(2, None), 2: Found(1, None)}


def channel_names(path: Path) -> list[str]:
    with tifffile.TiffFile(path) as tif:
        return re.findall(r'<Channel [^>]*Name="([^"]*)"', tif.ome_metadata)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of three classes with names and seeds."""
    folder = make_bundle(
        tmp_path_factory.mktemp("rois") / "bundle", preset="modern", min_size=3, tta=None,
        class_names=["core", "rim"], grow=1,
    )  # fmt: skip
    rules = {"threshold": 0.6, "mask_threshold": 0.5, "reach": 2}
    return with_foreground(with_rules(folder, **rules), blobs(np.random.default_rng(3), (61, 53)))


def test_predict_and_segmenter_write_what_the_instances_are(tmp_path, trained, capsys):
    pytest.importorskip("roifile")
    image = blobs(np.random.default_rng(5), (61, 53))
    save_image(tmp_path / "a.tif", image.T, np.diag([0.3, 0.25, 1, 1]))
    words = ["--bundle", str(trained), "--output", str(tmp_path / "out"), "--device", "cpu"]
    wanted = ["--rois", "--instances", "--probabilities"]
    assert main(["predict", str(tmp_path / "a.tif"), *words, *wanted]) == 0
    assert channel_names(tmp_path / "out" / "a_probabilities.tif") == ["background", "core", "rim"]
    labels = load_image(tmp_path / "out" / "a_instances.tif")[0].numpy().T
    assert labels.max() > 3
    back, named = from_zip(tmp_path / "out" / "a_rois.zip", labels.shape)
    np.testing.assert_array_equal(back, labels)
    np.testing.assert_array_equal(
        from_geojson(tmp_path / "out" / "a_rois.geojson", labels.shape)[0], labels
    )
    result = Segmenter(trained, device="cpu")(tmp_path / "a.tif")
    for roi in named.values():
        inside = result.instances == roi.properties["object"]
        scores = result.probabilities[:, inside]  # (K, N)
        assert roi.properties["score"] == pytest.approx(1 - scores[0].mean(), abs=1e-5)
        votes = np.bincount(scores[1:].argmax(0), minlength=2)
        assert roi.properties["class"] in {
            ("core", "rim")[k] for k in np.flatnonzero(votes == votes.max())
        }
    result.save(tmp_path / "own", ["rois"])
    for suffix in ("zip", "geojson"):
        assert (tmp_path / "own" / f"a_rois.{suffix}").is_file()
    np.testing.assert_array_equal(
        from_zip(tmp_path / "own" / "a_rois.zip", labels.shape)[0], labels
    )
    # outlines alone make no file of instances; a further run knows that they are done
    words[3] = str(tmp_path / "alone")
    assert main(["predict", str(tmp_path / "a.tif"), *words, "--rois"]) == 0
    assert {p.name for p in (tmp_path / "alone").iterdir()} == {
        "a_mask.tif", "a_rois.zip", "a_rois.geojson", "record.json"
    }  # fmt: skip
    assert main(["predict", str(tmp_path / "a.tif"), *words, "--rois", "--resume"]) == 0
    assert "no image was left to do" in capsys.readouterr().out


@pytest.mark.parametrize("kept", [True, False])
def test_blocks_give_the_same_objects(tmp_path, trained, kept, capsys):
    pytest.importorskip("roifile")
    image = blobs(np.random.default_rng(5), (61, 53))
    source = write_source(tmp_path / "a.ome.zarr", image)
    words = ["--bundle", str(trained), "--device", "cpu", "--workers", "1", "--block", "32", "32"]
    words += ["--output", str(tmp_path / "o_mask.ome.tif"), "--rois"]
    assert main(["predict", str(source), *words, *(["--probabilities"] if kept else [])]) == 0
    assert "outlined in o_rois.zip and o_rois.geojson" in capsys.readouterr().out
    if kept:
        names = channel_names(tmp_path / "o_probabilities.ome.tif")
        assert names == ["background", "core", "rim"]
    result = Segmenter(trained, device="cpu")(image, spacing=0.25)
    back, named = from_zip(tmp_path / "o_rois.zip", image.shape)
    np.testing.assert_array_equal(back, result.instances)
    np.testing.assert_array_equal(
        from_geojson(tmp_path / "o_rois.geojson", image.shape)[0], result.instances
    )
    result.save(tmp_path, ["rois"])
    whole = from_zip(tmp_path / "image_rois.zip", image.shape)[1]
    for name, roi in whole.items():
        ours = named[name].properties
        assert ours["class"] == roi.properties["class"]
        assert ours.get("score") == (
            pytest.approx(roi.properties["score"], abs=1e-5) if kept else None
        )
