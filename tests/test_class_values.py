"""Classes whose values have gaps: learned as 0 to K-1, written with the file's own values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser

from unet_med import Segmenter, bundle
from unet_med.cli import main
from unet_med.data.class_names import about_regions, listed_names
from unet_med.networks import unet
from unet_med.planning import Fingerprint, fingerprint, lay_bundle, make_plan
from unet_med.report.provenance import recorded_names

VALUES = [0, 1, 2, 4]
TINY = {"preset": "paper2015", "features": [4, 8], "spatial_dims": 2, "out_channels": 4}


def test_the_plan_maps_them(tmp_path: Path, rng: np.random.Generator) -> None:
    label = np.kron(rng.choice(VALUES, (6, 6)), np.ones((8, 8), int)).astype(np.uint8)
    for part, array in (("images", rng.integers(0, 99, (48, 48), np.uint8)), ("labels", label)):
        (tmp_path / part).mkdir()
        for name in "ab":
            tifffile.imwrite(tmp_path / part / f"{name}.tif", array)
    plan = make_plan(fingerprint(tmp_path / "images", tmp_path / "labels"))
    assert (plan.value("label_kind"), plan.value("out_channels")) == ("classes", 4)
    assert plan.value("class_values") == VALUES
    lay_bundle(plan, tmp_path / "bundle")
    for name in ("train", "evaluate"):
        parser = ConfigParser(json.loads((tmp_path / f"bundle/configs/{name}.json").read_text()))
        parser["dataset_dir"] = str(tmp_path)
        item = parser.get_parsed_content("pairs")[0]
        chain = parser.get_parsed_content("load")
        read = chain["channel_first"](chain["label"](chain["image"](item)))["label"].numpy()[0].T
        np.testing.assert_array_equal(read, np.searchsorted(VALUES, label))
    described = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    names = described["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert names == {"0": "background", "1": "class 1", "2": "class 2", "3": "class 4"}


def named(folder: Path, labels: dict[str, object], values: list[int]) -> Path:
    """A data list of two images whose labels hold these values."""
    label = np.kron(np.resize(values, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
    for name in "ab":
        tifffile.imwrite(folder / f"{name}.tif", np.arange(1024, dtype=np.uint16).reshape(32, 32))
        tifffile.imwrite(folder / f"{name}_label.tif", label)
    items = [{"image": f"{name}.tif", "label": f"{name}_label.tif"} for name in "ab"]
    (folder / "dataset.json").write_text(json.dumps({"labels": labels, "training": items}))
    return folder / "dataset.json"


@pytest.mark.parametrize(("unnamed", "kind"), [(0, "classes"), (1, "instances")])
def test_many_values_are_classes_where_a_list_names_them(
    tmp_path: Path, unnamed: int, kind: str
) -> None:
    values = list(range(15))  # more than look like classes
    labels = {f"organ {value}": value for value in values[: 15 - unnamed]}
    plan = make_plan(fingerprint(named(tmp_path, labels, values)))
    assert plan.value("label_kind") == kind
    assert plan.value("out_channels") == (15 if kind == "classes" else 2)


def test_a_class_of_held_out_images_alone_is_said(tmp_path: Path) -> None:
    labels = [[0, 1, 2], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2]]
    items = []
    for k, values in enumerate(labels):
        tifffile.imwrite(tmp_path / f"{k}.tif", np.arange(1024, dtype=np.uint16).reshape(32, 32))
        label = np.kron(np.resize(values, (4, 4)), np.ones((8, 8), int)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"{k}_label.tif", label)
        items.append({"image": f"{k}.tif", "label": f"{k}_label.tif", "fold": int(k == 2)})
    (tmp_path / "list.json").write_text(json.dumps(items))
    found = fingerprint(tmp_path / "list.json")
    for fold, missing in (("1", True), ("0", False)):
        plan = make_plan(found, {"label_kind": "classes", "fold": fold})
        why = plan.ids["split_file"].reason
        assert ("no image that is learned from holds class 3" in why) == missing


@pytest.mark.parametrize("kind", ["mask", "instances"])
def test_objects_of_held_out_images_alone_are_said(tmp_path: Path, kind: str) -> None:
    items = []
    for k in range(3):
        label = np.zeros((32, 32), np.uint8)
        label[8:20, 8:20] = k == 2
        tifffile.imwrite(tmp_path / f"{k}.tif", np.arange(1024, dtype=np.uint16).reshape(32, 32))
        tifffile.imwrite(tmp_path / f"{k}_label.tif", label)
        items.append({"image": f"{k}.tif", "label": f"{k}_label.tif", "fold": int(k == 2)})
    (tmp_path / "list.json").write_text(json.dumps(items))
    found = fingerprint(tmp_path / "list.json")
    for fold, missing in (("1", True), ("0", False)):
        why = make_plan(found, {"label_kind": kind, "fold": fold}).ids["split_file"].reason
        assert ("no image that is learned from holds an object" in why) == missing


@pytest.mark.parametrize(
    ("labels", "values", "told", "expected"),
    [
        ({"0": "background", "1": "tumour #1", "2": "rim"}, [0, 1, 2], None, ["tumour #1", "rim"]),
        ({"background": 0, "core": 1, "rim": 4, "all": [1, 4]}, [0, 1, 2, 4], None,
         ["core", "class 2", "rim"]),
        ({"all": [1, 2], "core": 2, "rim": [1]}, [0, 1, 2], None, ["rim", "core"]),
        ({"1": "a"}, [0, 1, 2, 4], ["1=x", "2=y", "4=z"], ["x", "y", "z"]),
        ({"1": "cell"}, [0, 1], None, ["cell"]),
        ({}, [0, 1, 2], ["background", "x", "y"], ["x", "y"]),
    ],
)  # fmt: skip
def test_names_reach_the_bundle(
    tmp_path: Path, labels: dict[str, object], values: list[int], told: Any, expected: list[str]
) -> None:
    found = Fingerprint.from_json(json.loads(json.dumps(
        fingerprint(named(tmp_path, labels, values)).to_json()
    )))  # fmt: skip
    kind = "mask" if len(values) == 2 else "classes"
    plan = make_plan(found, {"class_names": told, "label_kind": kind})
    lay_bundle(plan, tmp_path / "bundle")
    described = json.loads((tmp_path / "bundle/configs/metadata.json").read_text())
    names = described["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert list(names.values()) == ["background", *expected]
    parser = ConfigParser(json.loads((tmp_path / "bundle/configs/inference.json").read_text()))
    settings = parser.get("record")["settings"]
    kept = {
        id: parser.get_parsed_content(settings[id][1:]) for id in ("class_values", "class_names")
    }
    assert recorded_names({"settings": kept}) == dict(zip(values[1:], expected, strict=True))


def test_regions_of_several_values_are_said_to_be_no_classes(tmp_path: Path) -> None:
    labels = {"background": 0, "whole tumor": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    said = (
        "whole tumor, core of dataset.json are regions of several values, which are neither "
        "learned nor scored: each value is a class of its own"
    )
    file = named(tmp_path, labels, [0, 1, 2, 3])
    assert fingerprint(file).found_by[-1] == said
    assert about_regions(file) == said
    assert listed_names(file) == {3: "enhancing"}
    assert about_regions(tmp_path / "no.json") is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (["x"], "no name for 2; the classes of the labels are 1, 2: write VALUE=NAME"),
        (
            ["x", "y", "z"],
            "3=z names no class; the classes of the labels are 1, 2: .* say --classes",
        ),
        (["x", "$print(1)"], r"'\$print\(1\)' cannot be the name of class 2"),
    ],
)
def test_refuses_names(tmp_path: Path, told: list[str], message: str) -> None:
    found = fingerprint(named(tmp_path, {}, [0, 1, 2]))
    with pytest.raises(ValueError, match=message):
        make_plan(found, {"class_names": told, "label_kind": "classes"})


def test_a_list_cannot_name_an_expression(tmp_path: Path) -> None:
    """MONAI's configs act on what begins with a sign, and a list may be a stranger's."""
    with pytest.raises(ValueError, match="cannot be the name of class 1: choose one that is not"):
        fingerprint(named(tmp_path, {"1": "$__import__('os').system('true')"}, [0, 1, 2]))


@pytest.fixture
def pixels(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 255, (60, 70), np.uint8)


@pytest.fixture
def trained_bundle(tmp_path: Path, pixels: np.ndarray) -> Path:
    """A bundle with random weights whose masks are told to hold 0, 1, 2, 4."""
    folder = tmp_path / "bundle"
    bundle.copy_bundle(folder)
    file = folder / "configs/inference.json"
    ids = {**TINY, "label_kind": "classes", "class_values": VALUES}
    file.write_text(json.dumps(json.loads(file.read_text()) | ids))
    torch.manual_seed(0)
    network = unet(**TINY)
    weights = network.state_dict()
    torch.save(weights, folder / "models/model.pt")
    scores = Segmenter(folder, device="cpu")(pixels).probabilities
    for number in (1, 2, 3):  # each class wins somewhere
        ahead = np.log(scores[:number].max(0) / scores[number])
        weights[[*weights][-1]][number] += float(np.quantile(ahead, 0.5))
        scores[number] *= np.exp(np.quantile(ahead, 0.5))
    torch.save(weights, folder / "models/model.pt")
    return folder


def test_results_carry_them_by_every_door(
    tmp_path: Path, trained_bundle: Path, pixels: np.ndarray
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    result = Segmenter(trained_bundle, device="cpu")(tmp_path / "a.tif")
    expected = np.take(VALUES, result.probabilities.argmax(0))
    assert set(np.unique(expected)) == set(VALUES)
    np.testing.assert_array_equal(result.mask, expected)
    words = ["predict", str(tmp_path / "a.tif"), "--bundle", str(trained_bundle), "--output"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "whole/a_mask.tif"), expected)


def test_blocks_carry_them(tmp_path: Path, trained_bundle: Path, pixels: np.ndarray) -> None:
    zarr = pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    words = ["predict", str(tmp_path / "a.tif"), "--bundle", str(trained_bundle), "--output"]
    assert main([*words, str(tmp_path / "out.ome.zarr"), "--probabilities"]) == 0
    stored = zarr.open_group(tmp_path / "out.ome.zarr", mode="r")
    expected = np.take(VALUES, np.asarray(stored["0"]).argmax(0))
    np.testing.assert_array_equal(np.asarray(stored["labels/mask/0"]), expected)
    assert main(["job", "verify", str(tmp_path / "out.ome.zarr")]) == 0
