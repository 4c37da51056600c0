"""Pairs, stacks and splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unet_med import data
from unet_med.bundle.metadata import describe_data
from unet_med.data.cases import files_of
from unet_med.data.channels import group_channels
from unet_med.data.checksum import sha256
from unet_med.data.datalist import look_for_images, look_for_pairs
from unet_med.data.planned_pairs import pairs_of_plan


def write_png(path: Path, shape: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros(shape, np.uint8)).save(path)
    return path


def test_pairs_by_name_whatever_the_suffix(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_png(tmp_path / "images" / f"{name}.png")
        write_png(tmp_path / "labels" / f"{name}.bmp")
    (tmp_path / "images" / "notes.txt").write_text("no image")
    pairs = data.find_pairs(tmp_path / "images", tmp_path / "labels")
    assert [(Path(p["image"]).name, Path(p["label"]).name) for p in pairs] == [
        ("a.png", "a.bmp"),
        ("b.png", "b.bmp"),
    ]


def test_a_folder_of_ome_zarr_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    pixels = np.arange(48, dtype=np.uint8).reshape(1, 8, 6)
    image = data.save_image(tmp_path / "images" / "a.ome.zarr", pixels)
    label = data.save_image(tmp_path / "labels" / "a.zarr", pixels)
    item = {"image": str(image), "label": str(label)}
    assert data.find_pairs(tmp_path / "images", tmp_path / "labels") == [item]
    assert data.find_pairs(image, label) == [item]
    assert data.find_images([image]) == [{"image": str(image)}]


def test_missing_label_names_the_image(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    write_png(tmp_path / "labels" / "b.png")
    with pytest.raises(ValueError, match=r"image a\.png has no label of the same name"):
        data.find_pairs(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            ["a1.png", "b2.png", "c3.png"],
            ["a1_mask.png", "b2_mask.png"],
            r"image c3\.png has no label in .*: expected c3_mask\.png, for example, as 2 of 3 "
            r"images have labels that end in _mask; .*; 1 of 3 images lack theirs: annotate them",
        ),
        (
            ["a_DAPI.png", "b_DAPI.png", "c_DAPI.png"],
            ["a_mask.png", "c_mask.png"],
            r"image b_DAPI\.png has no label in .*: expected b_mask\.png",
        ),
        (
            ["a1.png", "b2.png", "c3.png"],
            ["a1_mask.png", "b2_mask.png", "c3_masks.png"],
            r"expected c3_mask\.png.*; the nearest is c3_masks\.png",
        ),
        (["a.png", "b.png", "c.png"], ["a.png", "c.png", "d.png"], r"b\.png has no label of the "),
        (
            ["A.png"],
            ["a.png"],
            r"image A\.png has no label .*; the nearest is a\.png; name labels as",
        ),
    ],
)
def test_the_image_that_lacks_a_label_is_named(
    tmp_path: Path, images: list[str], labels: list[str], message: str
) -> None:
    folders = touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels)
    with pytest.raises(ValueError, match=message):
        data.find_pairs(*folders)


def test_two_images_of_one_name(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.png", "a.tif")
    labels = touch(tmp_path / "labels", "a.png")
    with pytest.raises(ValueError, match=r"two images of one name, a\.png and a\.tif"):
        data.find_pairs(images, labels)


def test_two_labels_of_one_name(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    write_png(tmp_path / "labels" / "a.png")
    write_png(tmp_path / "labels" / "a.bmp")
    with pytest.raises(ValueError, match="two labels of one name"):
        data.find_pairs(tmp_path / "images", tmp_path / "labels")


def test_empty_and_absent_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no images"):
        data.find_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        data.find_images(tmp_path / "nowhere")


def test_a_folder_of_folders_of_images_names_one(tmp_path: Path) -> None:
    for name in ("notes/read.me", "plate1/a.tif", "plate2/b.tif"):
        touch((tmp_path / "images" / name).parent, Path(name).name)
    with pytest.raises(
        ValueError, match=r"folders, such as plate1: name one, \S+images/plate1 \(`predict` takes"
    ):
        data.find_images(tmp_path / "images")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.zip", r"but outlines, such as a\.zip: make label images of them with unet"),
        ("b.geojson", r"but outlines, such as b\.geojson: make label"),
        ("a.oib", r"holds no images \(\.tif .*\), but \.oib: save other images as TIFF, in Fiji"),
        ("a_seg.npy", r"but what cellpose keeps for itself, such as a_seg\.npy: let it save"),
    ],
)
def test_what_programs_leave_in_place_of_labels(tmp_path: Path, name: str, message: str) -> None:
    images = touch(tmp_path / "images", "a.png")
    np.save(tmp_path / "masks.npy", {"masks": np.zeros(3)}, allow_pickle=True)  # type: ignore[arg-type]
    (tmp_path / "labels").mkdir()
    (tmp_path / "masks.npy").rename(tmp_path / "labels" / name)
    with pytest.raises(ValueError, match=message):
        data.find_pairs(images, tmp_path / "labels")


def test_a_file_that_is_no_image_is_told_what_to_become(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a\.svs has no suffix .*: save other images as TIFF, in"):
        data.find_images(touch(tmp_path, "a.svs") / "a.svs")


@pytest.mark.parametrize(
    ("left", "said"),
    [
        ("a_seg.npy", "what cellpose keeps for itself, such as a_seg.npy: let it save the masks"),
        ("a.zip", "outlines, such as a.zip: make label images of them with unet-med labels"),
    ],
)
def test_what_lies_beside_images_in_place_of_labels_is_said(
    tmp_path: Path, left: str, said: str
) -> None:
    write_png(tmp_path / "a.png")
    np.save(tmp_path / "a_seg.npy", {"masks": 0}, allow_pickle=True)
    if left != "a_seg.npy":
        (tmp_path / "a_seg.npy").rename(tmp_path / left)
    with pytest.raises(ValueError, match=f"names no labels: .* as a_mask.tif; it holds {said}"):
        data.find_pairs(tmp_path)


def test_folders_of_a_case_each_and_outlines_in_json_are_named(tmp_path: Path) -> None:
    for part in ("images", "masks"):  # as the Data Science Bowl 2018 has them
        write_png(tmp_path / "set" / "c01" / part / "a.png")
    said = r"set holds no images of its own, but folders of folders, such as c01/images: put the"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(tmp_path / "set", tmp_path / "set")
    (tmp_path / "coco.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(
        ValueError, match=r"coco\.json is JSON, and labels are images: .* of COCO's"
    ):
        data.find_pairs(tmp_path / "set/c01/images", tmp_path / "coco.json")


def test_no_labels_given(tmp_path: Path) -> None:
    write_png(tmp_path / "images" / "a.png")
    with pytest.raises(ValueError, match="names no labels"):
        data.find_pairs(tmp_path / "images")


def test_stack_becomes_planes(tmp_path: Path) -> None:
    import tifffile

    for name in ("image", "label"):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.zeros((3, 8, 6), np.uint8), photometric="minisblack"
        )
    pairs = data.find_pairs(tmp_path / "image.tif", tmp_path / "label.tif", stacks=True)
    assert [p["slice"] for p in pairs] == [0, 1, 2]
    assert {Path(p["label"]).name for p in pairs} == {"label.tif"}
    whole = data.find_pairs(tmp_path / "image.tif", tmp_path / "label.tif")
    assert len(whole) == 1
    assert "slice" not in whole[0]


def test_monai_data_list(tmp_path: Path) -> None:
    write_png(tmp_path / "x" / "a.png")
    write_png(tmp_path / "x" / "a_label.png")
    listing = {"training": [{"image": "x/a.png", "label": "x/a_label.png", "fold": 0}]}
    (tmp_path / "list.json").write_text(json.dumps(listing))
    (pair,) = data.find_pairs(tmp_path / "list.json")
    assert pair["label"] == str(tmp_path / "x" / "a_label.png")
    assert pair["fold"] == 0


def names(pairs: list[dict]) -> list[tuple]:
    """Names of image and label of each pair; of an image of several files all of them."""
    listed = [p["image"] if isinstance(p["image"], list) else [p["image"]] for p in pairs]
    return [
        (*(Path(file).name for file in files), Path(p["label"]).name)
        for files, p in zip(listed, pairs, strict=True)
    ]


def touch(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_what_systems_leave_in_a_folder_is_no_image(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "x.png", "._x.png", ".DS_Store", "Thumbs.db", ".hidden.tif")
    (folder / "folder.png").mkdir()
    assert data.find_images(folder) == [{"image": str(folder / "x.png")}]
    labels = touch(tmp_path / "b", "x.tif", "._x.tif")
    assert names(data.find_pairs(folder, labels)) == [("x.png", "x.tif")]


def test_a_link_without_target_is_an_image_that_fails_later(tmp_path: Path) -> None:
    folder = touch(tmp_path / "a", "x.png")
    (folder / "y.png").symlink_to(tmp_path / "gone.png")
    found = [item["image"] for item in data.find_images(folder)]
    assert found == [str(folder / "x.png"), str(folder / "y.png")]
    assert [item["image"] for item in data.find_images(found)] == found
    with pytest.raises(FileNotFoundError, match=r"z\.png does not exist"):
        data.find_images([folder / "z.png"])


def test_results_of_a_prediction_are_no_images(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "a",
        "x.png",
        "x_mask.tif",
        "x_instances.tif",
        "x_probabilities.tif",
        "y_mask.tif",
    )
    assert [Path(i["image"]).name for i in data.find_images(folder)] == ["x.png", "y_mask.tif"]
    (folder / "record.json").write_text(json.dumps({"images": {"y": {}}}))
    assert [Path(i["image"]).name for i in data.find_images(folder)] == ["x.png"]
    (folder / "x.png").unlink()
    (folder / "record.json").write_text(json.dumps({"images": {"x": {}, "y": {}}}))
    with pytest.raises(ValueError, match="holds results of a prediction, and no images"):
        data.find_images(folder)


def predicted(folder: Path, *results: str) -> None:
    """A record beside results, as they lie there."""
    written = {
        name.rpartition("_")[0]: {"digests": {name: sha256(folder / name)}} for name in results
    }
    (folder / "record.json").write_text(json.dumps({"images": written}))


def test_nobody_learns_from_results_that_merely_lie_beside_their_images(tmp_path: Path) -> None:
    images = [write_png(tmp_path / f"{name}.png") for name in "abc"]
    results = [write_png(tmp_path / f"{name}_mask.png") for name in "abc"]
    predicted(tmp_path, "a_mask.png", "b_mask.png", "c_mask.png")
    said = r"3 label\(s\) are what a prediction wrote, such as a_mask\.png, and nobody has changed"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(tmp_path)
    for result in results[:2]:
        write_png(result, (6, 8))  # corrected
    with pytest.raises(ValueError, match=r"1 label\(s\) are .* such as c_mask\.png"):
        data.find_pairs(tmp_path)
    write_png(results[2], (6, 8))
    assert names(data.find_pairs(tmp_path)) == [
        (image.name, result.name) for image, result in zip(images, results, strict=True)
    ]


def test_results_that_somebody_names_as_labels_are_told_where_some_are_corrected(
    tmp_path: Path,
) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    results = tmp_path / "results"
    for name in "ab":
        write_png(results / f"{name}_mask.png")
    predicted(results, "a_mask.png", "b_mask.png")
    with pytest.raises(ValueError, match=r"2 label\(s\) are what a prediction wrote"):
        look_for_pairs(images, results)
    write_png(results / "a_mask.png", (6, 8))
    found = look_for_pairs(images, results)
    assert len(found.items) == 2
    assert found.notes[-1] == (
        "1 label(s) are what a prediction wrote, such as b_mask.png: are they right as they are?"
    )
    (results / "record.json").unlink()  # nothing is known of them
    assert len(look_for_pairs(images, results).notes) == 1


def test_a_shell_that_lists_results_among_images_makes_none_of_results(tmp_path: Path) -> None:
    files = [write_png(tmp_path / f"{name}.png") for name in ("a", "a_mask", "b", "b_mask")]
    predicted(tmp_path, "a_mask.png")
    found = look_for_images(files)
    assert [Path(item["image"]).name for item in found.items] == ["a.png", "b.png", "b_mask.png"]
    assert found.notes == (
        "1 file(s) are results of a prediction, and passed over, such as a_mask.png",
    )
    assert look_for_images(files[1]).items == [{"image": str(files[1])}]
    assert len(look_for_images(files[1:2]).items) == 1


@pytest.mark.parametrize(
    ("images", "labels", "how"),
    [
        (["a.png", "b.png"], ["a_mask.png", "b_mask.png"], "the labels' names end in _mask"),
        (["a.png"], ["a-cp_masks.png"], "the labels' names end in -cp_masks"),
        (["a.png"], ["a_seg.png", "b_seg.png"], "the labels' names end in _seg"),
        (["a.png", "b.png"], ["a_l.tif", "b_l.tif"], "the labels' names end in _l"),
        (
            ["a_img.png", "b_img.png"],
            ["a_gt.png", "b_gt.png"],
            "the images' names end in _img; the labels' names end in _gt",
        ),
        (
            ["a_0000.nii.gz", "b_0000.nii.gz"],
            ["a.nii.gz", "b.nii.gz"],
            "images' names end in _0000",
        ),
    ],
)
def test_labels_with_a_common_ending(
    tmp_path: Path, images: list[str], labels: list[str], how: str
) -> None:
    from unet_med.data.datalist import look_for_pairs

    folders = touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels)
    found = look_for_pairs(*folders)
    assert names(found.items) == list(zip(images, labels, strict=False))
    assert found.notes[0].endswith(how)


@pytest.mark.parametrize(
    ("own", "labels", "begins"),
    [
        (["t000", "t001"], ["man_seg000", "man_seg001"], ("t", "man_seg")),  # Cell Tracking
        (["img_1", "img_11"], ["label_1", "label_11"], ("img_", "label_")),
        (["raw-a1", "raw-b1"], ["GT-a1", "GT-b1"], ("raw-", "gt-")),
        (["img_ctrl_1"], ["mask_ctrl_1"], ("img_", "mask_")),
    ],
)
def test_images_and_labels_with_a_beginning_each(
    tmp_path: Path, own: list[str], labels: list[str], begins: tuple[str, str]
) -> None:
    from unet_med.data.datalist import look_for_pairs

    files = [[f"{name}.png" for name in each] for each in (own, labels)]
    found = look_for_pairs(touch(tmp_path / "i", *files[0]), touch(tmp_path / "l", *files[1]))
    assert names(found.items) == list(zip(*files, strict=True))
    images, truths = begins
    assert [note.lower() for note in found.notes] == [
        f"the images' names begin with {images!r}, the labels' with {truths!r}"
    ]


@pytest.mark.parametrize(
    ("own", "labels"),
    [
        (["day1_1", "day1_2"], ["day2_label_1", "day2_label_2"]),  # digits are never passed over
        (["img_a1", "img_a2"], ["label_b1", "label_b2"]),
        (["img_1", "img_2"], ["cell_1", "cell_2"]),  # says nothing of labels
        (["img_1", "img_2"], ["label_1", "label_2", "mask_1", "mask_2"]),  # either
        (["img", "image"], ["label", "label_age"]),  # parts of words
    ],
)
def test_other_beginnings_pair_nothing(tmp_path: Path, own: list[str], labels: list[str]) -> None:
    images = touch(tmp_path / "images", *(f"{name}.png" for name in own))
    with pytest.raises(ValueError, match="has no label of the same name"):
        data.find_pairs(images, touch(tmp_path / "labels", *(f"{name}.png" for name in labels)))


@pytest.mark.parametrize("begin", ["mask_", "Mask of ", "seg-"])
def test_labels_with_a_common_beginning(tmp_path: Path, begin: str) -> None:
    from unet_med.data.datalist import look_for_pairs

    images = touch(tmp_path / "images", "cell 1.png", "cell 11.png")
    labels = touch(tmp_path / "labels", f"{begin}cell 1.png", f"{begin}cell 11.png")
    found = look_for_pairs(images, labels)
    assert names(found.items) == [(n, begin + n) for n in ("cell 1.png", "cell 11.png")]
    assert found.notes == (f"the labels' names begin with {begin!r}",)
    touch(labels, "raw_cell 1.png", "raw_cell 11.png")
    with pytest.raises(ValueError, match=r"image cell 1\.png has no label"):
        data.find_pairs(images, labels)


def test_labels_without_an_image_are_told(tmp_path: Path) -> None:
    from unet_med.data.datalist import look_for_pairs

    images = touch(tmp_path / "images", "a.png", "b.png")
    labels = touch(tmp_path / "labels", "a.png", "b.png", "c.png", "d.png")
    found = look_for_pairs(images, labels)
    assert names(found.items) == [("a.png", "a.png"), ("b.png", "b.png")]
    assert found.notes == ("2 label(s) without an image are left out, such as c.png",)


def test_endings_that_do_not_decide_are_refused(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    labels = touch(tmp_path / "labels", "a_mask.png", "b_seg.png")
    with pytest.raises(ValueError, match=r"image a\.png has no label .* nearest is a_\w+"):
        data.find_pairs(images, labels)
    touch(labels, "a_seg.png", "b_mask.png")
    with pytest.raises(ValueError, match="end in _mask or _seg: leave those of one ending"):
        data.find_pairs(images, labels)
    assert not (tmp_path / "labels" / "a.png").exists()
    lone = touch(tmp_path / "lone", "cell_1.png"), touch(tmp_path / "other", "cell_1_b.png")
    with pytest.raises(ValueError, match="no label of the same name"):
        data.find_pairs(*lone)


def test_labels_beside_their_images(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a.png", "a_masks.png", "b.png", "b_masks.png")
    pairs = data.find_pairs(folder)
    assert names(pairs) == [("a.png", "a_masks.png"), ("b.png", "b_masks.png")]
    plain = touch(tmp_path / "plain", "a.png", "b.png")
    with pytest.raises(ValueError, match=r"names no labels: .* ending such as a_mask\.tif"):
        data.find_pairs(plain)
    with pytest.raises(ValueError, match=r"a\.png is image and label at once: .* without --labels"):
        data.find_pairs(folder, folder)
    with pytest.raises(ValueError, match=r"a\.png is image and label at once"):
        data.find_pairs(folder / "a.png", folder / "a.png")


@pytest.mark.parametrize("ending", ["_cp_masks", "-labels", "_Segmentation", ".instances"])
def test_labels_beside_their_images_under_any_word_for_labels(tmp_path: Path, ending: str) -> None:
    images = ["well_1.tif", "well_2.tif"]
    folder = touch(tmp_path, *images, *(f"well_{k}{ending}.png" for k in (1, 2)))
    assert names(data.find_pairs(folder)) == [
        (f"well_{k}.tif", f"well_{k}{ending}.png") for k in (1, 2)
    ]
    assert [Path(item["image"]).name for item in data.find_images(folder)] == images


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (["000_img.png", "001_img.png"], ["000_masks.png", "001_masks.png"]),  # Cellpose
        (["im_000_im.tif", "im_001_im.tif"], ["im_000_mask.tif", "im_001_mask.tif"]),  # YeaZ
        (["volume-0.nii", "volume-10.nii"], ["segmentation-0.nii", "segmentation-10.nii"]),  # LiTS
        (["img0001.nii.gz", "img0002.nii.gz"], ["label0001.nii.gz", "label0002.nii.gz"]),
        (["ct_1_image.nii.gz", "ct_2_image.nii.gz"], ["ct_1_label.nii.gz", "ct_2_label.nii.gz"]),
        (["train_1.bmp", "testA_2.bmp"], ["train_1_anno.bmp", "testA_2_anno.bmp"]),  # GlaS
        (["a_1_image_01.tif", "a_2_image_01.tif"], ["a_1_masks_01.tif", "a_2_masks_01.tif"]),
        (["image.nii.gz"], ["label.nii.gz"]),
    ],
)
def test_images_and_labels_of_public_sets_lie_in_one_folder(
    tmp_path: Path, images: list[str], labels: list[str]
) -> None:
    """And are told apart by a word of each name; `predict` of that folder takes the images."""
    folder = touch(tmp_path / "one", *images, *labels)
    paired = sorted(zip(images, labels, strict=True))
    assert names(data.find_pairs(folder)) == paired
    assert [Path(item["image"]).name for item in data.find_images(folder)] == sorted(images)
    apart = touch(tmp_path / "images", *images), touch(tmp_path / "labels", *labels)
    assert names(data.find_pairs(*apart)) == paired


def test_images_whose_names_merely_resemble_labels_stay_images(tmp_path: Path) -> None:
    names = ["label_free_1.tif", "mask_2.tif", "raw.tif", "seg_3.tif", "x_label_1.tif"]
    found = data.find_images(touch(tmp_path, *names))
    assert [Path(item["image"]).name for item in found] == names


def test_what_cellpose_and_predictions_leave_besides_labels_is_none(tmp_path: Path) -> None:
    folder = touch(tmp_path, "a_1.tif", "a_1_masks.tif", "a_1_flows.tif", "a_1_probabilities.tif")
    assert names(data.find_pairs(folder)) == [("a_1.tif", "a_1_masks.tif")]
    assert [Path(item["image"]).name for item in data.find_images(folder)] == ["a_1.tif"]


@pytest.mark.parametrize("apart", [True, False])
def test_a_second_mask_of_an_image_is_not_passed_over(tmp_path: Path, apart: bool) -> None:
    """As of the breast ultrasounds of BUSI: what it holds became background."""
    labels = touch(tmp_path / ("l" * apart), "a (4)_mask.png", "a (4)_mask_1.png", "a (5)_mask.png")
    images = touch(tmp_path / ("i" * apart), "a (4).png", "a (5).png")
    said = r"a \(4\)_mask.png and a \(4\)_mask_1.png are labels of one image: unite them"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(images, labels if apart else None)


@pytest.mark.parametrize("form", ["a_{}.png", "a_mask_{}.png", "a_mask{}.png"])
def test_a_mask_for_each_object_is_named(tmp_path: Path, form: str) -> None:
    images = touch(tmp_path / "images", "a.png", "b.png")
    labels = touch(tmp_path / "labels", *(form.format(k) for k in (1, 2, 3)), "b_1.png")
    said = r"3 labels are of the image a.*, such as a_\w*\.png: .* with a number for each object"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(images, labels)


def test_sequences_of_a_case_are_named(tmp_path: Path) -> None:
    images = [f"B{k}_{name}.nii.gz" for k in (0, 1) for name in ("flair", "t1", "t2")]
    labels = touch(tmp_path / "labels", "B0_seg.nii.gz", "B1_seg.nii.gz")
    said = r"3 images begin with the name of the label B0_seg.*: .* channels .* data list"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(touch(tmp_path / "images", *images), labels)


def test_frames_that_nobody_segmented_are_told(tmp_path: Path) -> None:
    """As of the Cell Tracking Challenge, whose gold truth is of a few frames."""
    images = touch(tmp_path / "01", *(f"t{k:03}.tif" for k in range(4)))
    labels = touch(tmp_path / "SEG", "man_seg001.tif", "man_seg003.tif")
    said = "2 of 4 images have no label whose name begins with 'man_seg', such as t000: annotate"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(images, labels)


def test_other_pictures_beside_images_are_told_from_those_with_labels(tmp_path: Path) -> None:
    """As the superpixels of ISIC 2017."""
    files = [f"I_{k}{end}" for k in (0, 1) for end in (".jpg", "_superpixels.png")]
    labels = touch(tmp_path / "labels", "I_0_segmentation.png", "I_1_segmentation.png")
    said = "image I_0_superpixels.png has no label .* as 2 of 4 images have .* end in _segmentation"
    with pytest.raises(ValueError, match=said):
        data.find_pairs(touch(tmp_path / "images", *files), labels)


def test_what_cellpose_pickles_beside_its_masks_is_passed_over(tmp_path: Path) -> None:
    folder = touch(tmp_path, "well_1.tif", "well_1_cp_masks.png")
    np.save(folder / "well_1_seg.npy", {"masks": 1}, allow_pickle=True)
    assert names(data.find_pairs(folder)) == [("well_1.tif", "well_1_cp_masks.png")]
    np.save(folder / "well_1_seg.npy", np.zeros((3, 3)))
    with pytest.raises(ValueError, match="end in _cp_masks or _seg: leave those of one ending"):
        data.find_pairs(folder)


def test_names_in_two_unicode_forms(tmp_path: Path) -> None:
    images = touch(tmp_path / "images", "Zu\u0308rich.png")  # as macOS writes it
    labels = touch(tmp_path / "labels", "Z\u00fcrich.png")
    assert len(data.find_pairs(images, labels)) == 1


def test_a_label_with_other_pages(tmp_path: Path) -> None:
    import tifffile

    for name, pages in (("image", 3), ("label", 4)):
        planes = np.zeros((pages, 8, 6), np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", planes, photometric="minisblack")
    with pytest.raises(ValueError, match=r"image\.tif has 3 plane.*label\.tif has 4: each plane"):
        data.find_pairs(tmp_path / "image.tif", tmp_path / "label.tif", stacks=True)


def test_channels_in_files_of_a_case(tmp_path: Path) -> None:
    channels = ["A_1_0000.nii.gz", "A_1_0001.nii.gz", "A_2_0000.nii.gz", "A_2_0001.nii.gz"]
    images = touch(tmp_path / "imagesTr", *channels)
    labels = touch(tmp_path / "labelsTr", "A_1.nii.gz", "A_2.nii.gz")
    expected = [(*channels[:2], "A_1.nii.gz"), (*channels[2:], "A_2.nii.gz")]
    assert names(data.find_pairs(images, labels)) == expected
    listing = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "x": 1}}
    (tmp_path / "dataset.json").write_text(json.dumps(listing))
    assert names(data.find_pairs(tmp_path / "dataset.json")) == expected
    grouped = [item["image"] for item in data.find_images(images, channels=2)]
    assert [[Path(file).name for file in files] for files in grouped] == [
        channels[:2],
        channels[2:],
    ]
    assert [item["image"] for item in data.find_images(grouped, channels=2)] == grouped
    assert len(data.find_images(images)) == 4  # one channel each: frames, say
    (images / channels[3]).unlink()
    with pytest.raises(ValueError, match=r"case A_2 has A_2_0000\.nii\.gz and lacks .* _0001"):
        data.find_pairs(images, labels)
    (labels / "A_2.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"image A_2_0000\.nii\.gz has no label .* A_2\.nii\.gz"):
        data.find_pairs(images, labels)


def test_a_case_that_lacks_a_channel_leaves_the_others_whole(tmp_path: Path) -> None:
    names = [f"{case}_{channel:04}.nii.gz" for case in "abc" for channel in (0, 1)]
    images = touch(tmp_path / "imagesTs", *names[:-1])
    found = look_for_images(images, 2)
    files = [files_of(item["image"]) for item in found.items]
    assert [[Path(f).name for f in own] for own in files] == [names[:2], names[2:4], names[4:5]]
    assert found.notes == ("1 file(s) lack other channels of their case, such as c_0000.nii.gz",)
    (images / names[3]).unlink()  # of which there are as many: they may be no channels
    assert len(look_for_images(images, 2).items) == 4
    assert look_for_images(images, 2).notes == ()
    more = ["a_0000", "a_0001", "b_0000", "b_0001", "c_0001", "c_0002"]
    assert group_channels(more, 2) == more  # of a case that has others


def test_first_nnunet_lists_name_cases_that_are_no_files(tmp_path: Path) -> None:
    touch(tmp_path / "imagesTr", "a_0000.nii.gz", "a_0001.nii.gz")
    touch(tmp_path / "labelsTr", "a.nii.gz")
    item = {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [item]}))
    pairs = data.find_pairs(tmp_path / "dataset.json")
    assert names(pairs) == [("a_0000.nii.gz", "a_0001.nii.gz", "a.nii.gz")]


def test_sections_of_a_list(tmp_path: Path) -> None:
    def item(k: int) -> dict[str, str]:
        return {"image": f"{k}.png", "label": f"{k}_l.png"}

    listing = {"training": [item(0), item(1)], "validation": [item(2)], "test": ["3.png"]}
    path = tmp_path / "list.json"
    path.write_text(json.dumps(listing))
    found = look_for_pairs(path)
    assert found.notes == (
        "2 image(s) of 'training' of list.json",
        "1 of its 'validation' held out",
    )
    training, held = data.split_validation(found.items, 0.5)
    assert (names(training), names(held)) == (
        [("0.png", "0_l.png"), ("1.png", "1_l.png")],
        [("2.png", "2_l.png")],
    )
    images = look_for_images(path)
    assert images.items == [{"image": str(tmp_path / "3.png")}]
    assert images.notes == ("1 image(s) of 'test' of list.json",)
    path.write_text(json.dumps([{**item(k), "fold": k % 2} for k in range(4)]))
    assert look_for_pairs(path).notes[1] == "one of its folds held out"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"training": [', r"list\.json is no JSON"),
        ('{"train_data": []}', r"list\.json holds no items under 'training'"),
        ('{"images": [{"id": 1}], "annotations": []}', r"list\.json is no data list, but .* COCO"),
        ('{"training": [{"label": "a.png"}]}', r"list\.json: the image of .* is no file"),
        ('{"training": [{"image": "a", "label": ["b", "c"]}]}', r"list\.json: .* has 2 labels"),
    ],
)
def test_broken_lists_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        data.find_pairs(tmp_path / "list.json")


def test_a_name_in_a_plan_may_hold_a_comma(tmp_path: Path) -> None:
    """As `HeLa, day 3.tif` does; of an image in several files the plan lists them."""
    names = ["images/HeLa, day 3.tif", "images/x_0000.nii.gz, images/x_0001.nii.gz"]
    listed = [{}, {"image": names[1].split(", ")}]
    cases = [
        {"image": {"name": name}, "label": {"name": "labels/a.tif"}, "listed": own}
        for name, own in zip(names, listed, strict=True)
    ]
    plan = {"images": "images", "cases": cases}
    (tmp_path / "plan.json").write_text(json.dumps({"data": plan}))
    found = [item["image"] for item in pairs_of_plan("/d/images", tmp_path / "plan.json")]
    files = ["/d/images/x_0000.nii.gz", "/d/images/x_0001.nii.gz"]
    assert found == ["/d/images/HeLa, day 3.tif", files]
    metadata: dict[str, Any] = {}
    describe_data(metadata, {"label_kind": "mask", "out_channels": 2}, plan)
    assert metadata["data_type"] == "nii.gz, tif"
