"""What the files say, what follows, and that both survive a journey through JSON."""

from __future__ import annotations

import hashlib
import json
import tempfile
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from folded import facts_of
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from monai.bundle import ConfigParser
from scipy import ndimage

from unet_med import bundle, data
from unet_med.planning import (
    DataFolder,
    Fingerprint,
    Plan,
    Source,
    describe,
    fingerprint,
    lay_bundle,
    make_plan,
)
from unet_med.planning.fingerprints import PERCENTILES
from unet_med.planning.looking import _sample
from unet_med.planning.sampled import percentiles
from unet_med.planning.words import explain

IMAGE = np.arange(12 * 10, dtype=np.uint16).reshape(12, 10) * 7  # (Y, X)
LABELS = np.zeros((2, 12, 10), np.uint8)
LABELS[0, 1:4, 1:4], LABELS[0, 1:4, 4:6], LABELS[0, 8:10, 8:10] = 1, 2, 5  # 9, 6 and 4 px
LABELS[1, 0:5, 0:4] = 30  # 20 px


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k, label in enumerate(LABELS):
        for part, array in (("images", IMAGE + k), ("labels", label)):
            affine = np.diag([0.5, 0.25, 1.0, 1.0])
            data.save_image(tmp_path / part / f"{k}.tif", array.T, affine, has_channels=False)
    return tmp_path


@pytest.fixture
def usual_epochs(usual_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unet_med.planning.rules.TILES_PER_EPOCH", usual_tiles)


def look(folder: Path, **choice: Any) -> Fingerprint:
    return fingerprint(folder / "images", folder / "labels", **choice)


# --- what the files say


def test_one_file_at_a_time_is_in_memory(tmp_path: Path) -> None:
    """Ten volumes take the memory of two."""
    volume = np.zeros((96, 96, 64), np.int16)
    volume[20:40, 30:60, 10:30] = 1
    for k in range(10):
        for part in ("images", "labels"):
            data.save_image(tmp_path / part / f"{k}.nii", volume, has_channels=False)
    peaks = []
    for count in (2, 10):
        items = [{"image": f"images/{k}.nii", "label": f"labels/{k}.nii"} for k in range(count)]
        (tmp_path / "list.json").write_text(json.dumps({"training": items}))
        tracemalloc.start()
        assert len(fingerprint(tmp_path / "list.json", seconds=0).cases) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert volume.nbytes < peaks[0]
    assert peaks[1] - peaks[0] < volume.nbytes


def test_each_file_is_described(folder: Path) -> None:
    found = look(folder)
    assert (found.images, found.labels) == ("images", "labels")
    assert [case.image.name for case in found.cases] == ["images/0.tif", "images/1.tif"]
    image, label = found.cases[1].image, found.cases[1].label
    content = (folder / "labels/1.tif").read_bytes()
    assert label.sha256 == hashlib.sha256(content).hexdigest()
    assert (image.shape, image.channels, image.dtype) == ((10, 12), 1, "uint16")
    assert image.pixel_size == pytest.approx((0.5, 0.25))
    assert (image.unit, image.pixel_size_source, image.orientation) == ("um", "ome", None)
    assert [case.label_values for case in found.cases] == [{0, 1, 2, 5}, {0, 30}]


def test_the_set_is_described_by_its_pixels(folder: Path) -> None:
    found = look(folder)
    assert found.label_kind == "instances"
    values, counts = np.unique(LABELS, return_counts=True)
    assert found.frequencies == {
        str(v): pytest.approx(n / LABELS.size) for v, n in zip(values, counts, strict=True)
    }
    assert found.instances is not None
    assert found.instances.count == 4
    assert found.instances.touching == 2 / 4  # 1 and 2 are neighbours
    assert found.instances.plane_px == pytest.approx(np.percentile([9, 6, 4, 20], PERCENTILES))
    assert found.instances.volume_px == found.instances.plane_px
    pixel = 0.5 * 0.25
    assert found.instances.plane_area == pytest.approx(np.array(found.instances.plane_px) * pixel)
    pixels = np.stack([IMAGE, IMAGE + 1]).ravel()
    assert found.intensities == (pytest.approx(np.percentile(pixels, PERCENTILES)),)
    assert found.intensities_of == 2


def test_cases_that_cannot_be_used_are_named_at_once(tmp_path: Path) -> None:
    """And not one a run; the files first, then what cannot be a label."""
    paths = [tmp_path / f"images/{k}.tif" for k in range(9)]
    for path in paths:
        data.save_image(path, IMAGE[None])
        data.save_image(tmp_path / "labels" / path.name, LABELS[0][None])
    smeared = np.arange(120).reshape(1, 12, 10) * np.float32(0.3)
    for k in (0, 2):
        data.save_image(tmp_path / f"labels/{k}.tif", smeared)
    for path in paths[:7]:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="7 of 9 cases cannot be used: ") as caught:
        look(tmp_path)
    named = [f"({k + 1}) cannot read {path} as TIFF: " for k, path in enumerate(paths[:5])]
    assert all(words in str(caught.value) for words in named)
    assert str(caught.value).endswith("; and 2 more")
    for path in paths[:7]:
        data.save_image(path, IMAGE[None])
    both = r"2 of 9 cases cannot .*: \(1\) label 0.tif .*; \(2\) label 2.tif"
    with pytest.raises(ValueError, match=both):
        look(tmp_path)
    data.save_image(tmp_path / "labels/2.tif", LABELS[0][None])
    with pytest.raises(ValueError, match=r"^label 0.tif holds the value 0.3: labels are whole"):
        look(tmp_path)


def test_planes_and_volumes_are_counted_apart(tmp_path: Path) -> None:
    label = np.zeros((3, 6, 5), np.uint8)  # (Z, Y, X)
    label[:, 1:3, 1:3] = 1
    for part, array in (("images", label), ("labels", label)):
        affine = np.diag([1.0, 1.0, 4.0, 1.0])
        data.save_image(tmp_path / part / "v.tif", array.T, affine, has_channels=False)
    found = look(tmp_path).instances
    assert found is not None
    assert set(found.plane_px) == {4.0}
    assert set(found.volume_px) == {12.0}
    assert found.volume == pytest.approx(np.full(len(PERCENTILES), 12 * 4))


def test_areas_are_those_of_each_images_own_pixels(tmp_path: Path) -> None:
    """9, 6 and 4 px of 0.5 x 0.5 um, and 20 px of 2 x 1 um, in the unit of the first."""
    for k, (label, size) in enumerate(zip(LABELS, ((0.5, 0.5), (0.002, 0.001)), strict=True)):
        affine = np.diag([*size, 1.0, 1.0])
        for part in ("images", "labels"):
            place = tmp_path / part / ("0.tif", "1.nii")[k]
            data.save_image(place, label.T, affine, ("um", "mm")[k], has_channels=False)
    found = look(tmp_path)
    assert found.instances is not None
    areas = np.percentile([9 * 0.25, 6 * 0.25, 4 * 0.25, 20 * 2], PERCENTILES)
    assert found.instances.plane_area == pytest.approx(areas)
    assert found.instances.volume == pytest.approx(areas)
    assert found.instances.plane_px == pytest.approx(np.percentile([9, 6, 4, 20], PERCENTILES))


def test_pixels_that_are_no_number_have_no_percentile() -> None:
    samples = [np.array([[1.0, np.nan, 3.0]]), np.array([[np.inf, 2.0]])]
    assert percentiles(samples) == (pytest.approx(np.percentile([1, 2, 3], PERCENTILES)),)
    assert percentiles([np.full((1, 3), np.nan)]) == ((),)


@pytest.mark.parametrize(("shape", "count"), [((9, 8), 1), ((9, 8, 1), 1), ((9, 8, 7), 7)])
def test_a_plane_is_one_plane(shape: tuple[int, ...], count: int) -> None:
    assert facts_of("a.tif", shape).plane_count == count


def test_orientation_is_that_of_the_affine(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        affine = np.array([[0, -2, 0, 0], [1.0, 0, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]])
        pixels = np.ones((1, 4, 5, 6), np.uint8)
        pixels[0, 0] = 0
        data.save_image(tmp_path / part / "v.nii.gz", pixels, affine, "mm")
    image = look(tmp_path).cases[0].image
    assert image.orientation == "ALS"  # the first axis runs along +y, the second along -x
    assert (image.pixel_size, image.unit) == (pytest.approx((1.0, 2.0, 3.0)), "mm")


def test_every_label_is_decoded_once(folder: Path, decoded: list[str]) -> None:
    fingerprint(folder / "images", folder / "labels", seconds=0)
    assert sorted(decoded) == 2 * ["0.tif"] + 2 * ["1.tif"]  # and every image, for its intensities


def test_time_decides_how_many_images_are_sampled(folder: Path) -> None:
    path = str(folder / "images/0.tif")
    clock = iter(range(100))
    assert len(_sample([path] * 9, 3.0, {}, clock=lambda: float(next(clock)))) == 3


def test_a_sample_is_taken_all_over_the_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten pixels of 120 from each of two images: every thirteenth, not those of one row."""
    monkeypatch.setattr("unet_med.planning.looking.ALL_SAMPLES", 20)
    paths = [str(folder / f"images/{k}.tif") for k in (0, 1)]
    for k, sample in enumerate(_sample(paths, 60.0, {})):
        assert sample.shape == (1, 10)
        assert sample[0].tolist() == (IMAGE + k).T.ravel()[::13].tolist()


def guess_at_once(labels: list[np.ndarray]) -> str | None:
    """What label values mean, with all labels in memory at once: the rule in one piece.

    None where each of the values is one blob, so that their places decide; "doubt" is asked for.
    """
    partly = any((label < 0).any() for label in labels)  # nobody annotated these pixels
    values = [set(np.unique(label[label >= 0]).tolist()) for label in labels]
    union = set().union(*values)
    if len(union) > 1 and 0 not in union:
        return "doubt"  # background may be painted as well
    if len(union) <= 2 or (union == {0, 1, 255} and not any(v >= {1, 255} for v in values)):
        return "classes" if partly and 255 not in union else "mask"
    classes = [found - {0, 255} for found in values if found - {0, 255}]
    shared = set.intersection(*classes) if classes else set()
    repeated = len(classes) > 1 and len(shared) >= len(set().union(*classes)) / 2
    shares: dict[int, list[float]] = {}  # of each value in each file, of its largest piece
    for label in labels[:5]:
        for value in set(np.unique(label).tolist()) - {-1, 0, 255}:
            pieces, count = ndimage.label(label == value, np.ones((3, 3)))
            sizes = [int((pieces == k + 1).sum()) for k in range(count)]
            shares.setdefault(value, []).append(max(sizes) / sum(sizes))
    every = [share for own in shares.values() for share in own]
    cut = [share for share in every if share < 1]
    times = {v: sum(share < 1 for share in own) for v, own in shares.items()}
    again = any(n >= 2 and n > len(shares[v]) / 2 for v, n in times.items())
    often = all(sum(v in own for own in classes) > 1 for v in set().union(*classes))
    holes = often and any(max(own) > len(own) for own in classes)
    if not repeated:
        many = len([s for s in every if s < 0.5]) > len(every) / 2
        return "doubt" if many or holes or again else "instances"
    if partly:
        return "doubt"
    if (len(cut) >= len(every) / 2 and cut) or again:
        return "classes"
    if len(cut) > 0.2 * len(every) or (cut and min(cut) < 0.5):
        return "doubt"
    different = {label.tobytes() for label in labels[:5] if shared <= {*label.flat}}
    if len(union) > 4 and (len(different) < 2 or len(shared) < 2):
        return "doubt" if holes else "instances"
    return None


def guess(labels: Iterable[Any]) -> str:
    try:
        return data.guess_label_kind(labels)
    except ValueError as error:
        asked = ("say --label-kind classes or --label-kind instances", "say --unknown 0 if")
        doubted = any(words in str(error) for words in asked)
        return "doubt" if doubted else str(error)


@given(
    st.lists(
        arrays.arrays(np.int64, (4, 5), elements=st.sampled_from([0, 1, 2, 3, 4, 255, -1, 40])),
        min_size=1,
        max_size=7,
    )
)
def test_one_at_a_time_decides_as_all_at_once(labels: list[np.ndarray]) -> None:
    expected = guess_at_once(labels)
    assert guess(labels) == guess(map(data.summarize_label, labels)) == (expected or guess(labels))


@given(arrays.arrays(np.int64, (3, 4, 3), elements=st.integers(-1, 4)))
def test_touching_by_every_pair_of_neighbours(label: np.ndarray) -> None:
    touching = set()
    for place in np.ndindex(*label.shape):
        for axis in range(3):
            beside = tuple(p + (k == axis) for k, p in enumerate(place))
            if beside[axis] < label.shape[axis]:
                one, other = label[place], label[beside]
                touching |= {one, other} if one > 0 and other > 0 and one != other else set()
    assert data.summarize_label(label).touching == len(touching)


def test_labels_beside_a_list_that_names_them_are_refused(folder: Path) -> None:
    pairs = [{"image": f"images/{k}.tif", "label": f"labels/{k}.tif"} for k in (0, 1)]
    (folder / "list.json").write_text(json.dumps({"training": pairs}))
    assert len(fingerprint(folder / "list.json").cases) == 2
    with pytest.raises(ValueError, match=r"list\.json names its labels, so .* has no effect"):
        fingerprint(folder / "list.json", folder / "labels")


# --- what follows


def test_both_survive_json(folder: Path) -> None:
    found = look(folder, pixel_size=[0.5])
    plan = make_plan(found, {"epochs": 3}, overrides=["tensorboard"])
    assert Fingerprint.from_json(json.loads(json.dumps(found.to_json()))) == found
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_every_decision_has_its_reason(folder: Path) -> None:
    plan = make_plan(look(folder), {"epochs": 3, "learning_rate": 0.5}, overrides=["tensorboard"])
    said = explain(plan)
    for id, decision in plan.ids.items():
        assert decision.reason, id
        assert id in said
    assert plan.ids["epochs"].reason == plan.ids["learning_rate"].reason == "as asked"
    assert plan.ids["min_size"].reason == "a tenth of the median object, 7.5 px"
    assert plan.ids["+train::handlers"].reason == "tensorboard.json says so"
    assert plan.ids["batch_size"].reason == "the recipe modern"


def planned(found: Fingerprint, images: int, **choices: Any) -> Plan:
    """The plan for so many images as the first."""
    first = found.cases[0]
    names = [{"name": f"{k}.tif", "sha256": str(k)} for k in range(images)]
    pairs = ((replace(first.image, **name), replace(first.label, **name)) for name in names)
    cases = tuple(replace(first, image=image, label=label) for image, label in pairs)
    return make_plan(replace(found, cases=cases), {"label_kind": "instances", **choices})


@pytest.mark.parametrize(
    ("kind", "images", "share", "fit"),
    [
        *[("instances", 12, 0.1, False), ("instances", 23, 0.1, False)],
        ("instances", 24, 0.125, True),
        *[("instances", 29, 0.1034, True), ("instances", 30, 0.1, True), ("mask", 12, 0.1, False)],
    ],
)
def test_three_images_are_held_out_to_be_fitted_to(
    folder: Path, kind: str, images: int, share: float, fit: bool
) -> None:
    plan = planned(look(folder), images, label_kind=kind)
    assert plan.value("validation_fraction") == share
    assert plan.value("fit") is fit
    held = data.split_validation([{"image": str(k)} for k in range(images)], share)[1]
    assert len(held) == (3 if fit else images // 10)


def test_how_objects_are_planned(folder: Path) -> None:
    found = look(folder)
    own = planned(found, 3)
    assert (own.value("threshold"), own.value("mask_threshold")) == (0.4, 0.3)
    assert own.value("reach") == 2  # the median object is 7.5 px: a radius of 1.5
    paper = planned(found, 30, preset="paper2015")
    assert [paper.value(id) for id in ("threshold", "mask_threshold", "reach")] == [None, None, 0]
    assert paper.ids["fit"].reason == "at the end, held-out images calibrate probabilities"
    dim = planned(found, 3, threshold=0.3, min_size=5, fit=True)
    assert [dim.value(id) for id in ("threshold", "mask_threshold", "min_size")] == [0.3, 0.3, 5]
    assert dim.ids["min_size"].reason == dim.ids["fit"].reason == "as asked"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("mask", {"label_kind": "mask", "out_channels": 2, "min_size": 0}),
        ("instances", {"label_kind": "instances", "out_channels": 2, "min_size": 330 // 10}),
        ("classes", {"label_kind": "classes", "out_channels": 4, "min_size": 0}),
        ("auto", {"label_kind": "mask", "out_channels": 2, "min_size": 0}),
    ],
)
@pytest.mark.usefixtures("usual_epochs")
def test_volumes_of_two_values(tmp_path: Path, kind: str, expected: dict[str, Any]) -> None:
    for name in ("a", "b"):
        for part, value in (("images", 9), ("labels", 3)):
            (tmp_path / part).mkdir(exist_ok=True)
            array = np.full((3, 12, 10), value, np.uint8)
            array[:, 0] = 0
            tifffile.imwrite(tmp_path / part / f"{name}.tif", array, photometric="minisblack")
    choices = {"label_kind": kind, "out_channels": 4 if kind == "classes" else None}
    found = look(tmp_path)
    if kind == "instances":  # which go through the planes
        assert make_plan(found, choices).value("spatial_dims") == 3
    else:
        with pytest.raises(ValueError, match=r"a.tif and the other stacks do not say .*--dims 3"):
            make_plan(found, choices)
        planes = make_plan(found, {**choices, "spatial_dims": 2})
        assert planes.value("slice_stacks")
    plan = make_plan(found, {**choices, "spatial_dims": 3})
    assert {id: plan.value(id) for id in expected} == expected
    decided = {"spatial_dims": 3, "in_channels": 1, "slice_stacks": False, "tiles_per_epoch": 64}
    assert {id: plan.value(id) for id in decided} == decided
    deep = 3 if kind == "instances" else 8  # flat objects: planes are not pooled
    assert plan.value("tile_size") == [16, 16, deep]  # 10 x 12 x 3 px, in steps of 8


def test_a_gpu_takes_the_presets_features(folder: Path) -> None:
    found = look(folder)
    assert make_plan(found, device="cpu").value("features") == [16, 32, 64, 128, 256]
    assert make_plan(found, device="cuda").value("features") is None


@pytest.mark.usefixtures("usual_epochs")
def test_epochs_of_a_gpu_are_long_unless_they_are_counted(folder: Path) -> None:
    found = look(folder)
    on_gpu = make_plan(found, device="cuda")
    assert (on_gpu.value("tiles_per_epoch"), on_gpu.value("val_interval")) == (4096, 1)
    others = [make_plan(found), make_plan(found, {"epochs": 3}, device="cuda")]
    for plan in others:
        assert plan.value("tiles_per_epoch") == 64
        assert "val_interval" not in plan.ids


@pytest.mark.usefixtures("usual_epochs")
def test_an_epoch_shows_as_many_tiles_as_there_are_images(tmp_path: Path) -> None:
    """Planes, of a network of planes; a few volumes are shown more than once."""
    found = cohort(tmp_path, (9, 8, 40), (9, 8, 30))
    for choices, device, tiles in (
        ({"spatial_dims": 2}, "cpu", 70),
        ({"spatial_dims": 2}, "cuda", 4096),
        ({"spatial_dims": 3}, "cpu", 64),
    ):
        plan = make_plan(found, {"preset": "modern", **choices}, device=device)
        assert plan.value("tiles_per_epoch") == tiles


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"featurs": [2, 4]}, r"no config has an id featurs; did you mean features\?"),
        ({"augment::elastik::prob": 1}, "augment has no elastik; it has _after_, crop, flip"),
        ({"xyzzy": 1}, r"no config has an id xyzzy; docs/reference/configs.md lists them"),
    ],
)
def test_misspelt_ids_are_refused(
    folder: Path, tmp_path: Path, choices: dict[str, Any], said: str
) -> None:
    found = look(folder)
    with pytest.raises(ValueError, match=said):
        make_plan(found, choices)
    (tmp_path / "mine.json").write_text(json.dumps(choices))
    with pytest.raises(ValueError, match=r"mine\.json: .*" + said):
        make_plan(found, overrides=[tmp_path / "mine.json"])


def test_a_config_file_of_an_editor_on_windows_is_read(folder: Path, tmp_path: Path) -> None:
    """Notepad begins a file with a byte order mark."""
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"epochs": 3}), encoding="utf-8-sig")
    assert make_plan(look(folder), overrides=[file]).value("epochs") == 3
    train = bundle.find_bundle() / "configs" / "train.json"
    assert bundle.merge_config(train, [file], {})["epochs"] == 3


def test_labels_with_fractions_are_no_classes(folder: Path) -> None:
    tifffile.imwrite(folder / "labels/1.tif", np.full((12, 10), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"label 1\.tif holds the value 0\.5: labels are whole"):
        make_plan(look(folder), {"label_kind": "classes"})


# --- folders


def test_names_are_relative_to_the_common_folder() -> None:
    folder = DataFolder.of("/data/cells/images", "/data/cells/truth/labels")
    assert folder.root == Path("/data/cells")
    assert folder.name("/data/cells/truth/labels/a.tif") == "truth/labels/a.tif"
    assert folder.settings("images", "truth/labels") == {"dataset_dir": "/data/cells"}


def test_without_a_common_folder_both_are_given() -> None:
    folder = DataFolder.of("/one/images", "/two/labels")
    assert folder.root is None
    assert folder.name("/one/images") == "images"
    assert folder.name("/two/labels/a.tif") == "labels/a.tif"
    assert folder.settings("images", "labels") == {"images": "/one/images", "labels": "/two/labels"}


def test_a_data_list_lies_in_its_own_folder() -> None:
    folder = DataFolder.of("/data/dataset.json")
    assert (folder.root, folder.name(folder.images)) == (Path("/data"), "dataset.json")


def meant(name: str, files: list[str], root: str) -> list[str]:
    """Which files a bundle's name may mean: that below the data's folder, else any that ends so."""
    below = [file for file in files if file == f"{root}/{name}"]
    return below or [file for file in files if file.endswith(f"/{name}")]


PARTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join)
PLACES = st.sampled_from(["/home/u", "/home/u/v", "/data", "/mnt/x"])


@given(st.lists(st.tuples(PLACES, PARTS).map("/".join), min_size=1, max_size=9, unique=True))
def test_a_name_means_one_file_wherever_a_list_has_it_from(files: list[str]) -> None:
    folder = DataFolder.of("/home/u/list.json").telling_apart(files)
    names = {file: folder.name(file) for file in files}
    for file, name in names.items():
        assert meant(name, files, "/home/u") == [file]
        assert not name.startswith("/")
    items = [{"image": file} for file in files]
    with tempfile.TemporaryDirectory() as scratch:
        split = Path(scratch, "split.json")
        for k, file in enumerate(files[1:], 1):  # of the run, which knows no more than the names
            sides = {"training": [names[files[0]]], "validation": [names[file]]}
            split.write_text(json.dumps(sides), encoding="utf-8")
            found = data.split_validation(items, file=split, folder="/home/u")
            assert found == ([items[0]], [items[k]])


@pytest.mark.parametrize(
    ("files", "names"),
    [
        (["/data/p1/ct/i.nii", "/data/p2/ct/i.nii"], ["p1/ct/i.nii", "p2/ct/i.nii"]),
        (["/data/p1/ct/i.nii", "/data/p1/seg.nii"], ["p1/ct/i.nii", "p1/seg.nii"]),
        (["/data/images/a.tif", "/data/labels/a.tif"], ["images/a.tif", "labels/a.tif"]),
        (["/data/images/a.tif", "/mnt/b.tif"], ["images/a.tif", "mnt/b.tif"]),
        (["/data/p1/ct/i.nii", "/mnt/p2/ct/i.nii"], ["p1/ct/i.nii", "p2/ct/i.nii"]),
        (["/home/u/i.nii", "/home/u/p1/i.nii"], ["i.nii", "p1/i.nii"]),
        (["/home/u/x/../../w/ct/i.nii"], ["ct/i.nii"]),
    ],
)
def test_names_of_files_that_lie_elsewhere(files: list[str], names: list[str]) -> None:
    """Where one folder holds all of them, they are relative to one folder: a replay finds them."""
    folder = DataFolder.of("/home/u/list.json").telling_apart(files)
    assert [folder.name(file) for file in files] == names


def test_a_folder_within_the_other() -> None:
    assert DataFolder.of("/data/a", "/data/a/labels").root == Path("/data")
    assert DataFolder.of("/data/a/images", "/data/a").root == Path("/data")


# --- ids


def test_combined_ids_merge_as_one_after_the_other(tmp_path: Path) -> None:
    more: list[dict[str, Any]] = [
        {"+train::handlers": [{"_target_": "a.A"}], "augment::flip::prob": 0.1, "seed": 1},
        {"+train::handlers": [{"_target_": "b.B"}], "seed": 2},
        {"augment": {"_after_": {}, "x": {"_target_": "c.C"}}, "optimizer::lr": 3},
        {"augment::x::prob": 0.3, "optimizer": {"_target_": "d.D"}},
    ]
    paths = [tmp_path / f"{k}.json" for k in range(len(more))]
    for path, content in zip(paths, more, strict=True):
        path.write_text(json.dumps(content))
    train = bundle.find_bundle() / "configs/train.json"
    sets = ({id: {"value": v, "reason": ""} for id, v in ids.items()} for ids in more)
    ids = {id: entry["value"] for id, entry in bundle.combine(*sets).items()}
    assert bundle.merge_config(train, [], ids) == bundle.merge_config(train, paths, {})


# --- planes and volumes


def cohort(folder: Path, *shapes: tuple[int, ...]) -> Fingerprint:
    for k, shape in enumerate(shapes):
        for part in ("images", "labels"):
            array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape) % 2
            data.save_image(folder / part / f"{k}.nii", array, np.eye(4), "mm", has_channels=False)
    return look(folder)


@pytest.mark.parametrize(
    ("shapes", "asked", "dims", "stack", "images"),
    [
        ([(9, 8, 1), (9, 8, 1)], None, 2, False, 2),
        ([(9, 8, 1), (9, 8)], None, 2, False, 2),
        ([(9, 8, 1), (9, 8, 4)], None, 3, False, 2),
        ([(9, 8, 1), (9, 8, 4)], 2, 2, True, 5),
        ([(9, 8, 4)], None, 2, True, 4),
    ],
)
def test_a_volume_of_one_slice_is_an_image(
    tmp_path: Path, shapes: Any, asked: int | None, dims: int, stack: bool, images: int
) -> None:
    plan = make_plan(cohort(tmp_path, *shapes), {"spatial_dims": asked, "preset": "modern"})
    decided = [plan.ids[id].value for id in ("spatial_dims", "slice_stacks")]
    assert decided == [dims, stack]
    assert f"{images}, {dims}-D" in describe(plan)


def test_a_plane_among_volumes_is_refused_by_name(tmp_path: Path) -> None:
    found = cohort(tmp_path, (9, 8, 4), (9, 8))
    with pytest.raises(ValueError, match=r"images/1\.nii is a plane of \(9, 8\) px.*--dims 2"):
        make_plan(found)


@pytest.mark.parametrize(
    ("sides", "turned"), [([24, 32], False), ([32, 24], False), ([32, 32], True), (32, True)]
)
def test_tiles_of_unequal_sides_are_not_turned_by_quarters(
    tmp_path: Path, sides: Any, turned: bool
) -> None:
    """Every tile of a batch has the same sides, and averaging shows what training showed."""
    data.SyntheticCells(2, (64, 56), num_cells=4).write(tmp_path)
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    plan = make_plan(found, {"tile_size": sides, "features": [2, 4], "spatial_dims": 2})
    assert plan.value("tta") == ("rotations" if turned else "flips")
    lay_bundle(plan, tmp_path / "bundle")
    config = json.loads((tmp_path / "bundle/configs/train.json").read_text(encoding="utf-8"))
    parser = ConfigParser(config)
    chain = parser.get_parsed_content("augment")
    names = ("crop", "flip", "flip_y", "quarter_turn")
    steps = [chain[name] for name in names if name in chain]
    assert ("quarter_turn" in chain) == turned != ("flip_y" in chain)
    item = {"image": torch.rand(1, 64, 56), "label": torch.ones(1, 64, 56)}
    shapes = set()
    for seed in range(20):
        tile = item
        for step in steps:
            tile = step.set_random_state(seed)(tile) if hasattr(step, "R") else step(tile)
        shapes |= {tuple(tile[key].shape[1:]) for key in ("image", "label")}
    assert shapes == {tuple(sides) if isinstance(sides, list) else (sides, sides)}
    used = json.loads((tmp_path / "bundle/configs/inference.json").read_text(encoding="utf-8"))
    assert used["tta"] == plan.value("tta")
    asked = {"tile_size": [24, 32], "tta": "rotations"}
    assert make_plan(found, asked).value("tta") == "rotations"  # what is asked for holds


def test_a_network_of_channels_that_add_nothing_keeps_them(trained: Path) -> None:
    """Grey saved as RGBA trained four channels in earlier versions; one is enough for others."""
    source, found = Source.of(trained), Plan.from_json(bundle.read_plan(trained)).data
    files = [replace(case, image=replace(case.image, channels=4)) for case in found.cases]
    rgba = replace(found, cases=tuple(files), needed=1)
    assert "in_channels" not in source.kept(rgba, {})
    of_four = replace(source, ids={**source.ids, "in_channels": 4})
    assert of_four.kept(rgba, {})["in_channels"].value == 4
    with pytest.raises(ValueError, match=r"has 1 channel\(s\), and the network of .* takes 4"):
        of_four.kept(found, {})
