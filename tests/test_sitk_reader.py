"""Medical formats through SimpleITK: axes, affine, channels, DICOM series."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import META_KEYS, load, write_by_itk

from unet_med.data import SitkReader
from unet_med.data.grids import Grid


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nii", ".nii.gz"])
def test_medical_formats_agree(tmp_path, volume, suffix):
    affine = np.diag([0.5, 0.25, 2.0, 1.0])
    write_by_itk(tmp_path / f"a{suffix}", volume, affine)
    ours, meta = load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(ours, volume)
    assert ours.dtype == volume.dtype
    np.testing.assert_allclose(meta["affine"], np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)  # RAS
    assert meta["spatial_unit"] == "mm"
    assert set(meta) == META_KEYS


@pytest.mark.parametrize(
    ("lines", "unit", "factor"),
    [
        (["space: LPS", 'space units: "microns" "microns" "microns"'], "um", 1.0),
        (["space: LPS", 'space units: "nm" "nm" "nm"'], "um", 1e-3),
        (["space: LPS", 'space units: "µm" "µm" "µm"'], "um", 1.0),
        (["space: LPS", 'space units: "cm" "cm" "cm"'], "mm", 10.0),
        (["space: LPS", 'space units: "mm" "mm" "mm"'], "mm", 1.0),
        (["space: LPS", 'space units: "mm" "um" "mm"'], "mm", 1.0),  # of which ours has no word
        (["space: LPS", 'space units: "" "" ""'], "mm", 1.0),
        (["space: LPS"], "mm", 1.0),
    ],
)
def test_the_unit_of_an_nrrd_is_honoured(tmp_path, lines, unit, factor):
    """Standard: the NRRD format, `space units`, which ITK passes over."""
    head = ["NRRD0004", "type: uchar", "dimension: 3", "sizes: 4 3 2", "encoding: raw", *lines]
    head += [f"space directions: {VECTORS}", "space origin: (1,2,3)", "", ""]
    content = "\n".join(head).encode() + bytes(24)
    (tmp_path / "a.nrrd").write_bytes(content)
    meta = load(tmp_path / "a.nrrd")[1]
    affine = np.diag([-0.5, -0.25, 2.0, 1.0])
    affine[:3, 3] = [-1, -2, 3]  # LPS to RAS
    assert meta["spatial_unit"] == unit
    np.testing.assert_allclose(meta["affine"], np.diag([factor] * 3 + [1]) @ affine)


@pytest.mark.parametrize(("word", "unit", "factor"), [("um", "um", 1), ("cm", "mm", 10)])
def test_the_unit_of_a_metaimage_is_honoured(tmp_path, volume, word, unit, factor):
    """`DistanceUnits` of MetaIO, which ITK passes over."""
    write_by_itk(tmp_path / "a.mha", volume, np.diag([0.5, 0.25, 2.0, 1.0]))
    content = (tmp_path / "a.mha").read_bytes()
    stated = b"NDims = 3\nDistanceUnits = " + word.encode()
    (tmp_path / "a.mha").write_bytes(content.replace(b"NDims = 3", stated))
    pixels, meta = load(tmp_path / "a.mha")
    np.testing.assert_array_equal(pixels, volume)
    sizes = np.linalg.norm(meta["affine"], axis=0)[:3]
    np.testing.assert_allclose(sizes, np.array([0.5, 0.25, 2.0]) * factor)
    assert meta["spatial_unit"] == unit


SIZES = "0.5 0.25 2"
VECTORS = "(0.5,0,0) (0,0.25,0) (0,0,2)"


@pytest.mark.parametrize(
    ("suffix", "lines", "source"),
    [
        (".nrrd", [], "assumed"),
        (".nrrd", ["space: left-posterior-superior"], "assumed"),
        (".nrrd", ["spacings: 0.5 0.25 nan"], "assumed"),
        (".nrrd", [f"spacings: {SIZES}", "label:=spacings: 1"], "spacing"),
        (".nrrd", ["space dimension: 3", f"space directions: {VECTORS}"], "spacing"),
        (".nrrd", ["space: scanner-xyz", f"space directions: {VECTORS}"], "spacing"),
        (".nrrd", ["space: LPS", f"space directions: {VECTORS}"], "header"),
        (".nrrd", ["space: right-anterior-superior", f"space directions: {VECTORS}"], "header"),
        (".mha", [], "assumed"),
        (".mha", ["TransformMatrix = 1 0 0 0 1 0 0 0 1"], "assumed"),
        (".mha", [f"ElementSpacing = {SIZES}"], "spacing"),
        (".mha", [f"ElementSize = {SIZES}"], "spacing"),
        (".mha", [f"ElementSpacing = {SIZES}", "Offset = 1 2 3"], "header"),
        (".mha", ["TransformMatrix = 1 0 0 0 1 0 0 0 1", f"ElementSpacing: {SIZES}"], "header"),
    ],
)
def test_what_a_header_does_not_state_is_not_known(tmp_path, suffix, lines, source):
    pixels = np.arange(24, dtype=np.uint8)
    if suffix == ".nrrd":
        head = [
            "NRRD0004",
            "type: uchar",
            "dimension: 3",
            "sizes: 4 3 2",
            "encoding: raw",
            *lines,
            "",
        ]
    else:
        head = ["ObjectType = Image", "NDims = 3", "DimSize = 4 3 2", *lines]
        head += ["ElementType = MET_UCHAR", "ElementDataFile = LOCAL"]
    path = tmp_path / f"a{suffix}"
    path.write_bytes("\n".join([*head, ""]).encode() + pixels.tobytes())
    volume = SitkReader().open(path)
    np.testing.assert_array_equal(volume.array, pixels.reshape(2, 3, 4).T)
    assert volume.spacing_source == source
    assert Grid.of(volume, "a").oriented == (source == "header")
    if source != "assumed":
        assert volume.pixel_size == (0.5, 0.25, 2.0)


def test_vector_images_give_channels(tmp_path, rng):
    import SimpleITK as sitk

    array = rng.integers(0, 99, (4, 6, 5, 3)).astype(np.uint8)  # Z, Y, X, C
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.mha"))
    ours, meta = load(tmp_path / "a.mha")
    np.testing.assert_array_equal(ours, array.transpose(3, 2, 1, 0))
    assert meta["original_channel_dim"] == 0
    sitk.WriteImage(sitk.GetImageFromArray(array[0], isVector=True), str(tmp_path / "b.mha"))
    np.testing.assert_array_equal(load(tmp_path / "b.mha")[0], array[0].transpose(2, 1, 0))


def write_dicom(folder, volume, series="1.2.3", step=2.0, skip=(), shift=(0.0, 0.0), first=0.0):
    import SimpleITK as sitk

    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    folder.mkdir(exist_ok=True)
    for k in range(volume.shape[2]):
        if k in skip:
            continue
        image = sitk.GetImageFromArray(volume[:, :, k].T[None])
        image.SetSpacing([0.5, 0.25, step])
        tags = {
            "0008|0060": "CT", "0020|000e": series,
            "0020|0032": f"{k * shift[0]}\\{k * shift[1]}\\{k * step + first * (k == 0)}",
            "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(k), "0008|0018": f"{series}.{k + 1}",
        }  # fmt: skip
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}.{k}.dcm"))
        writer.Execute(image)


def test_a_dicom_series_is_one_volume(tmp_path, volume):
    write_dicom(tmp_path / "one", volume)
    ours, meta = load(tmp_path / "one")
    np.testing.assert_array_equal(ours, volume)
    np.testing.assert_allclose(meta["affine"], np.diag([-0.5, -0.25, 2.0, 1.0]))
    write_dicom(tmp_path / "one", volume + 1, series="1.2.4")
    with pytest.raises(ValueError, match=r"holds 2 DICOM series: 1\.2\.3 .*--series UID"):
        load(tmp_path / "one")
    np.testing.assert_array_equal(SitkReader("1.2.4").get_data([tmp_path / "one"])[0], volume + 1)
    with pytest.raises(ValueError, match="no DICOM series"):
        load(tmp_path)


def test_a_dicom_series_with_a_hole_is_refused(tmp_path, volume):
    write_dicom(tmp_path / "hole", volume, skip=[1])
    with pytest.raises(ValueError, match="2 to 4 mm apart"):
        load(tmp_path / "hole")


@pytest.mark.parametrize("slices", [2, 4])
@pytest.mark.parametrize("shift", [(0.5, 0.0), (0.0, -0.5)])
def test_slices_that_shift_sideways_are_refused(tmp_path, volume, slices, shift):
    write_dicom(tmp_path / "tilt", np.tile(volume, 2)[..., :slices], shift=shift)
    off = 0.5 * (slices - 1)  # mm; the tilt is arctan(0.5 / 2)
    with pytest.raises(ValueError, match=rf"tilt.* shift .* to {off:g} mm.*of 14 deg.*dcm2niix"):
        load(tmp_path / "tilt")


def test_a_shift_that_headers_round_is_none(tmp_path, volume):
    write_dicom(tmp_path / "straight", volume, shift=(0.004, -0.004))
    np.testing.assert_array_equal(load(tmp_path / "straight")[0], volume)


def test_uneven_steps_are_refused(tmp_path, volume):
    write_dicom(tmp_path / "uneven", volume, first=-0.5)
    with pytest.raises(ValueError, match=r"2 to 2\.5 mm apart"):
        load(tmp_path / "uneven")
