"""NIfTI: unit, orientation and bits survive; ITK sees the same place and size."""

from __future__ import annotations

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from monai.data import NibabelReader
from monai.transforms import LoadImage, Orientation, SaveImage
from strategies import images_with_spacing

from unet_med.data import NiftiReader, load_image
from unet_med.data.nifti_writer import write_nifti
from unet_med.data.tiff_reader import TiffReader
from unet_med.data.tiff_writer import write_tiff
from unet_med.transforms import SaveImageResultd

OBLIQUE = np.array([[0, -0.5, 0, 7], [0.25, 0, 0, -3], [0, 0, -2, 11], [0, 0, 0, 1]])


def load(path, reader=None):
    reader = reader or NiftiReader()
    return reader.get_data(reader.read(str(path)))


def save_with_unit(path, array, unit, affine=None):
    image = nib.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)


@pytest.mark.parametrize(
    ("unit", "expected", "factor"),
    [("micron", "um", 1), ("mm", "mm", 1), ("meter", "mm", 1000), ("unknown", "mm", 1)],
)
def test_the_unit_of_the_header_is_honoured(tmp_path, rng, unit, expected, factor):
    array = rng.random((3, 4, 5)).astype(np.float32)
    save_with_unit(tmp_path / "a.nii", array, unit, OBLIQUE)
    ours, meta = load(tmp_path / "a.nii")
    np.testing.assert_array_equal(ours, array)
    np.testing.assert_allclose(meta["affine"], np.diag([factor, factor, factor, 1]) @ OBLIQUE)
    assert meta["spatial_unit"] == expected
    assert meta["spacing_source"] == "nifti"
    assert meta["spatial_shape"] == [3, 4, 5]


@given(images_with_spacing())
def test_round_trip_keeps_bits_dtype_pixel_size_and_unit(tmp_path_factory, case):
    array, spacing = case
    path = tmp_path_factory.mktemp("nifti") / "a.nii"
    write_nifti(path, array, np.diag([*spacing, 1.0]), "um")
    ours, meta = load(path)
    np.testing.assert_array_equal(ours.reshape(array.shape), array)
    assert ours.dtype == array.dtype
    expected = [*spacing, 1.0][:3]
    np.testing.assert_allclose(torch.diag(meta["affine"])[:3], expected, rtol=1e-7)  # a float32
    assert meta["spatial_unit"] == "um"


@given(images_with_spacing())
def test_tiff_and_nifti_of_one_volume_load_equal(tmp_path_factory, case):
    array, spacing = case
    array = array[:1] if array.ndim == 3 else array  # NIfTI keeps its third axis for space
    folder = tmp_path_factory.mktemp("both")
    affine = np.diag([*spacing, 1.0])
    write_nifti(folder / "a.nii", array, affine)
    write_tiff(folder / "a.tif", array, affine)
    first, nifti = load(folder / "a.nii")
    second, tiff = load(folder / "a.tif", TiffReader())
    np.testing.assert_array_equal(first, second)
    assert first.dtype == second.dtype
    torch.testing.assert_close(nifti["affine"], tiff["affine"], rtol=1e-7, atol=0)
    for key in ("spatial_shape", "spatial_unit", "space"):
        assert nifti[key] == tiff[key]
    np.testing.assert_equal(nifti["original_channel_dim"], tiff["original_channel_dim"])


@pytest.mark.parametrize(("unit", "millimetres"), [("um", 1e-3), ("mm", 1.0)])
def test_itk_sees_the_same_place_size_and_values(tmp_path, rng, unit, millimetres):
    import SimpleITK as sitk

    array = rng.integers(0, 999, (1, 3, 4, 5)).astype(np.int16)
    write_nifti(tmp_path / "a.nii.gz", array, OBLIQUE, unit)
    image = sitk.ReadImage(str(tmp_path / "a.nii.gz"))
    for voxel in ([0, 0, 0], [2, 3, 4], [1, 0, 3]):
        x, y, z = image.TransformIndexToPhysicalPoint(voxel)
        ours = (OBLIQUE @ [*voxel, 1])[:3] * millimetres
        np.testing.assert_allclose([-x, -y, z], ours, rtol=1e-5)  # ITK is LPS
        assert image.GetPixel(voxel) == array[0][tuple(voxel)]


ROTATED = np.diag([0.5, 0.25, 2.0, 1.0])
ROTATED[:3, :3] = [[0.47, -0.0855, 0], [0.171, 0.235, 0], [0, 0, 2.0]]
ROTATED[:3, 3] = 3, 4, 5
SHEARED = ROTATED @ (np.eye(4) + np.outer([0.3, 0, 0, 0], [0, 1, 0, 0]))
PLAIN = np.diag([0.5, 0.25, 2.0, 1.0])


def place_by_itk(path):
    """Origin, spacing and direction; nothing where ITK refuses the file."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return []
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(True)
    return [*image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()]


@pytest.mark.parametrize("unit", ["mm", "micron", "meter", "unknown"])
@pytest.mark.parametrize(
    ("sform", "qform"),
    [(ROTATED, ROTATED), (None, ROTATED), (ROTATED, None), (None, None), (ROTATED, PLAIN),
     (SHEARED, ROTATED), (SHEARED, None), (OBLIQUE, OBLIQUE)],
)  # fmt: skip
def test_results_lie_over_the_input_in_itk_and_nibabel(tmp_path, unit, sform, qform):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    image = nib.Nifti1Image(array, None)
    image.header.set_xyzt_units(unit)
    image.header["pixdim"][1:4] = 0.5, 0.25, 2.0
    image.set_sform(sform, code=0 if sform is None else 4)
    image.set_qform(qform, code=0 if qform is None else 1)
    nib.save(image, tmp_path / "a.nii.gz")
    item = {"image": load_image(tmp_path / "a.nii.gz")}
    item["mask"] = item["image"] > 30
    SaveImageResultd("mask", tmp_path)(item)
    result = tmp_path / "a_mask.nii.gz"
    if unit != "meter" or (sform is qform and sform is not None):  # metres are written as mm
        expected = place_by_itk(tmp_path / "a.nii.gz")
        assert place_by_itk(result) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    factor = 1000 if unit == "meter" else 1
    np.testing.assert_allclose(
        nib.load(result).affine[:3], nib.load(tmp_path / "a.nii.gz").affine[:3] * factor, rtol=1e-5
    )
    np.testing.assert_array_equal(nib.load(result).dataobj, array > 30)


def test_a_sform_wins_over_pixdim(tmp_path):
    image = nib.Nifti1Image(np.zeros((3, 4, 5)), None)
    image.set_sform(ROTATED, code=1)  # pixdim stays at 1, and MONAI would trust that
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(load(tmp_path / "a.nii")[1]["affine"], ROTATED, rtol=1e-6)


@pytest.mark.parametrize(("side", "kind"), [(32767, nib.Nifti1Image), (32768, nib.Nifti2Image)])
def test_a_side_that_16_bits_do_not_hold(tmp_path, side, kind):
    """A section of tissue, or a NIfTI-2 that was predicted, has more than NIfTI-1 counts."""
    array = np.arange(side, dtype=np.uint16).reshape(1, side, 1)
    write_nifti(tmp_path / "a.nii", array, np.diag([0.5, 0.5, 1, 1]), "um")
    write_nifti(tmp_path / "b.nii.gz", array, like=tmp_path / "a.nii")
    assert type(nib.load(tmp_path / "a.nii")) is type(nib.load(tmp_path / "b.nii.gz")) is kind
    image = load_image(tmp_path / "a.nii")
    np.testing.assert_array_equal(image.numpy(), array)
    assert (image.affine[0, 0], image.meta["spatial_unit"]) == (0.5, "um")


def test_a_two_dimensional_image_stays_one(tmp_path, rng):
    array = rng.random((1, 6, 5)).astype(np.float32)
    write_nifti(tmp_path / "a.nii", array, np.diag([0.25, 0.5, 1.0]))  # 3x3
    ours, meta = load(tmp_path / "a.nii")
    np.testing.assert_array_equal(ours, array[0])
    np.testing.assert_array_equal(meta["affine"], np.diag([0.25, 0.5, 1, 1]))
    write_nifti(tmp_path / "c.nii", np.concatenate([array, array + 1]))
    ours, _ = load(tmp_path / "c.nii")
    np.testing.assert_array_equal(ours[..., 0], np.concatenate([array, array + 1]))  # (C, X, Y, 1)


def test_big_endian_scaled_and_five_axes(tmp_path, rng):
    array = rng.integers(0, 99, (3, 4, 5, 1, 2)).astype(np.int16)  # a vector image
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(array, np.eye(4), header), tmp_path / "a.nii")
    ours, meta = load(tmp_path / "a.nii")
    np.testing.assert_array_equal(ours, np.moveaxis(array[:, :, :, 0], -1, 0))
    assert ours.dtype.isnative
    assert meta["original_channel_dim"] == 0
    scaled = nib.Nifti1Image(array[..., 0, 0], np.eye(4))
    scaled.header.set_slope_inter(0.5, 10)
    nib.save(scaled, tmp_path / "b.nii")
    np.testing.assert_array_equal(load(tmp_path / "b.nii")[0], array[..., 0, 0] * 0.5 + 10)


def test_options_of_monais_reader_still_work(tmp_path, rng):
    save_with_unit(tmp_path / "a.nii", rng.random((3, 4, 5)), "micron", OBLIQUE)
    ours, meta = load(tmp_path / "a.nii", NiftiReader(as_closest_canonical=True))
    assert nib.aff2axcodes(meta["affine"].numpy()) == ("R", "A", "S")
    assert ours.shape == (4, 3, 5)
    assert isinstance(NiftiReader(), NibabelReader)


# --- refusals


def refused(path, match, **options):
    with pytest.raises(ValueError, match=match) as caught:
        load(path, NiftiReader(**options))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_image_is_refused_in_one_sentence(tmp_path, rng):
    (tmp_path / "text.nii").write_text("nothing")
    refused(tmp_path / "text.nii", "as NIfTI")
    (tmp_path / "text.nii.gz").write_bytes(gzip.compress(b"nothing"))
    refused(tmp_path / "text.nii.gz", "as NIfTI")
    packed = np.zeros((2, 3, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(packed, np.eye(4)), tmp_path / "rgb.nii")
    refused(tmp_path / "rgb.nii", "packed RGB")
    nib.save(nib.Nifti1Image(np.zeros(5), np.eye(4)), tmp_path / "line.nii")
    refused(tmp_path / "line.nii", "not 2 or 3 spatial axes")
    broken = np.eye(4)
    broken[0, 3] = np.nan
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4)), broken), tmp_path / "nan.nii")
    refused(tmp_path / "nan.nii", "not finite")
    with pytest.raises(FileNotFoundError, match=r"none\.nii does not exist"):
        load(tmp_path / "none.nii")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_truncated_file_is_refused(tmp_path, rng, suffix):
    path = tmp_path / f"a{suffix}"
    write_nifti(path, rng.random((1, 20, 20, 9)))
    content = path.read_bytes()
    for length in (0, 100, 400, len(content) // 2, len(content) - 30):
        path.write_bytes(content[:length])
        refused(path, "as NIfTI")


def test_a_header_that_claims_too_much_is_refused_before_reading(tmp_path):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((30000, 30000, 30000))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(14))
    refused(tmp_path / "a.nii", r"declares 2\.7e\+04 GB")
    write_nifti(tmp_path / "b.nii", np.zeros((1, 10, 10, 10), np.uint8))
    load(tmp_path / "b.nii", NiftiReader(max_bytes=1000))
    refused(tmp_path / "b.nii", "max_bytes", max_bytes=999)


def test_writing_refuses_other_units_and_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="unit 'ft'"):
        write_nifti(tmp_path / "a.nii", np.zeros((1, 3, 4)), np.eye(4), "ft")
    with pytest.raises(ValueError, match="samples of type complex"):
        write_nifti(tmp_path / "a.nii", np.zeros((1, 3, 4), complex))
    assert list(tmp_path.iterdir()) == []


# --- inside MONAI


def test_monai_saves_with_unit_and_orientation(tmp_path, rng):
    labels = rng.integers(0, 300, (1, 3, 4, 5))
    write_nifti(tmp_path / "a.nii.gz", labels, OBLIQUE, "um")
    read = LoadImage(reader="unet_med.data.NiftiReader", ensure_channel_first=True, dtype=np.int64)
    turned = Orientation(axcodes="RAS", labels=None)(read(tmp_path / "a.nii.gz"))
    save = SaveImage(
        output_dir=tmp_path, writer="unet_med.data.NiftiWriter", resample=True,
        separate_folder=False, print_log=False,
    )  # fmt: skip
    save(turned)
    again, meta = load(tmp_path / "a_trans.nii.gz")
    np.testing.assert_array_equal(again, labels[0])  # back on the source's own grid
    np.testing.assert_allclose(meta["affine"], OBLIQUE)
    assert again.dtype == np.uint16
    assert meta["spatial_unit"] == "um"


# --- real files


@pytest.mark.data
def test_conformance_files(shared):
    folder = shared / "data" / "nifti-conformance" / "nibabel"
    files = sorted(p for p in folder.iterdir() if p.name.endswith((".nii", ".nii.gz")))
    good = [p for p in files if "dconn" not in p.name]
    assert len(good) == 7
    for path in good:
        ours, meta = load(path)
        image = nib.load(path)
        theirs = np.asarray(image.dataobj)
        theirs = theirs if theirs.ndim == 3 else np.moveaxis(theirs, -1, 0)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype.newbyteorder("=")
        np.testing.assert_allclose(meta["affine"], image.affine)
    refused(folder / "row_major.dconn.nii", "Cifti2 data, not an image on a grid")


@pytest.mark.data
def test_real_orientation_agrees_with_itk(shared):
    import SimpleITK as sitk

    path = shared / "data" / "totalseg-nifti" / "example_ct_sm.nii.gz"
    ours, meta = load(path)
    image = sitk.ReadImage(str(path))
    for voxel in ([0, 0, 0], [100, 90, 20], [3, 70, 11]):
        x, y, z = image.TransformIndexToPhysicalPoint(voxel)
        np.testing.assert_allclose(
            (meta["affine"].numpy() @ [*voxel, 1])[:3], [-x, -y, z], atol=1e-3
        )
        assert image.GetPixel(voxel) == ours[tuple(voxel)]
