"""Outlines and DICOM SEG become labels on the grid of their images."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
import tifffile
from PIL import Image

from unet_med.cli import main
from unet_med.data import (
    RoiWriter,
    find_pairs,
    load_header,
    load_image,
    load_label,
    save_image,
)
from unet_med.data.outlines import outlines
from unet_med.data.roi_reader import label_of_outlines
from unet_med.data.tally import Found

BOX = np.zeros((12, 9), np.uint16)
BOX[3:8, 2:6] = 1
SQUARE = np.array([[2, 3], [6, 3], [6, 8], [2, 8]])  # x, y, of the same


def labels_of(folder: Path, *words: str) -> int:
    """Run the command on the usual folders."""
    usual = ["--images", str(folder / "images"), "--output", str(folder / "labels")]
    return main(["labels", str(folder / "rois"), *usual, *words])


# --- outlines


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A stack with an outline in its second plane, a picture with one, and one without."""
    (tmp_path / "images").mkdir()
    (tmp_path / "rois").mkdir()
    stack = np.zeros((1, 9, 12, 3), np.uint8)
    save_image(tmp_path / "images/a.tif", stack, np.diag([0.5, 0.5, 2, 1]), "um")
    for name in "bc":
        Image.new("L", (9, 12)).save(tmp_path / f"images/{name}.png")
    outline = roifile.ImagejRoi.frompoints(SQUARE, position=1)  # from 0
    line = roifile.ImagejRoi.frompoints(SQUARE, position=1)
    line.roitype = roifile.ROI_TYPE.POLYLINE
    roifile.roiwrite(tmp_path / "rois/a_rois.zip", [line, outline])
    outline.tofile(tmp_path / "rois/b.roi")
    return tmp_path


def test_an_outline_is_an_object_of_its_plane(drawn: Path, capsys: Any) -> None:
    assert labels_of(drawn) == 0
    said = capsys.readouterr()
    assert "a.tif: 1 objects; 1 left out, which are lines" in said.out
    assert "1 image(s) have no annotation, and get no label, such as c" in said.err
    assert "--label-kind instances" in said.err
    stack = tifffile.imread(drawn / "labels/a.tif")
    np.testing.assert_array_equal(stack, [0 * BOX, BOX, 0 * BOX])
    np.testing.assert_array_equal(tifffile.imread(drawn / "labels/b.tif"), BOX)
    head = load_header(drawn / "labels/a.tif")
    assert (head.pixel_size, head.spatial_unit) == ((0.5, 0.5, 2.0), "um")
    assert not (drawn / "labels/c.tif").exists()


def test_what_is_there_is_not_written_over(drawn: Path, capsys: Any) -> None:
    save_image(drawn / "labels/b.tif", np.full((9, 12), 7, np.uint8))
    assert labels_of(drawn, "--empty") == 3
    assert "b.tif is there already: remove it, or give another --output" in capsys.readouterr().err
    assert (tifffile.imread(drawn / "labels/b.tif") == 7).all()
    np.testing.assert_array_equal(tifffile.imread(drawn / "labels/c.tif"), 0 * BOX)


def test_an_outline_that_does_not_say_its_plane_is_refused(drawn: Path, capsys: Any) -> None:
    outline = roifile.ImagejRoi.frompoints(SQUARE)
    (drawn / "rois/a_rois.zip").unlink()
    outline.tofile(drawn / "rois/a.roi")
    assert labels_of(drawn) == 3
    assert "a.roi: outline 1 does not say its plane, 1 to 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("d.roi", "no image is named as"),
        ("a.geojson", "are both of the image a: leave one"),
    ],
)
def test_an_annotation_of_no_or_one_image_twice_is_refused(
    name: str, match: str, drawn: Path, capsys: Any
) -> None:
    (drawn / "rois" / name).write_text("[]")
    assert labels_of(drawn) == 2
    assert match in capsys.readouterr().err


@pytest.mark.parametrize("collection", [True, False])
def test_rings_of_qupath_have_holes_and_pieces(
    collection: bool, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "rois").mkdir()
    tifffile.imwrite(tmp_path / "images/p.tif", np.zeros((3, 7, 12), np.uint8), imagej=True)
    ring, hole = [[1, 1], [6, 1], [6, 6], [1, 6], [1, 1]], [[2, 2], [4, 2], [4, 4], [2, 4], [2, 2]]
    far = [[[9, 0], [11, 0], [11, 2], [9, 2], [9, 0]]]
    beside = [[[-9, -5], [-2, -5], [-2, -1], [-9, -5]]]
    geometries = [
        {"type": "Polygon", "coordinates": [ring, hole]},
        {"type": "Point", "coordinates": [3, 3]},
        {"type": "MultiPolygon", "coordinates": [far]},
        {"type": "Polygon", "coordinates": beside},
    ]
    features = [{"type": "Feature", "geometry": geometry} for geometry in geometries]
    content = {"features": features} if collection else features
    (tmp_path / "rois/p.geojson").write_text(json.dumps(content))
    words = ["--axes", "CYX"]
    assert labels_of(tmp_path, *words) == 0
    assert "2 objects; 1 more hold no pixel" in capsys.readouterr().out
    expected = np.zeros((7, 12))
    expected[1:6, 1:6], expected[2:4, 2:4], expected[0:2, 9:11] = 1, 0, 2
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "labels/p.tif"), expected)


def test_outlines_that_would_fill_the_memory_are_refused(drawn: Path, capsys: Any) -> None:
    with zipfile.ZipFile(drawn / "rois/a_rois.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(3_000_000))
    assert (drawn / "rois/a_rois.zip").stat().st_size < 10_000
    assert labels_of(drawn, "--max-bytes", "2M") == 3
    assert "it declares 0.003 GB once decoded, the limit is 0.0021 GB" in capsys.readouterr().err


def test_outlines_given_as_labels_name_the_command(drawn: Path, capsys: Any) -> None:
    words = ["--images", str(drawn / "images"), "--labels", str(drawn / "rois")]
    assert main(["train", *words, "--output", str(drawn / "out")]) == 2
    assert "outlines, such as a_rois.zip: make label images of them with unet-med labels" in (
        capsys.readouterr().err
    )


def test_outlines_that_predict_wrote_give_the_objects_back(tmp_path: Path) -> None:
    """Holes, pieces and planes too, from both files."""
    labels = np.zeros((3, 12, 9), np.int32)  # Z, Y, X
    labels[0, 1:6, 1:6], labels[0, 2:4, 2:4], labels[1, 7:9, 3:8] = 1, 0, 2
    labels[2, 0:2, 0:3], labels[2, 10:12, 5:9] = 3, 3
    found = {number: Found(1, 0.9) for number in (1, 2, 3)}
    for file in RoiWriter().write(tmp_path / "a", outlines(labels), found):
        drawn = label_of_outlines(file, (9, 12, 3))
        assert drawn[1:] == (3, (0, 0), 0)
        np.testing.assert_array_equal(drawn.label, labels.T, err_msg=file.name)


def write_qupath(path: Path, boxes: list[tuple[int, int, int, int]], names: list[str]) -> None:
    """Boxes (x, y, x, y), each with the name of its class; the empty one: none."""
    features = []
    for (left, top, right, bottom), name in zip(boxes, names, strict=True):
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        kind = {"classification": {"name": name}} if name else {}
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "geometry": geometry, "properties": kind})
    features.append({"type": "Feature", "geometry": None, "properties": {}})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def test_an_outline_around_others_is_said(drawn: Path, capsys: Any) -> None:
    """A region in which somebody outlined all cells would be an object, and the background it."""
    cells = [(1, 1, 3, 3), (4, 1, 6, 4), (1, 6, 4, 8), (3, 6, 6, 8), (7, 0, 9, 3)]
    write_qupath(drawn / "rois/c.geojson", [(0, 0, 7, 9), *cells], [""] * 6)
    assert labels_of(drawn) == 0
    said = capsys.readouterr().out
    assert "c.tif: 6 objects; 1 of them around 4 others: where it is a region and no cell, " in said
    assert said.count("them around") == 1
    label = tifffile.imread(drawn / "labels/c.tif")
    assert np.bincount(label.ravel()).tolist() == [108 - 63 - 6, 63 - 4 - 6 - 10, 4, 6, 4, 6, 6]


def test_outlines_of_a_larger_image_are_refused(drawn: Path, capsys: Any) -> None:
    """Those of a slide, beside an image that was exported at a quarter of its size."""
    boxes = [(1, 1, 5, 5), (12, 1, 17, 5), (20, 20, 30, 30), (2, 14, 8, 20)]
    write_qupath(drawn / "rois/c.geojson", boxes, [""] * 4)
    assert labels_of(drawn) == 3  # the others are made
    said = capsys.readouterr().err
    assert "c.geojson: 3 of 4 outlines lie beside the image of 9 x 12 px, as those of a" in said
    assert not (drawn / "labels/c.tif").exists()
    shutil.rmtree(drawn / "labels")
    write_qupath(drawn / "rois/c.geojson", boxes[:2], [""] * 2)
    assert labels_of(drawn) == 0
    assert "c.tif: 1 objects; 1 more hold no pixel" in capsys.readouterr().out


def test_an_outline_that_is_there_twice_is_around_no_other(drawn: Path, capsys: Any) -> None:
    """Whoever adds it to the ROI Manager twice is told that one lies beneath."""
    write_qupath(drawn / "rois/c.geojson", [(1, 1, 5, 5), (1, 1, 5, 5), (6, 1, 8, 5)], [""] * 3)
    assert labels_of(drawn) == 0
    assert "c.tif: 2 objects; 1 more hold no pixel, or lie beneath; 1 left" in (
        capsys.readouterr().out
    )


def test_what_has_no_area_or_is_ignored_by_qupath_is_counted(drawn: Path, capsys: Any) -> None:
    boxes = [(0, 0, 7, 9), (1, 1, 3, 3), (4, 1, 6, 4)]
    write_qupath(drawn / "rois/c.geojson", boxes, ["Region*", "Tumor", ""])
    assert labels_of(drawn) == 0
    said = capsys.readouterr().out
    assert "c.tif: 2 objects; 2 left out, which are lines, points or of an ignored class" in said
    assert "a.tif: 1 objects; 1 left out, which are lines, points or of an ignored class" in said
    label = tifffile.imread(drawn / "labels/c.tif")
    assert np.bincount(label.ravel()).tolist() == [108 - 10, 4, 6]


# --- DICOM SEG


def write_cohort(folder: Path, geometry: str = "oblique") -> np.ndarray:
    """A series `images/p1`; a mask `(X, Y, Z)` of two classes, which not all planes hold."""
    dicom_images = pytest.importorskip("dicom_images")
    pytest.importorskip("highdicom")
    dicom_images.write_series(folder / "images/p1", np.zeros((9, 8, 6)), geometry)
    mask = np.zeros((9, 8, 6), np.uint8)
    mask[1:4, 2:7, 1] = 1
    mask[5:8, 1:3, 4] = 2
    mask[0:2, 0:2, 4] = 1
    return mask


def write_seg(path: Path, mask: np.ndarray, source: Path, names: list[str]) -> Any:
    from unet_med.data.dicom_seg import write_dicom_seg
    from unet_med.data.segments import segments_of

    path.parent.mkdir(exist_ok=True)
    segments = segments_of(["background", *names], range(len(names) + 1))
    write_dicom_seg(path, mask, source, segments, weights="ab" * 32)


@pytest.mark.parametrize("geometry", ["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("name", ["p1.dcm", "p1_seg.dcm", "p1/1.2.3"])
def test_a_seg_becomes_a_label_of_its_series(
    name: str, geometry: str, tmp_path: Path, capsys: Any
) -> None:
    mask = write_cohort(tmp_path, geometry)
    (tmp_path / "rois").mkdir()
    write_seg(tmp_path / "rois" / name, mask, tmp_path / "images/p1", ["liver", "lesion"])
    assert labels_of(tmp_path) == 0
    said = capsys.readouterr()
    assert "p1.nii.gz: liver 1, lesion 2" in said.out
    assert "--label-kind classes --class-names liver lesion" in said.err
    (pair,) = find_pairs(str(tmp_path / "images"), str(tmp_path / "labels"))
    np.testing.assert_array_equal(load_label(pair["label"]), mask)
    image, label = load_header(pair["image"]), load_header(pair["label"])
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-4)


def test_planes_of_an_enhanced_file_may_be_stored_in_any_order(tmp_path: Path) -> None:
    mask = write_cohort(tmp_path)
    from dicom_images import write_enhanced

    source = tmp_path / "mr.dcm"
    write_enhanced(source, mask + 7, "oblique", order=[3, 0, 5, 1, 2, 4])
    write_seg(tmp_path / "seg.dcm", mask, source, ["liver", "lesion"])
    words = ["--images", str(source), "--output", str(tmp_path / "labels")]
    assert main(["labels", str(tmp_path / "seg.dcm"), *words]) == 0
    np.testing.assert_array_equal(load_image(tmp_path / "labels/mr.nii.gz")[0].numpy(), mask)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"FrameOfReferenceUID": "1.2.3"},
            "its frame of reference is 1.2.826.7.99, that of the series 1.2.3",
        ),
        ({"PixelSpacing": r"0.9\0.7"}, "p1.dcm as DICOM SEG: it does not lie on the planes of"),
        ({"Columns": 7}, "it does not lie on the planes of"),
        ({"ImagePositionPatient": [[0, 0, 3.0 * k] for k in range(6)]}, "does not lie on the pl"),
    ],
)
def test_a_seg_of_another_grid_is_refused(
    change: dict[str, Any], match: str, tmp_path: Path, capsys: Any
) -> None:
    mask = write_cohort(tmp_path, "axial")
    from dicom_images import write_series

    write_seg(tmp_path / "rois/p1.dcm", mask, tmp_path / "images/p1", ["liver", "lesion"])
    for file in (tmp_path / "images/p1").iterdir():
        file.unlink()
    write_series(tmp_path / "images/p1", np.zeros((9, 8, 6)), **change)
    assert labels_of(tmp_path) == 2
    assert match in capsys.readouterr().err
    assert not (tmp_path / "labels/p1.nii.gz").exists()


def test_segments_upon_each_other_need_an_order(tmp_path: Path, capsys: Any) -> None:
    mask = write_cohort(tmp_path)
    import pydicom

    path = tmp_path / "rois/p1.dcm"
    write_seg(path, mask, tmp_path / "images/p1", ["liver", "lesion"])
    dataset = pydicom.dcmread(path)
    dataset.PixelData = b"\xff" * len(dataset.PixelData)  # all of each of its three frames
    dataset.save_as(path)
    assert labels_of(tmp_path) == 2
    assert "lies upon another: name them with --segments, in an order" in capsys.readouterr().err
    for first, second, expected in [("Liver", "lesion", 2), ("lesion", "liver", 2)]:
        words = ["--segments", first, second, "--output", str(tmp_path / first)]
        assert labels_of(tmp_path, *words) == 0
        label = load_label(tmp_path / first / "p1.nii.gz")
        assert (label[..., 4] == expected).all()
        assert (label[..., 1] == (1 if first == "Liver" else 2)).all()
        assert not label[..., [0, 2, 3, 5]].any()


def test_numbers_that_mean_different_things_are_refused(tmp_path: Path, capsys: Any) -> None:
    mask = write_cohort(tmp_path)
    from dicom_images import write_series

    write_series(tmp_path / "images/p2", np.zeros((9, 8, 6)), series="1.2.826.7.2")
    write_seg(tmp_path / "rois/p1.dcm", mask, tmp_path / "images/p1", ["liver", "lesion"])
    write_seg(tmp_path / "rois/p2.dcm", mask // 2, tmp_path / "images/p2", ["lesion"])
    assert labels_of(tmp_path) == 2
    assert "segment 1 is 'liver' in" in capsys.readouterr().err
    assert labels_of(tmp_path, "--segments", "liver", "spleen") == 2
    assert "--segments spleen: no DICOM SEG has this segment, but lesion, liver" in (
        capsys.readouterr().err
    )
    assert labels_of(tmp_path, "--segments", "lesion") == 0
    for name in ("p1", "p2"):
        np.testing.assert_array_equal(load_label(tmp_path / f"labels/{name}.nii.gz"), mask == 2)


@pytest.mark.parametrize("kind", ["LABELMAP", "FRACTIONAL"])
def test_other_types_of_seg(kind: str, tmp_path: Path, capsys: Any) -> None:
    """A label map is read; fractions are no label, unless they are 0 and 1."""
    mask = write_cohort(tmp_path)
    import highdicom
    import pydicom

    from unet_med.data.dicom_seg import _descriptions
    from unet_med.data.segments import segments_of

    order = sorted(
        (tmp_path / "images/p1").iterdir(), key=lambda f: pydicom.dcmread(f).SOPInstanceUID
    )
    (tmp_path / "rois").mkdir()

    def write(pixels: np.ndarray) -> None:
        segments = segments_of(["background", "liver", "lesion"], range(3))
        highdicom.seg.Segmentation(
            [pydicom.dcmread(file) for file in order], pixels, kind, _descriptions(segments, "ab"),
            "1.2.3.4", 1, "1.2.3.5", 1, "none", "none", "1", "1",
        ).save_as(tmp_path / "rois/p1.dcm")  # fmt: skip

    if kind == "LABELMAP":
        write(mask.transpose(2, 1, 0))
    else:
        one_hot = np.stack([mask == 1, mask == 2], axis=-1).transpose(2, 1, 0, 3)
        write(one_hot * 0.5)
        assert labels_of(tmp_path) == 2
        assert "holds fractions, not segments" in capsys.readouterr().err
        write(one_hot * 1.0)
    assert labels_of(tmp_path) == 0
    np.testing.assert_array_equal(load_label(tmp_path / "labels/p1.nii.gz"), mask)


@pytest.mark.parametrize("name", ["p1.dcm", "p1_seg.dcm", "p1/1.2.3"])
def test_a_seg_given_as_label_names_the_command(name: str, tmp_path: Path, capsys: Any) -> None:
    mask = write_cohort(tmp_path)
    (tmp_path / "rois").mkdir()
    write_seg(tmp_path / "rois" / name, mask, tmp_path / "images/p1", ["liver", "lesion"])
    words = ["--images", str(tmp_path / "images"), "--labels", str(tmp_path / "rois")]
    assert main(["train", *words, "--output", str(tmp_path / "out")]) == 2
    assert "unet-med labels" in capsys.readouterr().err
