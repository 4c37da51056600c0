"""Segmentations as files: names, dtypes, grids, refusals."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
import torch
from image_files import load
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import LoadImaged, SaveImaged, Spacingd
from PIL import Image

from unet_med.data import save_image
from unet_med.data.changed_results import ChangedResults
from unet_med.transforms import SaveImageResultd


def segmented(path, **extra):
    """An item as it leaves an evaluator: mask of floats, instances, probabilities."""
    item = LoadImaged("image", reader="unet_med.data.AutoReader", ensure_channel_first=True)(
        {"image": str(path)}
    )
    image = item["image"]
    item["mask"] = (image > image.mean()).float()
    item["instances"] = MetaTensor(image.long() * 0 + 300, meta=image.meta)
    item["probabilities"] = torch.cat([image, 1 - image])
    return item | extra


KEYS = ["mask", "instances", "probabilities"]


@pytest.mark.parametrize(
    ("source", "extension"),
    [("a.b.ome.tif", ".tif"), ("a.b.png", ".tif"), ("a.b.nii.gz", ".nii.gz")],
)
def test_segmentations_lie_beside_each_other(tmp_path, picture, source, extension):
    path = tmp_path / source
    affine = np.diag([0.25, 0.5, 1, 1])
    if source.endswith("png"):
        Image.fromarray(picture).save(path)
    else:
        save_image(path, picture.T, affine)
    save = SaveImageResultd(KEYS, tmp_path / "out")
    assert isinstance(save, SaveImaged)
    item = segmented(path)
    assert save(item).keys() == item.keys()
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"a.b_{key}{extension}" for key in KEYS}
    dtypes = {"mask": "uint8", "instances": "uint16", "probabilities": "float32"}
    for key, dtype in dtypes.items():
        ours, meta = load(tmp_path / "out" / f"a.b_{key}{extension}")
        np.testing.assert_array_equal(ours.reshape(item[key].shape), item[key].numpy())
        assert ours.dtype == dtype
        known = not source.endswith("png")
        torch.testing.assert_close(
            meta["affine"], torch.from_numpy(affine if known else np.eye(4)), check_dtype=False
        )
        assert (meta["spacing_source"] != "assumed") == known


def test_volumes_keep_grid_orientation_and_unit(tmp_path, volume):
    affine = np.array([[0, -0.5, 0, 7], [0.25, 0, 0, -3], [0, 0, -2, 11], [0, 0, 0, 1]])
    save_image(tmp_path / "a.nii.gz", volume, affine, "mm", has_channels=False)
    data = Dataset([{"image": str(tmp_path / "a.nii.gz")}], lambda item: segmented(item["image"]))
    for batch in DataLoader(data, batch_size=1):  # metadata survives collation
        for item in decollate_batch(batch):
            SaveImageResultd(KEYS, tmp_path)(item)
    ours, meta = load(tmp_path / "a_instances.nii.gz")
    np.testing.assert_array_equal(ours, np.full(volume.shape, 300))
    np.testing.assert_allclose(meta["affine"], affine)
    assert meta["spatial_unit"] == "mm"


def test_name_parts_dtypes_and_missing_keys(tmp_path, picture):
    save_image(tmp_path / "a.tif", picture.T)
    save = SaveImageResultd(
        ["mask", "logits", "none"], tmp_path, suffixes={"mask": "classes"},
        output_dtype=[np.uint16, "float32", None], allow_missing_keys=True,
    )  # fmt: skip
    save(segmented(tmp_path / "a.tif", logits=torch.full((2, 9, 7), 0.5)))  # a plain tensor
    assert load(tmp_path / "a_classes.tif")[0].dtype == np.uint16
    np.testing.assert_array_equal(load(tmp_path / "a_logits.tif")[0], np.full((2, 9, 7), 0.5))


def test_what_cannot_be_saved_is_refused(tmp_path, picture):
    for folder in ("x", "y"):
        save_image(tmp_path / folder / "a.tif", picture.T, np.eye(4))
    save = SaveImageResultd("mask", tmp_path / "out")
    save(segmented(tmp_path / "x" / "a.tif"))
    with pytest.raises(ValueError, match=r"a_mask\.tif would be written for"):
        save(segmented(tmp_path / "y" / "a.tif"))
    save_image(tmp_path / "y" / "A.tif", picture.T, np.eye(4))
    with pytest.raises(ValueError, match=r"A_mask\.tif would be written for"):
        save(segmented(tmp_path / "y" / "A.tif"))  # on a disk that ignores case
    moved = Spacingd("image", pixdim=(2.0, 2.0))(segmented(tmp_path / "x" / "a.tif"))
    with pytest.raises(ValueError, match=r"\(5, 4\), its source \(9, 7\); undo resampling"):
        SaveImageResultd("image", tmp_path / "out")(moved)
    with pytest.raises(ValueError, match="names its file"):
        save({"mask": torch.zeros(1, 9, 7)})
    with pytest.raises(ValueError, match="values from 300 to 300 do not fit into uint8: give ano"):
        SaveImageResultd("instances", tmp_path / "out", output_dtype="uint8")(
            segmented(tmp_path / "x" / "a.tif")
        )
    with pytest.raises(ValueError, match="not integers; give a float dtype"):
        save(segmented(tmp_path / "x" / "a.tif", mask=torch.full((1, 9, 7), 0.5)))


def kept_in(folder):
    return {p.name: p.read_bytes() for p in (folder / "kept").glob("*")}


def test_what_has_changed_since_it_was_written_is_kept(tmp_path, picture, caplog):
    """A mask that somebody corrected is not written over, in the same run or in another."""
    image, out = tmp_path / "a.tif", tmp_path / "out"
    save_image(image, picture.T)
    item = segmented(image)
    SaveImageResultd(KEYS, out)(item)
    (out / "a_mask.tif").write_bytes(b"no record: nobody promised anything")
    save = SaveImageResultd(KEYS, out)
    assert "digests" not in save(item)["image"].meta
    assert kept_in(out) == {}
    written = {f"a_{key}.tif": (out / f"a_{key}.tif").read_bytes() for key in KEYS}

    (out / "record.json").write_text("{}")  # a run has claimed names, and was stopped
    save = SaveImageResultd(KEYS, out)
    digests = save(item)["image"].meta["digests"]
    assert digests.keys() == written.keys()
    assert kept_in(out) == {}  # equal, to the byte
    (out / "a_mask.tif").write_bytes(b"corrected")
    for settings in (save, SaveImageResultd(["mask"], out)):
        (out / "record.json").write_text(json.dumps({"images": {"a": {"digests": digests}}}))
        settings(item)
        assert kept_in(out) == {"a_mask.tif": b"corrected"}
        assert {name: (out / name).read_bytes() for name in written} == written
    (out / "a_mask.tif").write_bytes(b"corrected again")
    save(item)
    assert kept_in(out) == {"a_mask.tif": b"corrected", "a_mask-2.tif": b"corrected again"}
    assert [r.levelno for r in caplog.records if "by hand" in r.message] == [logging.WARNING]


def test_what_is_kept_is_said_once_in_a_run_whoever_keeps_it(tmp_path, caplog):
    """The step that writes over it, and the record that removes what nobody wrote anew."""
    (tmp_path / "record.json").write_text("{}")
    step, record = ChangedResults(tmp_path), ChangedResults(tmp_path)
    for name in ("a_mask.tif", "a_instances.tif"):
        (tmp_path / name).write_bytes(b"of a run that was stopped")
    with step.writing(tmp_path / "a_mask.tif"):
        (tmp_path / "a_mask.tif").write_bytes(b"new")
    assert record.remove({tmp_path / "a_instances.tif": None}) == []
    assert set(kept_in(tmp_path)) == {"a_mask.tif", "a_instances.tif"}
    assert caplog.text.count("kept in") == 1
    record.begin()
    (tmp_path / "b_mask.tif").write_bytes(b"corrected")
    record.remove({tmp_path / "b_mask.tif": None})
    assert caplog.text.count("kept in") == 2


def test_an_image_of_which_a_part_cannot_be_written_leaves_no_part(tmp_path, picture):
    save_image(tmp_path / "a.tif", picture.T)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a_wrong.tif").write_bytes(b"of somebody else")
    item = segmented(tmp_path / "a.tif", wrong=torch.zeros(1, 3, 3))
    with pytest.raises(ValueError, match="has spatial shape"):
        SaveImageResultd(["mask", "wrong"], out)(item)
    assert [path.name for path in out.iterdir()] == ["a_wrong.tif"]
