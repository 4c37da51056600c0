"""Pixels that nobody annotated count nowhere: not as background, and not as an object."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from unet_med import bundle, data
from unet_med.cli import main
from unet_med.data.classes import class_values
from unet_med.engines import PrepareBatchWeighted
from unet_med.planning import Fingerprint, fingerprint, make_plan
from unet_med.report.case_files import Reading, _true_objects
from unet_med.scoring import evaluate
from unet_med.transforms import RandTileCrop, compose
from unet_med.transforms.known import KnownPixels

SMALL = ["--features", "2", "4", "--epochs", "1", "--device", "cpu"]
DISKS = [(9, 9, 4), (9, 28, 5), (26, 12, 6), (28, 38, 5), (0, 44, 4)]  # y, x, radius, px


def disks(first: int = 1) -> np.ndarray[Any, Any]:
    """Objects `(Y, X)`; the last is cut by the image, none touches another."""
    y, x = np.mgrid[:36, :48]
    label = np.zeros((36, 48), np.int16)
    for number, (v, u, radius) in enumerate(DISKS, first):
        label[(y - v) ** 2 + (x - u) ** 2 <= radius**2] = number
    return label


def write(folder: Path, labels: list[np.ndarray[Any, Any]]) -> Path:
    """Images of noise, brighter in objects, and these labels `([Z,] Y, X)`."""
    rng = np.random.default_rng(0)
    for k, label in enumerate(labels):
        image = rng.normal(100, 20, label.shape) + 60 * (label > 0)
        pixels = image.clip(0, 255).astype(np.uint8)
        data.save_image(folder / f"images/{k}.tif", pixels.T, has_channels=False)
        data.save_image(folder / f"labels/{k}.tif", label.T, has_channels=False)
    return folder


def look(folder: Path, **told: Any) -> Fingerprint:
    return fingerprint(folder / "images", folder / "labels", **told)


def sparse_volume(planes: tuple[int, ...] = (2, 5), first: int = 1) -> np.ndarray[Any, Any]:
    """Objects `(Z, Y, X)` of which a few planes are annotated, -1 elsewhere."""
    label = np.full((8, 36, 48), -1, np.int16)
    for z in planes:
        label[z] = disks(first)
    return label


# --- the values that say it -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "unknown", "values", "expected"),
    [
        ("classes", None, [0, 1, 2, 255, -1], [0, 1, 2, 255, 255]),
        ("instances", None, [0, 1, 2, 255, -1], [0, 1, 2, 255, -1]),  # 255 is an object
        ("instances", 255, [0, 1, 2, 255, -1], [0, 1, 2, -1, -1]),
        ("mask", 7, [0, 1, 7, 1, 0], [0, 1, -1, 1, 0]),
        ("classes", 3, [0, 1, 2, 3, 3], [0, 1, 2, 255, 255]),
        ("classes", 0, [0, 1, 2, 3, 0], [255, 0, 1, 2, 255]),  # strokes of background too
        ("instances", 0, [0, 1, 2, 3, 0], [-1, 0, 1, 2, -1]),
    ],
)
def test_what_a_reader_makes_of_them(
    kind: str, unknown: int | None, values: list[int], expected: list[int], tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", np.array([values], np.int16).T)
    volume = data.LabelReader(kind, unknown=unknown).open(tmp_path / "a.npy")
    assert volume.array.tolist() == [expected]
    assert data.load_label(tmp_path / "a.npy", kind, unknown=unknown).tolist() == [expected]


def test_bytes_with_a_sign_can_say_it(tmp_path: Path) -> None:
    """255, which stands for unknown among classes, is no int8."""
    np.save(tmp_path / "a.npy", np.array([[-1, 0, 1]], np.int8).T)
    assert data.load_label(tmp_path / "a.npy").tolist() == [[255, 0, 1]]


def test_classes_with_gaps_keep_their_numbers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2, 255, 9, -1]], np.int16).T)
    reader = data.LabelReader("classes", [0, 2, 255], unknown=9)
    assert reader.open(tmp_path / "a.npy").array.tolist() == [[0, 1, 2, 255, 255]]
    assert class_values([{-1, 0, 1, 2}], ["a"]) == [0, 1, 2]


def test_a_mask_is_numbered_around_them() -> None:
    from unet_med.transforms import LabelInstances

    label = np.array([[1, 0, 1, -1, 1]])
    assert LabelInstances("mask")(label).tolist() == [[1, 0, 2, -1, 3]]


# --- the plan ---------------------------------------------------------------------------------


def test_objects_that_are_cut_off_have_no_size(tmp_path: Path) -> None:
    label = disks()
    label[:, 30:] = -1  # cuts the second; the last two are gone
    whole = [int((label == number).sum()) for number in (1, 3)]
    found = look(
        write(tmp_path, [label]),
    ).instances
    assert found is not None
    assert found.count == 3
    assert found.plane_px == pytest.approx(np.percentile(whole, (0.5, 5, 25, 50, 75, 95, 99.5)))
    assert data.instance_sizes(label, 2, whole=True).tolist() == whole


def test_objects_of_a_few_planes_are_taken_for_balls(tmp_path: Path) -> None:
    found = look(write(tmp_path, [sparse_volume()] * 2)).instances
    assert found is not None
    areas = [(disks() == number).sum() for number in range(1, 6)] * 4
    assert found.plane_px[3] == np.median(areas)
    # the median section of a ball by planes is 3/4 of its largest
    ball = 4 / 3 * np.pi * (np.median(areas) / 0.75 / np.pi) ** 1.5
    assert found.volume_px[3] == pytest.approx(ball)  # not the pixels of two planes


def test_the_plan_says_what_is_unknown(tmp_path: Path) -> None:
    folder = write(tmp_path, [sparse_volume(first=1), sparse_volume((1,), first=20)])
    found = look(folder)
    assert found.label_kind == "instances"
    assert found.unknown_share("instances") == pytest.approx(13 / 16)
    shares = Counter(np.concatenate([disks(1).ravel()] * 2 + [disks(20).ravel()]).tolist())
    assert found.frequencies == {str(v): n / (3 * 36 * 48) for v, n in sorted(shares.items())}
    with pytest.raises(ValueError, match="do not say how far apart their planes lie"):
        make_plan(found)  # a few planes apart are no evidence
    plan = make_plan(found, {"spatial_dims": 3})
    assert plan.value("augment::crop::ignore") == -1
    assert plan.ids["unknown"].reason.startswith("nobody annotated 0.812 of the pixels")
    assert Fingerprint.from_json(json.loads(json.dumps(found.to_json()))) == found
    annotated = write(tmp_path / "full", [np.stack([disks()] * 8)] * 2)
    full = make_plan(look(annotated), {"spatial_dims": 3})
    assert full.value("augment::crop::ignore") is None


@pytest.mark.parametrize("nothing", [None, 0, 7])
def test_what_does_not_show_where_objects_end_is_said(nothing: int | None, tmp_path: Path) -> None:
    """One annotated plane beyond the objects is enough, in any of the volumes."""
    volumes = [sparse_volume(), sparse_volume((1, 4))]
    if nothing is not None:
        volumes[1][nothing] = 0
    found = look(write(tmp_path, volumes))
    asked = {"label_kind": "instances", "spatial_dims": 3}
    said = make_plan(found, asked).ids["unknown"].reason
    assert said.endswith("planes beyond them, which hold none") == (nothing is None)
    classes = [np.where(volume < 0, 255, volume > 0).astype(np.uint8) for volume in volumes]
    found = look(write(tmp_path / "classes", classes))
    said = make_plan(found, {**asked, "label_kind": "classes"}).ids["unknown"].reason
    assert ("nothing shows where objects end" in said) == (nothing is None)


def test_planes_that_nobody_annotated_are_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path, [sparse_volume((2, 5, 6)), sparse_volume((1,))])
    for folds in ({}, {"folds": 2}):
        choices = {"spatial_dims": 2, "label_kind": "instances", **folds}
        split = make_plan(look(folder), choices).split
        entries = split["training"] + ([] if folds else split["validation"])
        held = {(e["image"], k) for e in entries for k in range(*e["slices"])}
        assert held == {("images/0.tif", k) for k in (2, 5, 6)} | {("images/1.tif", 1)}


def test_255_is_never_taken_silently(tmp_path: Path) -> None:
    label = np.where(np.arange(48) < 20, disks(), 255).astype(np.uint8)
    found = look(write(tmp_path, [label]))
    with pytest.raises(ValueError, match=r"0.tif holds 255, which covers far more .*--unknown 255"):
        make_plan(found)
    told = make_plan(look(tmp_path, unknown=255), {"label_kind": "instances"})
    assert told.data.instances is not None
    assert told.data.instances.count == 2
    assert told.value("unknown") == 255
    kept = make_plan(look(tmp_path, unknown=-1))
    assert kept.data.instances is not None
    assert kept.data.instances.count == 3
    assert kept.ids["unknown"].reason.endswith("255 is an object like any other")
    small = np.where(disks() == 3, 255, disks()).astype(np.uint8)
    assert make_plan(look(write(tmp_path / "s", [small]))).value("label_kind") == "instances"


def test_the_label_that_a_list_calls_ignore_is_unknown(tmp_path: Path) -> None:
    label = np.where(np.arange(48) < 30, disks() > 0, 2).astype(np.uint8)
    write(tmp_path, [label, label])
    names = {"background": 0, "cell": 1, "ignore": 2}  # as nnU-Net has it
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": names}))
    plan = make_plan(look(tmp_path))
    kept = {id: plan.value(id) for id in ("label_kind", "out_channels", "unknown")}
    assert kept == {"label_kind": "classes", "out_channels": 2, "unknown": 2}
    assert plan.ids["unknown"].reason == "nobody annotated 0.375 of the pixels"


def test_few_values_beside_unknown_pixels_are_asked_about(tmp_path: Path) -> None:
    found = look(write(tmp_path, [sparse_volume()] * 2))
    with pytest.raises(ValueError, match="unknown pixels: they may be classes or numbers of obj"):
        make_plan(found)


def test_a_label_of_which_nobody_knows_anything_is_refused(tmp_path: Path) -> None:
    write(tmp_path, [disks(), np.full((36, 48), -1, np.int16)])
    with pytest.raises(ValueError, match=r"nobody annotated a pixel of label labels/1\.tif"):
        make_plan(look(tmp_path))


# --- the loss ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["mask", "classes", "instances"])
@pytest.mark.parametrize("dims", [2, 3])
def test_no_gradient_comes_from_unknown_pixels(kind: str, dims: int, rng: Any) -> None:
    label = sparse_volume() if dims == 3 else np.where(np.arange(48) < 30, disks(), -1)
    if kind == "mask":
        label = np.minimum(label, 1)
    elif kind == "classes":
        label = np.where(label < 0, 255, np.minimum(label, 2))
    settings = {"label_kind": kind, "spatial_dims": dims, "out_channels": 2 + (kind == "classes")}
    names = ["modern", *(["volume3d", "modern3d"] if dims == 3 else [])]
    train = bundle.find_bundle() / "configs" / "train.json"
    files = [path for path in map(bundle.override_file, names) if path]
    parser = ConfigParser(bundle.merge_config(train, files, {**settings, "device": "cpu"}))
    chain = parser.get_parsed_content("load")["label_instances"], parser.get_parsed_content("weigh")
    item = {"image": torch.zeros(1, *label.shape), "label": torch.from_numpy(label[None].copy())}
    item = compose([{"label_instances": chain[0]}, chain[1]])(item)
    batch = {key: value[None] for key, value in item.items()}
    _, target = PrepareBatchWeighted()(batch)
    noise = rng.normal(size=(1, settings["out_channels"], *label.shape))
    logits = torch.from_numpy(noise).float().requires_grad_()
    parser.get_parsed_content("loss")(logits, target).backward()
    assert logits.grad is not None
    reached = (logits.grad[0] != 0).any(dim=0).numpy()
    unknown = label == (255 if kind == "classes" else -1)
    np.testing.assert_array_equal(reached, ~unknown)


def test_each_known_pixel_is_as_likely_the_centre() -> None:
    for share in (0.001, 0.3):  # by a list of them, and by guessing
        where = torch.zeros(60, 50, dtype=torch.bool)
        where.view(-1)[: max(3, int(share * 3000))] = True
        known = KnownPixels.of(where[None], ignore=0)
        crop = RandTileCrop(1).set_random_state(seed=0)
        drawn: Counter[tuple[int, ...]] = Counter()
        count = int(where.sum())
        for _ in range(20 * count):
            drawn[tuple(crop._one_of(known))] += 1
        assert all(where[place] for place in drawn)
        expected = 20.0
        chi = sum((n - expected) ** 2 / expected for n in drawn.values())
        chi += expected * (count - len(drawn))
        assert chi < count + 5 * np.sqrt(2 * count)


# --- the scores -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "metrics", "suffix"),
    [
        ("mask", "isbi", "_mask"),
        ("mask", "clinical", "_mask"),
        ("classes", "clinical", "_mask"),
        ("instances", "ctc", "_instances"),
        ("instances", "ap", "_instances"),
        ("instances", "isbi", "_mask"),
    ],
)
def test_what_is_found_where_nobody_annotated_does_not_count(
    kind: str, metrics: str, suffix: str, tmp_path: Path
) -> None:
    whole = disks() if kind == "instances" else np.minimum(disks(), 1 + (kind == "classes"))
    truth = np.where(np.arange(48) < 33, whole, 99).astype(np.int16)
    found = np.roll(whole, 1, axis=1)
    wild = np.where(truth == 99, np.arange(36)[:, None] % 2 * found.max(), found)
    tables = []
    for name, result in (("plain", found), ("wild", wild)):
        data.save_image(tmp_path / name / f"a{suffix}.tif", result.T, has_channels=False)
        data.save_image(tmp_path / "truth/a.tif", truth.T, has_channels=False)
        asked: Any = {"label_kind": kind, "metrics": metrics, "unknown": 99}
        table = evaluate(tmp_path / name, tmp_path / "truth", **asked).table
        tables.append([(row.row, row.label, row.scores) for row in table.rows])
    np.testing.assert_equal(tables[0], tables[1])
    if metrics == "clinical":
        dice = [row.scores["Dice"] for row in table.rows if row.case == "a" and row.label]
        known = truth != 99
        both = [2 * ((found == v) & (truth == v))[known].sum() for v in np.unique(whole)[1:]]
        sums = [((found == v) & known).sum() + (truth == v).sum() for v in np.unique(whole)[1:]]
        assert dice == pytest.approx(np.divide(both, sums))


def test_a_report_knows_them() -> None:
    mask = np.array([[[1]], [[0]], [[-1]], [[1]]])
    assert _true_objects(mask, Reading("mask")).ravel().tolist() == [1, 0, -1, 2]


# --- from end to end --------------------------------------------------------------------------


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "models/model.pt", weights_only=True)
    return found


@pytest.mark.parametrize("dims", [2, 3])
def test_training_is_the_same_however_it_is_said(dims: int, tmp_path: Path) -> None:
    """-1, or a value that is told: the same tiles, the same loss, the same network."""
    labels = [sparse_volume(), sparse_volume((3, 4))]
    if dims == 2:
        labels = [np.where(np.arange(48) < end, disks(), -1).astype(np.int16) for end in (20, 35)]
    told = [np.where(label < 0, 77, label).astype(np.int16) for label in labels]
    for name, each, words in (("a", labels, []), ("b", told, ["--unknown", "77"])):
        folder = write(tmp_path / name / "data", each)
        # the noise of images is the same, objects are brighter
        for k, label in enumerate(labels):
            write(tmp_path / "images", [label])
            target = folder / f"images/{k}.tif"
            target.write_bytes((tmp_path / "images/images/0.tif").read_bytes())
        places = ["--images", f"{folder}/images", "--labels", f"{folder}/labels"]
        given = ["--label-kind", "instances", "--dims", str(dims), *SMALL, *words]
        (tmp_path / "few.json").write_text('{"tiles_per_epoch": 4}')
        output = ["--config", f"{tmp_path}/few.json", "--output", str(tmp_path / name / "bundle")]
        assert main(["train", *places, *given, "--tile-size", "16", *output]) == 0
    one, other = (weights(tmp_path / name / "bundle") for name in "ab")
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    history = (tmp_path / "a/bundle/models/learning_curve.csv").read_text().splitlines()
    assert "nan" not in history[-1]
