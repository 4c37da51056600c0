"""DICOM out: the SEG holds the mask to the voxel, and says what a viewer asks of it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_recipes import python_in
from test_volumes import make_bundle

pytest.importorskip("highdicom")
import highdicom
import pydicom
from dicom_images import GEOMETRIES, affine_of, point_of, write_enhanced, write_series

from unet_med import Segmenter, __version__
from unet_med.cli import main
from unet_med.data import load_image, save_image, sha256
from unet_med.data.dicom_seg import write_dicom_seg
from unet_med.data.segments import ABNORMAL, PRIVATE, STRUCTURE, TISSUE, segments_of

VALUES = [0, 1, 2, 5]
NAMES = {"0": "background", "1": "liver", "2": "größer 日本", "3": "never found"}
TABLE = {"5": {"label": "Lesion", "color": [1, 2, 3]}}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of fixed weights that finds two of three classes, and names them."""
    torch.manual_seed(0)
    choices = {"preset": "modern", "spatial_dims": 3, "out_channels": 4, "features": [2, 4]}
    more = {"label_kind": "classes", "class_values": VALUES, "segments": TABLE, "tta": None}
    folder: Path = make_bundle(tmp_path_factory.mktemp("seg") / "bundle", **choices, **more)
    path = folder / "configs/metadata.json"
    metadata = json.loads(path.read_text())
    metadata["network_data_format"]["outputs"]["pred"]["channel_def"] = NAMES
    path.write_text(json.dumps(metadata))
    weights = folder / "models/model.pt"
    state = torch.load(weights, weights_only=True)
    state[[*state][-1]] += torch.tensor([0.0, 0.0, 0.0, -1e3])
    torch.save(state, weights)
    return folder


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A series of each geometry, of 24 x 20 x 12 voxels, and an enhanced MR."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("cohort")
    for k, geometry in enumerate(GEOMETRIES):
        volume = rng.integers(-500, 500, (24, 20, 12))
        write_series(folder / geometry, volume, geometry, series=f"1.2.826.7.{k + 1}")
    order = [3, 0, 4, 1, 2, 5, 11, 10, 9, 8, 7, 6]
    write_enhanced(folder / "mr.dcm", rng.integers(0, 999, (24, 20, 12)), "oblique", order=order)
    return folder


@pytest.fixture(scope="module")
def results(bundle: Path, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one call of the command makes of all of them."""
    output = tmp_path_factory.mktemp("results")
    images = [str(cohort / name) for name in (*GEOMETRIES, "mr.dcm")]
    words = ["--bundle", str(bundle), "--output", str(output), "--dicom-seg", "--device", "cpu"]
    assert main(["predict", *images, *words]) == 0
    return output


def mask_of(results: Path, name: str) -> np.ndarray:
    """`(X, Y, Z)`, as the NIfTI has it."""
    found: np.ndarray = load_image(str(results / f"{name}_mask.nii.gz"))[0].numpy().astype(int)
    return found


@pytest.mark.parametrize("name", [*GEOMETRIES, "mr"])
def test_its_voxels_are_those_of_the_mask(name: str, results: Path) -> None:
    mask = mask_of(results, name)
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert (mask > 0).any()
    seg = highdicom.seg.segread(str(results / f"{name}_seg.dcm"))
    assert seg.number_of_segments == 3
    volume = seg.get_volume(combine_segments=True)  # from the last plane to the first
    np.testing.assert_array_equal(volume.array[::-1].transpose(2, 1, 0), mask)
    affine = affine_of("oblique" if name == "mr" else name)
    there = np.array([0, 0, mask.shape[2] - 1, 1])
    first = np.diag([-1, -1, 1, 1]) @ volume.affine @ [0, 0, 0, 1]  # LPS to RAS
    np.testing.assert_allclose(first, affine @ there, atol=1e-3)


@pytest.mark.parametrize("name", GEOMETRIES)
def test_each_frame_lies_where_its_source_does(name: str, results: Path) -> None:
    mask = mask_of(results, name)
    seg = pydicom.dcmread(results / f"{name}_seg.dcm")
    shared = seg.SharedFunctionalGroupsSequence[0]
    turn, sizes = GEOMETRIES[name]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    np.testing.assert_allclose(cosines, turn, atol=1e-6)
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [sizes[1], sizes[0]]
    pixels = seg.pixel_array.reshape(-1, *mask.shape[1::-1])
    planes = {tuple(point_of(name, k)): k for k in range(mask.shape[2])}
    seen = np.zeros((3, mask.shape[2]), int)
    for frame, plane in zip(seg.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        point = frame.PlanePositionSequence[0].ImagePositionPatient
        k = planes[tuple(map(float, point))]
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(plane, VALUES[number] == mask[:, :, k].T)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert source.endswith(f".{k + 1}")
        seen[number - 1, k] += 1
    there = [(mask == value).any(axis=(0, 1)) for value in VALUES[1:]]
    np.testing.assert_array_equal(seen, np.array(there))  # each once, and none that is empty


def test_it_says_what_viewers_ask(bundle: Path, cohort: Path, results: Path) -> None:
    seg = pydicom.dcmread(results / "axial_seg.dcm")
    sources = [pydicom.dcmread(file) for file in (cohort / "axial").iterdir()]
    assert seg.SOPClassUID == pydicom.uid.SegmentationStorage
    assert (seg.Modality, seg.SegmentationType, seg.BitsAllocated) == ("SEG", "BINARY", 1)
    assert seg.FrameOfReferenceUID == sources[0].FrameOfReferenceUID
    assert seg.StudyInstanceUID == sources[0].StudyInstanceUID
    assert (seg.PatientID, seg.AccessionNumber) == ("P1", "A1")
    (series,) = seg.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.826.7.1" != seg.SeriesInstanceUID
    referenced = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert referenced == {source.SOPInstanceUID for source in sources}
    (organization,) = seg.DimensionOrganizationSequence
    for index in seg.DimensionIndexSequence:
        assert index.DimensionOrganizationUID == organization.DimensionOrganizationUID
    assert len(seg.DimensionIndexSequence) == 2  # segment, and place
    weights = sha256(bundle / "models/model.pt")
    labels, kinds = [], []
    for segment in seg.SegmentSequence:
        labels.append(segment.SegmentLabel)
        (kind,) = segment.SegmentedPropertyTypeCodeSequence
        kinds.append((kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning))
        (algorithm,) = segment.SegmentationAlgorithmIdentificationSequence
        assert algorithm.AlgorithmVersion == f"{__version__}, weights {weights[:16]}"
        assert algorithm.AlgorithmParameters == f"weights_sha256={weights}"
    assert [segment.SegmentNumber for segment in seg.SegmentSequence] == [1, 2, 3]
    assert labels == ["liver", "größer 日本", "Lesion"]
    liver, lesion = ("10200004", "SCT", "Liver"), ("52988006", "SCT", "Lesion")
    assert kinds == [liver, ("größer日本", "99UNETMED", "größer 日本"), lesion]
    record = json.loads((results / "record.json").read_text())
    named = record["images"]["axial"]["dicom_seg"]
    assert named == {"file": "axial_seg.dcm", "uid": seg.SOPInstanceUID}


def test_names_that_begin_alike_have_codes_of_their_own() -> None:
    names = ["common_carotid_artery_left", "common_carotid_artery_right", "+", "++", "rim"]
    values = [segment.type[0] for segment in segments_of(["background", *names], range(6))]
    assert len(set(values)) == 5
    assert [value[:8] for value in values[:2]] == ["commonca"] * 2
    assert {len(value) for value in values[:2]} == {16}
    assert values[4] == "rim"
    with pytest.raises(ValueError, match=r"classes 1 \(left-rim\) and 3 \(left rim\) have one"):
        segments_of(["background", "left-rim", "rim", "left rim"], range(4))
    again = segments_of(["background", "kidney", "Kidneys"], range(3))  # one code, one meaning
    assert again[0].type == again[1].type


def test_a_repetition_has_the_same_uids(
    bundle: Path, cohort: Path, results: Path, tmp_path: Path
) -> None:
    segment = Segmenter(bundle, device="cpu")
    segment(cohort / "thick").save(tmp_path, ["seg"])
    first, again = (pydicom.dcmread(p / "thick_seg.dcm") for p in (results, tmp_path))
    assert first.SOPInstanceUID == again.SOPInstanceUID
    assert first.PixelData == again.PixelData
    other = Segmenter(bundle, device="cpu", segments={"liver": {"label": "spleen"}})
    other(cohort / "thick").save(tmp_path, ["seg"])
    changed = pydicom.dcmread(tmp_path / "thick_seg.dcm")
    assert changed.SOPInstanceUID != first.SOPInstanceUID
    assert changed.SegmentSequence[0].SegmentLabel == "spleen"


def test_a_seg_that_is_missing_is_not_done(
    bundle: Path, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", f"{cohort}/thick", "--bundle", str(bundle), "--output", f"{tmp_path}/out"]
    seg = tmp_path / "out/thick_seg.dcm"
    assert main(words) == 0
    assert not seg.exists()
    assert main([*words, "--resume", "--dicom-seg"]) == 0
    before = seg.read_bytes()
    capsys.readouterr()
    assert main([*words, "--resume", "--dicom-seg"]) == 0
    assert "1 of 1 images skipped" in "".join(capsys.readouterr())
    assert seg.read_bytes() == before
    assert main([*words[:-1], f"{tmp_path}/a.nii.gz", "--dicom-seg"]) == 0
    assert (tmp_path / "a_seg.dcm").is_file()


def test_nothing_found_is_a_seg_too(bundle: Path, cohort: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    state = torch.load(copy / "models/model.pt", weights_only=True)
    state[[*state][-1]] += torch.tensor([1e4, 0.0, 0.0, 0.0])
    torch.save(state, copy / "models/model.pt")
    Segmenter(copy, device="cpu")(cohort / "axial").save(tmp_path, ["seg"])
    seg = highdicom.seg.segread(str(tmp_path / "axial_seg.dcm"))
    assert seg.number_of_segments == 3
    assert not seg.get_volume(combine_segments=True).array.any()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {},
            r"a\.nii\.gz is no DICOM series, and a DICOM SEG refers to one: leave out --dicom-seg",
        ),
        ({"label_kind": "instances"}, "finds instances, and a DICOM SEG holds classes"),
        ({"dicom_seg": None}, "made by an earlier version"),
        ({"highdicom": None}, r"--dicom-seg needs highdicom.*pip install 'unet-med\[dicom\]'"),
    ],
)
def test_what_can_be_no_seg_is_refused_before_the_work(
    change: dict[str, Any], match: str, bundle: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    config = json.loads((copy / "configs/inference.json").read_text()) | change
    config = {key: value for key, value in config.items() if value is not None or key == "tta"}
    (copy / "configs/inference.json").write_text(json.dumps(config))
    if "highdicom" in change:
        there = "unet_med.cli.extras._is_there"
        monkeypatch.setattr(there, lambda name: name != "highdicom")
    save_image(tmp_path / "a.nii.gz", np.zeros((8, 8, 8)), np.eye(4), "mm", has_channels=False)
    words = ["predict", f"{tmp_path}/a.nii.gz", "--bundle", str(copy), "--dicom-seg"]
    assert main([*words, "--output", str(tmp_path / "results")]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(match, said), said
    assert not (tmp_path / "results").exists()


def test_a_source_that_lacks_what_a_seg_states_is_set_aside(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rng: Any
) -> None:
    files = write_series(tmp_path / "ct", rng.integers(0, 99, (24, 20, 12)))
    for file in files:
        dataset = pydicom.dcmread(file)
        del dataset.StudyInstanceUID
        dataset.save_as(file)
    words = ["predict", f"{tmp_path}/ct", "--bundle", str(bundle), "--dicom-seg"]
    assert main([*words, "--output", str(tmp_path / "results")]) == 2
    assert "ct lacks what a DICOM SEG states: " in capsys.readouterr().err


def test_the_page_reads_back_what_is_in_some_planes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The SEG has no frames of the others."""
    mask = np.zeros((8, 9, 6), np.uint8)
    mask[2:5, 3:7, 1:3], mask[6, 1, 4] = 1, 2
    segments = segments_of(["background", "liver", "spleen"], [0, 1, 2], {})
    (results := tmp_path / "results").mkdir()
    for name, turned in (("axial", mask), ("oblique", mask[::-1])):
        write_series(tmp_path / name, np.zeros(mask.shape), name)
        write_dicom_seg(results / f"{name}_seg.dcm", turned, tmp_path / name, segments, weights="a")
        affine = affine_of(name)
        save_image(results / f"{name}_mask.nii.gz", turned, affine, "mm", has_channels=False)
    monkeypatch.chdir(tmp_path)
    exec(python_in("dicom.md", "## Read it back"), {})
    assert capsys.readouterr().out == "[(1, 'liver'), (2, 'spleen')]\n" * 2


NAMED = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber")
NAMED += ("StudyID", "StudyDate", "StudyTime", "SliceThickness")


@pytest.mark.parametrize(
    "values",
    [
        dict.fromkeys(NAMED),
        dict.fromkeys(NAMED, ""),
        {"PatientSex": "U", "StudyDate": "ANON", "PatientBirthDate": "00000000", "StudyTime": "x"},
    ],
    ids=["taken out", "emptied", "of no form"],
)
def test_a_source_without_a_patient_has_a_seg(values: dict[str, Any], tmp_path: Path) -> None:
    """Standard (PS3.3, C.7.1 to C.7.2): these attributes may be empty; the SEG has all of them."""
    volume = np.arange(12 * 10 * 5).reshape(12, 10, 5)
    for file in write_series(tmp_path / "ct", volume, "oblique"):
        dataset = pydicom.dcmread(file)
        for name, value in values.items():
            delattr(dataset, name)
            if value is not None:
                dataset.add_new(name, pydicom.datadict.dictionary_VR(name), None)
                dataset[name]._value = value  # as no form of pydicom's allows it
        dataset.save_as(file)
    mask = (volume % 3 == 1).astype(np.uint8)
    segments = segments_of(["background", "liver"], [0, 1], {})
    path = tmp_path / "ct_seg.dcm"
    write_dicom_seg(path, mask, tmp_path / "ct", segments, weights="ab" * 32)
    seg = highdicom.seg.segread(path)
    assert [name for name in NAMED if name in values and seg.get(name)] == []
    assert all(name in seg for name in NAMED if name != "SliceThickness")
    (measures,) = seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SliceThickness == GEOMETRIES["oblique"][1][2]
    volume = seg.get_volume(combine_segments=True)
    np.testing.assert_array_equal(volume.array[::-1].transpose(2, 1, 0), mask)


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID"])
def test_a_source_without_a_uid_has_none(name: str, tmp_path: Path) -> None:
    for file in write_series(tmp_path / "ct", np.zeros((8, 8, 3))):
        dataset = pydicom.dcmread(file)
        setattr(dataset, name, "")
        dataset.save_as(file)
    segments = segments_of(["background", "liver"], [0, 1], {})
    with pytest.raises(ValueError, match=f"ct lacks what a DICOM SEG states: {name}"):
        write_dicom_seg(
            tmp_path / "seg.dcm", np.zeros((8, 8, 3)), tmp_path / "ct", segments, weights="ab" * 32
        )


def test_slices_of_one_uid_have_no_seg(tmp_path: Path) -> None:
    write_series(tmp_path / "ct", np.zeros((8, 8, 3)), SOPInstanceUID="1.2.826.7.7")
    segments = segments_of(["background", "liver"], [0, 1], {})
    with pytest.raises(ValueError, match=r"ct has slices of one SOPInstanceUID, .* give each its"):
        write_dicom_seg(
            tmp_path / "seg.dcm", np.zeros((8, 8, 3)), tmp_path / "ct", segments, weights="ab" * 32
        )
    assert not (tmp_path / "seg.dcm").exists()


# --- the table of segments


@pytest.mark.parametrize(
    ("name", "category", "kind"),
    [
        ("Left_Kidneys", TISSUE, ("leftkidneys", PRIVATE, "Left_Kidneys")),
        ("kidneys", STRUCTURE, ("64033007", "SCT", "Kidney")),
        ("tumour", ABNORMAL, ("108369006", "SCT", "Neoplasm")),
        ("class 1", TISSUE, ("class1", PRIVATE, "class 1")),
        ("日本", TISSUE, ("日本", PRIVATE, "日本")),
    ],
)
def test_codes_follow_from_names(name: str, category: Any, kind: Any) -> None:
    (segment,) = segments_of(["background", name], [0, 1])
    assert (segment.label, segment.category, segment.type) == (name, category, kind)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({"7": {}}, r"segments: there is no class 7; there are 1 \(liver\), 5 \(rim\)"),
        ({"1": {"colour": [1, 2, 3]}}, "'colour' of class 1 is none of"),
        ({"rim": {"color": [1, 2, 300]}}, r"color \[1, 2, 300\] is not red"),
        ({"5": {"type": ["1", "SCT"]}}, r"\['1', 'SCT'\] is not a code"),
    ],
)
def test_a_table_that_says_nonsense_is_refused(table: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        segments_of(["background", "liver", "rim"], [0, 1, 5], table)
