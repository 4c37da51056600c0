"""DICOM in: where planes lie, which of them make a volume, and what is refused by name."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import load

pytest.importorskip("pydicom")
import pydicom
from dicom_images import GEOMETRIES, affine_of, write_enhanced, write_series

from unet_med.data import AutoReader, find_images, find_pairs, load_header, load_image, save_image
from unet_med.data.dicom_files import is_series
from unet_med.data.dicom_frames import _turned_round
from unet_med.data.folder_files import image_files
from unet_med.data.formats import stem
from unet_med.data.grids import Grid
from unet_med.data.modality import headers_modality


def read_by_itk(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """`(X, Y, Z)` and affine (RAS), by SimpleITK alone."""
    import SimpleITK as sitk

    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).T, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


@pytest.fixture
def hounsfield(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(-1000, 3000, (9, 7, 6)).astype(np.int32)  # X, Y, Z


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_geometry_is_that_of_itk_and_of_the_standard(
    geometry: str, tmp_path: Path, hounsfield: np.ndarray
) -> None:
    write_series(tmp_path / "ct", hounsfield, geometry)
    theirs, affine = read_by_itk(tmp_path / "ct")
    ours, meta = load(tmp_path / "ct")
    np.testing.assert_array_equal(ours, hounsfield)
    np.testing.assert_array_equal(theirs, hounsfield)
    np.testing.assert_allclose(meta["affine"], affine, atol=1e-6)  # mm
    np.testing.assert_allclose(meta["affine"], affine_of(geometry), atol=1e-5)
    assert (meta["spatial_unit"], meta["spacing_source"]) == ("mm", "header")


def test_a_header_needs_no_pixels(tmp_path: Path, hounsfield: np.ndarray) -> None:
    files = write_series(tmp_path / "ct", hounsfield, "oblique")
    whole = AutoReader().open(tmp_path / "ct")
    for file in files:  # noise for pixels
        file.write_bytes(file.read_bytes()[:-20] + bytes(20))
    head = load_header(tmp_path / "ct")
    assert head.array.shape == hounsfield.shape
    assert head.array.dtype == whole.array.dtype
    np.testing.assert_array_equal(head.affine, whole.affine)


def test_a_localizer_is_passed_over(
    tmp_path: Path, hounsfield: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "ct", hounsfield)
    scout: dict[str, Any] = {"image_type": "LOCALIZER", "geometry": "sagittal"}
    write_series(tmp_path / "scout", hounsfield[:4, :4, :2], **scout)  # of the same series
    for k, file in enumerate((tmp_path / "scout").iterdir()):
        file.rename(tmp_path / "ct" / f"A{k}")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(load(tmp_path / "ct")[0], hounsfield)
        load(tmp_path / "ct")
    assert [r.getMessage() for r in caplog.records if "localizer" in r.getMessage()] == [
        f"{tmp_path / 'ct'}: 2 localizers are passed over, such as A0"
    ]
    other = write_series(tmp_path / "other", hounsfield[:4, :4, :1], series="1.2.826.7.2", **scout)
    other[0].rename(tmp_path / "ct" / "B")
    np.testing.assert_array_equal(load(tmp_path / "ct")[0], hounsfield)
    assert AutoReader(series="1.2.826.7.2").open(tmp_path / "ct").array.shape == (4, 4, 1)


def test_of_several_series_one_is_chosen(tmp_path: Path, hounsfield: np.ndarray) -> None:
    write_series(tmp_path / "ct", hounsfield)
    second = write_series(tmp_path / "second", hounsfield[..., :3], series="1.2.826.7.2")
    for file in second:
        file.rename(tmp_path / "ct" / f"S{file.name}")
    listed = r"2 DICOM series: 1\.2\.826\.7\.1 \(CT, 6 files, phantom\), 1\.2\.826\.7\.2 \(CT, 3"
    with pytest.raises(ValueError, match=rf"{listed}.*choose one with --series UID"):
        load(tmp_path / "ct")
    found = AutoReader(series="1.2.826.7.2").open(tmp_path / "ct").array
    np.testing.assert_array_equal(found, hounsfield[..., :3])
    with pytest.raises(ValueError, match=r"no DICOM series 1\.2; it holds 1\.2\.826\.7\.1"):
        AutoReader(series="1.2").open(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"--series 1 is for TIFF files.* UID of a series"):
        AutoReader(series=1).open(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"--time 1 is for TIFF files, and ct is none"):
        AutoReader(series="1.2.826.7.2", time=1).open(tmp_path / "ct")  # as without --series
    save_image(tmp_path / "a.tif", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match=r"--series 1\.2 is the UID of a DICOM series, and a\.tif"):
        AutoReader(series="1.2").open(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"skip": (3,)}, r"1\.5 to 3 mm apart: a slice is missing"),
        ({"ImagePositionPatient": [[0, 0, 0]] * 2 + [[0, 0, 1.5]] * 2 + [[0, 0, 3.0]] * 2},
         "3 of its 6 slices lie where others do"),
        ({"ImageOrientationPatient": [[1, 0, 0, 0, 1, 0]] * 5 + [[0, 1, 0, 0, 0, -1]]},
         "do not have one orientation"),
        ({"PixelSpacing": [[0.7, 0.7]] * 5 + [[0.7, 0.9]]}, "do not have one pixel size"),
        ({"PixelSpacing": [[0.0, 0.0]] * 6}, "states a pixel size of 0"),
        ({"PixelSpacing": ["0.7"] * 6},
         r"ct as .*: its IM\d+ states the PixelSpacing '0.7', where 2 numbers belong: export"),
        ({"ImagePositionPatient": ""}, "6 images do not say where they lie"),
        ({"Modality": "SEG"}, "holds no DICOM series, only SEG"),
    ],
)  # fmt: skip
def test_what_is_no_straight_stack_is_refused(
    tags: dict[str, Any], match: str, tmp_path: Path, hounsfield: np.ndarray
) -> None:
    write_series(tmp_path / "ct", hounsfield, **tags)
    with pytest.raises(ValueError, match=match):
        load(tmp_path / "ct")


def test_frames_of_one_spacing_value_are_refused(tmp_path: Path, rng: Any) -> None:
    write_enhanced(tmp_path / "mr.dcm", rng.integers(0, 3000, (8, 6, 5)))
    dataset = pydicom.dcmread(tmp_path / "mr.dcm")
    for groups in (*dataset.PerFrameFunctionalGroupsSequence,
                   *dataset.SharedFunctionalGroupsSequence):  # fmt: skip
        if "PixelMeasuresSequence" in groups:
            groups.PixelMeasuresSequence[0].PixelSpacing = 0.7
    dataset.save_as(tmp_path / "mr.dcm")
    match = r"its mr\.dcm states the PixelSpacing '0\.7', where 2 numbers belong"
    with pytest.raises(ValueError, match=match):
        load(tmp_path / "mr.dcm")


def test_a_damaged_slice_at_the_end_is_not_lost(tmp_path: Path, hounsfield: np.ndarray) -> None:
    files = write_series(tmp_path / "ct", hounsfield)
    content = files[-1].read_bytes()
    columns = content.index(b"\x28\x00\x11\x00US")
    files[-1].write_bytes(content[:columns] + b"\x28\x00\x12\x00US" + content[columns + 6 :])
    with pytest.raises(ValueError, match=rf"its {files[-1].name} is damaged or not supported"):
        load(tmp_path / "ct")


def test_slices_with_their_own_scale_keep_their_fractions(tmp_path: Path, rng: Any) -> None:
    stored = rng.integers(0, 3000, (5, 4, 3))
    slopes = [1, 0.25, 2.5]  # the first gives whole numbers
    write_series(tmp_path / "pet", stored - 1024, RescaleSlope=slopes, RescaleIntercept=0)
    np.testing.assert_allclose(load(tmp_path / "pet")[0], stored * slopes)


@pytest.mark.parametrize("slope", [1, 0.5])
def test_the_largest_value_is_white(tmp_path: Path, rng: Any, slope: float) -> None:
    """Of MONOCHROME1, as of some radiographs, the smallest is: such images are turned round."""
    stored = rng.integers(0, 4096, (5, 4, 3))
    shades = ["MONOCHROME2", "MONOCHROME1", "MONOCHROME1"]
    tags = {"PhotometricInterpretation": shades, "BitsStored": 12, "HighBit": 11}
    scale = {"RescaleSlope": slope, "RescaleIntercept": -7}
    write_series(tmp_path / "cr", stored - 1024, **tags, **scale)
    shown = np.where(np.array(shades) == "MONOCHROME1", 4095 - stored, stored)
    np.testing.assert_allclose(load(tmp_path / "cr")[0], slope * shown - 7)
    write_enhanced(tmp_path / "mr.dcm", stored, slopes=[1.0, 0.5, 2.0])
    dataset = pydicom.dcmread(tmp_path / "mr.dcm")
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.HighBit = "MONOCHROME1", 12, 11
    dataset.save_as(tmp_path / "mr.dcm", enforce_file_format=True)
    np.testing.assert_allclose(load(tmp_path / "mr.dcm")[0], (4095 - stored) * [1.0, 0.5, 2.0])


def test_signed_values_are_turned_round_within_their_bits() -> None:
    pixels = np.array([-128, -1, 0, 127], np.int8)
    assert _turned_round(pixels, 8, signed=True).tolist() == [127, 0, -1, -128]
    padding = np.array([0, 4095, 65535], np.uint16)
    assert _turned_round(padding, 12, signed=False).tolist() == [4095, 0, 0]


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_enhanced_mr_lies_where_its_frames_say(geometry: str, tmp_path: Path, rng: Any) -> None:
    volume = rng.integers(0, 3000, (8, 6, 5))
    write_enhanced(tmp_path / "mr.dcm", volume, geometry, order=[3, 0, 4, 1, 2])
    ours, meta = load(tmp_path / "mr.dcm")
    np.testing.assert_array_equal(ours, volume)
    np.testing.assert_allclose(meta["affine"], affine_of(geometry), atol=1e-5)
    slopes = [1.0, 0.5, 2.0, 1.0, 0.25]
    write_enhanced(tmp_path / "mr.dcm", volume, geometry, slopes=slopes)
    np.testing.assert_allclose(load(tmp_path / "mr.dcm")[0], volume * slopes)


def test_enhanced_mr_may_be_compressed_but_not_beyond_bounds(tmp_path: Path, rng: Any) -> None:
    volume = rng.integers(0, 3000, (8, 6, 5))
    write_enhanced(tmp_path / "mr.dcm", volume)
    dataset = pydicom.dcmread(tmp_path / "mr.dcm")
    dataset.compress(pydicom.uid.RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    np.testing.assert_array_equal(load(tmp_path / "rle.dcm")[0], volume)
    dataset.decompress()
    dataset.compress(pydicom.uid.JPEGLSLossless)
    dataset.save_as(tmp_path / "ls.dcm")
    with pytest.raises(ValueError, match=r"stored as JPEG-LS Lossless .* decompress it first"):
        load(tmp_path / "ls.dcm")


def test_frames_without_place_are_refused(tmp_path: Path, rng: Any) -> None:
    volume = rng.integers(0, 3000, (8, 6, 1))
    write_series(tmp_path / "us", volume, NumberOfFrames=4, PixelData=bytes(8 * 6 * 2 * 4))
    with pytest.raises(ValueError, match="its 4 frames do not say where they lie"):
        load(tmp_path / "us")


def test_multi_frame_without_pydicom_names_what_to_install(
    tmp_path: Path, rng: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_enhanced(tmp_path / "mr.dcm", rng.integers(0, 99, (8, 6, 5)))
    monkeypatch.setitem(__import__("sys").modules, "pydicom", None)
    with pytest.raises(ValueError, match=r"pydicom reads: pip install 'unet-med\[dicom\]'"):
        load(tmp_path / "mr.dcm")


def test_folders_of_series_are_listed_as_images(tmp_path: Path, hounsfield: np.ndarray) -> None:
    (tmp_path / "labels").mkdir()
    for k, name in enumerate(("1.2.840.7", "1.2.840.8")):
        write_series(tmp_path / "cohort" / name, hounsfield, series=f"1.2.826.7.{k + 1}")
        save_image(tmp_path / "labels" / f"{name}.nii.gz", hounsfield > 0, has_channels=False)
    one = tmp_path / "cohort" / "1.2.840.7"
    assert find_images(one) == [{"image": str(one)}]
    assert [item["image"] for item in find_images(tmp_path / "cohort")] == [
        str(one), str(one.with_name("1.2.840.8"))
    ]  # fmt: skip
    pairs = find_pairs(tmp_path / "cohort", tmp_path / "labels")
    assert [Path(pair["label"]).name for pair in pairs] == ["1.2.840.7.nii.gz", "1.2.840.8.nii.gz"]


@pytest.mark.parametrize("stated", [True, False])
def test_a_radiograph_lies_nowhere(tmp_path: Path, hounsfield: np.ndarray, stated: bool) -> None:
    """It states the size of its pixels alone, and is turned no more than the same as PNG."""
    (file,) = write_series(tmp_path, hounsfield[..., :1])
    dataset = pydicom.dcmread(file)
    if not stated:
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
    dataset.save_as(file)
    header = load_header(file)
    assert header.spacing_source == ("header" if stated else "spacing")
    assert Grid.of(header, "x").oriented == stated
    assert header.pixel_size == pytest.approx((0.7, 0.8, 1.0))


def test_a_picture_hides_no_series(
    tmp_path: Path, hounsfield: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """Patients' folders beside an image of another format are images as it is."""
    for k, name in enumerate(("p1", "p2")):
        write_series(tmp_path / name, hounsfield, series=f"1.2.826.7.{k + 1}")
    picture = save_image(tmp_path / "screenshot.png", np.zeros((1, 4, 4), np.uint8))
    (tmp_path / "p7").mkdir()
    write_series(tmp_path / "p8" / "study", hounsfield)
    (tmp_path / ".cache").mkdir()
    images = [str(tmp_path / "p1"), str(tmp_path / "p2"), str(picture)]
    assert [item["image"] for item in find_images(tmp_path)] == images
    assert f"{tmp_path}: 2 folder(s) in it are passed over, such as p7" in caplog.text
    for name in ("p1", "p2"):  # as `predict cohort --output cohort` leaves them
        save_image(tmp_path / f"{name}_mask.nii.gz", hounsfield > 0, has_channels=False)
    assert [item["image"] for item in find_images(tmp_path)] == images


def test_a_series_beside_images_of_other_formats_is_refused(
    tmp_path: Path, hounsfield: np.ndarray
) -> None:
    first, *_ = sorted(write_series(tmp_path / "p1", hounsfield))
    mask = save_image(tmp_path / "p1" / "p1_mask.nii.gz", hounsfield > 0, has_channels=False)
    assert find_images(tmp_path / "p1") == [{"image": str(tmp_path / "p1")}]
    assert image_files(tmp_path / "p1") == [tmp_path / "p1", mask]  # for `evaluate`
    save_image(tmp_path / "p1" / "thumbnail.png", np.zeros((1, 4, 4), np.uint8))
    words = rf"holds DICOM files, such as {first.name}, beside thumbnail.png: keep the series in"
    with pytest.raises(ValueError, match=words):
        find_images(tmp_path / "p1")


def test_a_ct_without_a_scale_is_said(
    tmp_path: Path, hounsfield: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "scaled", hounsfield)
    for file in write_series(tmp_path / "bare", hounsfield):
        dataset = pydicom.dcmread(file)
        del dataset.RescaleIntercept, dataset.RescaleSlope
        dataset.save_as(file)
    with caplog.at_level(logging.WARNING):
        for name in ("scaled", "bare", "bare"):
            image = load_image(tmp_path / name)
    np.testing.assert_array_equal(image[0].numpy(), hounsfield + 1024)
    said = [record.message for record in caplog.records if "RescaleIntercept" in record.message]
    assert said == [
        f"{tmp_path / 'bare'}: a CT without RescaleIntercept: its values are taken as they are "
        "stored, which may be no Hounsfield units"
    ]


def test_the_contents_of_a_disc_are_no_slice(tmp_path: Path, hounsfield: np.ndarray) -> None:
    """Its series lie in folders beside `DICOMDIR`."""
    write_series(tmp_path / "disc" / "IMAGES", hounsfield)
    (tmp_path / "disc" / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 100)
    images = tmp_path / "disc" / "IMAGES"
    assert find_images(str(tmp_path / "disc")) == [{"image": str(images)}]
    (tmp_path / "disc" / "DICOMDIR").rename(images / "DICOMDIR")
    np.testing.assert_array_equal(load_image(images)[0].numpy(), hounsfield)


def test_contours_are_called_by_their_name(tmp_path: Path, hounsfield: np.ndarray) -> None:
    (file, *_) = write_series(tmp_path / "ct", hounsfield)
    dataset = pydicom.dcmread(file)
    del dataset.PixelData, dataset.Rows
    kind = "1.2.840.10008.5.1.4.1.1.481.3"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
    dataset.Modality = "RTSTRUCT"
    dataset.save_as(tmp_path / "rt.dcm")
    with pytest.raises(ValueError, match=r"rt\.dcm is an RTSTRUCT, which is not read; make DICOM"):
        load_header(tmp_path / "rt.dcm")


def test_a_dicom_seg_among_results_is_no_series(tmp_path: Path, hounsfield: np.ndarray) -> None:
    mask = save_image(tmp_path / "p1_mask.nii.gz", hounsfield > 0, has_channels=False)
    (file,) = write_series(tmp_path / "ct", hounsfield[..., :1])
    file.rename(tmp_path / "p1_seg.dcm")
    file.parent.rmdir()
    assert image_files(tmp_path) == [mask]


def test_a_file_without_suffix_is_read_and_keeps_its_name(
    tmp_path: Path, hounsfield: np.ndarray
) -> None:
    (file,) = write_series(tmp_path / "ct", hounsfield[..., :1])
    plain = file.rename(tmp_path / "1.2.826.7.5")
    assert is_series(plain)
    np.testing.assert_array_equal(load_image(plain)[0].numpy(), hounsfield[..., :1])
    assert find_images(str(plain)) == [{"image": str(plain)}]
    assert stem(plain) == "1.2.826.7.5"


def test_the_header_says_how_images_were_taken(tmp_path: Path, hounsfield: np.ndarray) -> None:
    folders = []
    for k, modality in enumerate(["CT", "CT", "MR"]):
        folders.append(str(tmp_path / str(k)))
        write_series(tmp_path / str(k), hounsfield[..., :2], Modality=modality)
    assert headers_modality(folders[:2]) == ("ct",)
    assert headers_modality([[folders[0], folders[2]]]) == ("ct", "mr")
    assert headers_modality(folders) == ()  # they differ
    assert headers_modality(["a.tif"]) == headers_modality([]) == ()


def test_the_chosen_series_says_how_it_was_taken(tmp_path: Path, hounsfield: np.ndarray) -> None:
    """The PET of a folder that holds its CT too, which comes first, is none."""
    pet = write_series(tmp_path / "pet", hounsfield, series="1.2.826.8.2", Modality="PT")
    write_series(tmp_path / "both", hounsfield, series="1.2.826.8.1")
    for file in pet:
        file.rename(tmp_path / "both" / f"PET_{file.name}")
    both = [str(tmp_path / "both")]
    assert headers_modality(both, "1.2.826.8.2") == ("pt",)
    assert headers_modality(both, "1.2.826.8.1") == ("ct",)
