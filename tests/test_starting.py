"""`unet-med train --from`: what holds of a trained bundle, what does not fit, what is replayed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import Compose, Lambdad, RandLambdad

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import SeededDataset, SyntheticCells, replayed_pairs
from unet_med.fitting import FitObjects, planned_objects
from unet_med.planning import Decision, Plan, Source, fingerprint, make_plan, with_replay


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images that no bundle has seen."""
    folder = tmp_path_factory.mktemp("more")
    SyntheticCells(2, (48, 40), num_cells=4, seed=3).write(folder)
    return folder


def line(more: Path, output: Path, *words: str) -> list[str]:
    places = ["--images", f"{more}/images", "--labels", f"{more}/labels", "--output", str(output)]
    return ["train", *places, "--device", "cpu", *words]


def plan_of(more: Path, source: Source, **choices: Any) -> Plan:
    return make_plan(fingerprint(more / "images", more / "labels"), choices, source=source)


def test_network_and_pixels_are_those_of_the_bundle(trained: Path, more: Path) -> None:
    source = Source.of(trained)
    plan, fresh = plan_of(more, source), make_plan(fingerprint(more / "images", more / "labels"))
    why = f"of {trained.name}, whose weights it starts from"
    assert plan.ids["features"] == Decision([2, 4, 8], why)
    assert plan.ids["preset"] == Decision("modern", why)
    assert plan.value("scale") == 1
    assert plan.ids["scale"].reason == f"{why}: objects are about as wide"
    assert plan.value("pretrained") == "$@bundle_root + '/models/start/pretrained.pt'"
    assert plan.value("learning_rate") == pytest.approx(0.3 * fresh.value("learning_rate"))
    for id in ("min_size", "tiles_per_epoch", "minutes", "label_kind", "reach"):
        assert plan.ids[id] == fresh.ids[id], id  # planned anew
    assert len(plan.source["weights"]) == 64
    assert source.plan is not None
    old, new = ([case.image.sha256 for case in each.data.cases] for each in (source.plan, plan))
    assert plan.source["images"] == sorted(old)
    chained = replace(source, plan=plan)  # what the bundle before learned is not lost
    assert plan_of(more, chained).source["images"] == sorted([*old, *new])
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_levels_are_those_of_the_bundle_whatever_the_voxels(trained: Path, more: Path) -> None:
    own = Source.of(trained)
    thick = replace(own, ids={**own.ids, "pool": [[2, 1], 2], "kernel_size": [[3, 1], 3, 3]})
    plan = plan_of(more, thick)
    assert plan.value("pool") == [[2, 1], 2]
    assert plan.value("kernel_size") == [[3, 1], 3, 3]
    with pytest.raises(ValueError, match="pool 2 does not fit"):
        plan_of(more, thick, pool=2)


def test_objects_begin_as_the_bundle_has_learned(trained: Path, more: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(trained, tmp_path / "own"))
    fitted = {"threshold": 0.8, "mask_threshold": 0.3}
    bundle.write_settings(own, [], fitted, reason="fitted on 3 held-out images: AP 0.9")
    plan = plan_of(more, Source.of(own), epochs=1)
    assert plan.ids["threshold"] == Decision(0.8, "as own begins them")
    assert plan.ids["mask_threshold"] == Decision(0.3, "as own begins them")
    folder = tmp_path / "bundle"
    bundle.copy_bundle(folder)
    bundle.write_plan(folder, plan.to_json())
    handler = FitObjects(
        folder, folder / "model.pt", [], training=[], load={}, network=torch.nn.Conv2d(1, 2, 1)
    )
    planned, free = planned_objects(handler._plan())  # held-out images may still change them
    assert (planned["threshold"], free) == (0.8, ["threshold", "mask_threshold", "min_size"])


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"features": [2, 4]}, r"--features 2 4 does not fit .* has 2 4 8: leave it out"),
        ({"preset": "paper2015"}, r"--preset paper2015 does not fit .* has modern"),
        ({"spatial_dims": 3}, r"--dims 3 does not fit .* has 2"),
    ],
)
def test_another_network_is_refused(
    choices: dict[str, Any], message: str, trained: Path, more: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        plan_of(more, Source.of(trained), **choices)


def test_images_that_do_not_fit_are_refused(
    trained: Path, more: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    colour = np.zeros((40, 48, 3), np.uint8)
    tifffile.imwrite(tmp_path / "images/a.tif", colour, photometric="rgb")
    label = np.zeros((40, 48), np.uint16)
    label[4:9, 4:9], label[20:29, 20:29] = 1, 2
    tifffile.imwrite(tmp_path / "labels/a.tif", label)
    assert main(line(tmp_path, tmp_path / "out", "--from", str(trained))) == 2
    said = capsys.readouterr().err
    assert "a.tif has 3 channel(s), and the network of out takes 1: save the images so" in said
    tifffile.imwrite(tmp_path / "images/a.tif", colour[..., 0])
    source = Source.of(trained)
    source = replace(source, ids={**source.ids, "element_size": 0.5, "element_unit": "um"})
    with pytest.raises(ValueError, match=r"a.tif does not say its pixel size, and out sees"):
        plan_of(tmp_path, source)
    assert plan_of(tmp_path, source, scale=[0.5]).value("scale") == [0.5]
    assert not (tmp_path / "out").exists()


def test_a_size_in_another_unit_is_the_same_size(trained: Path, more: Path) -> None:
    source = Source.of(trained)
    source = replace(source, ids={**source.ids, "element_size": [5e-4, 1e-3], "element_unit": "mm"})
    found = fingerprint(more / "images", more / "labels", pixel_size=[1.0])
    kept = source.kept(found, {})
    assert (kept["element_size"].value, kept["element_unit"].value) == ([0.5, 1.0], "um")


def test_objects_of_another_width_are_brought_to_the_known_one(trained: Path, more: Path) -> None:
    source = Source.of(trained)
    found = fingerprint(more / "images", more / "labels")
    assert found.instances is not None
    areas = tuple(16 * area for area in found.instances.plane_px)  # four times as wide
    wide = replace(found, instances=replace(found.instances, plane_px=areas))
    [known, new] = (
        2 * np.sqrt(each.instances.plane_px[3] / np.pi) for each in (source.plan.data, wide)
    )
    kept = source.kept(wide, {})
    assert kept["scale"].value == pytest.approx(known / new, rel=5e-3)
    assert f"px wide, and {source.name} knows {known:.3g}" in kept["scale"].reason


def test_images_of_the_bundle_are_seen_as_it_saw_them(trained: Path, cells: Path) -> None:
    """However wide the objects are of an image that was added to them."""
    source = Source.of(trained)
    found = fingerprint(cells / "images", cells / "labels")
    assert found.instances is not None
    areas = tuple(16 * area for area in found.instances.plane_px)
    kept = source.kept(replace(found, instances=replace(found.instances, plane_px=areas)), {})
    assert kept["scale"].value == 1
    assert kept["scale"].reason.endswith("3 of the images are the bundle's own")


def test_classes_of_the_bundle_stay_where_labels_hold_no_others(trained: Path) -> None:
    ids = {"label_kind": "classes", "out_channels": 3, "class_values": [0, 2, 5]}
    source = replace(Source.of(trained), name="organs", ids={**ids, "class_names": ["a", "b"]})

    def decided(values: list[int], kind: str = "classes") -> dict[str, Decision]:
        own = {"label_kind": kind, "out_channels": len(values), "class_values": values}
        return {id: Decision(v, "counted") for id, v in {**own, "class_names": None}.items()}

    kept = source.classes(decided([0, 5]), {})
    assert {id: d.value for id, d in kept.items()} == {
        "out_channels": 3, "class_values": [0, 2, 5], "class_names": ["a", "b"]
    }  # fmt: skip
    assert source.classes(decided([0, 5]), {"class_names": ["x"]}).keys() == kept.keys() - {
        "class_names"
    }
    assert source.classes(decided([0, 1, 2]), {}) == {}  # as many: the last layer begins as it was
    anew = source.classes(decided([0, 1, 2, 3]), {})
    assert anew["out_channels"] == Decision(
        4, "counted, where organs has 3: the last layer starts anew"
    )


def test_weights_begin_as_those_of_the_bundle(trained: Path, more: Path, tmp_path: Path) -> None:
    still = tmp_path / "still.json"
    still.write_text('{"learning_rate": 0.0}')
    words = ["--from", str(trained), "--epochs", "1", "--config", str(still), "--replay", "none"]
    output = tmp_path / "out"
    assert main(line(more, output, *words)) == 0
    old, new = (torch.load(f / "models/model.pt", weights_only=True) for f in (trained, output))
    weights = [name for name in old if name.endswith(".weight")]
    for name in weights:
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=0)
    text = (output / "configs/train.json").read_text() + (output / "configs/plan.json").read_text()
    assert str(trained) not in text
    assert str(more) not in text


# --- old images


def test_old_images_take_every_other_tile() -> None:
    """Three new and two old images: 24 tiles are 12 of each, and each image equally often."""
    new, old = ([{"image": f"{kind}{k}"} for k in range(n)] for kind, n in (("n", 3), ("o", 2)))
    chain = Compose([Lambdad("image", str), RandLambdad("image", str)])
    dataset = SeededDataset(new, chain, seed=5, tiles_per_epoch=8, replayed=old)
    seen = [dataset.source(k)["image"] for k in range(24)]
    assert [name[0] for name in seen] == ["n", "o"] * 12
    assert Counter(seen) == {"n0": 4, "n1": 4, "n2": 4, "o0": 6, "o1": 6}
    alone = SeededDataset(new, chain, seed=5, tiles_per_epoch=8)
    assert [alone.source(k)["image"] for k in range(12)] == seen[::2]


def test_what_the_bundle_learned_from_is_replayed(
    trained: Path, more: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = ["--from", str(trained), "--epochs", "1", "--replay", str(cells)]
    assert main(line(more, output, *words)) == 0
    assert "2 image(s) of out, in every other tile" in capsys.readouterr().err
    plan = bundle.read_plan(output)
    learned = bundle.read_plan(trained)["split"]["training"]
    assert plan["replay"] == learned
    items = replayed_pairs(output / "configs/replay.json", cells)
    assert items == [{k: str(cells / entry[k]) for k in ("image", "label")} for entry in learned]
    state = torch.load(output / "models/resume/checkpoint.pt", weights_only=True)
    assert state["settings"]["replayed"] == 2
    # it goes on with them, wherever they are, and not without them
    longer = ["--resume", "--epochs", "2"]
    assert main(line(more, output, *longer, "--replay", str(more))) == 2
    assert "that" in (said := capsys.readouterr().err)
    assert "replays are not at hand" in said
    moved = shutil.copytree(cells, tmp_path / "data")
    assert main(line(more, output, *longer, "--replay", str(moved))) == 0
    assert main(line(more, output, *longer, "--from", str(output))) == 2
    assert f"--from {output} does not continue {output}, begun with out" in capsys.readouterr().err


def test_what_was_held_out_stays_held_out(
    trained: Path, cells: Path, more: Path, tmp_path: Path
) -> None:
    source = Source.of(trained)
    assert source.plan is not None
    [known] = source.plan.split["validation"]
    for part in ("images", "labels"):
        shutil.copytree(cells / part, tmp_path / part)
        for number, file in enumerate(sorted((more / part).iterdir())):
            shutil.copy(file, tmp_path / part / f"0new{number}{file.suffix}")  # first by name
    names = sorted(file.name for file in (tmp_path / "images").iterdir())
    sides = plan_of(tmp_path, source).split
    assert [entry["sha256"] for entry in sides["validation"]] == [known["sha256"]]
    assert len(sides["training"]) == len(names) - 1
    plan = plan_of(tmp_path, source, validation_fraction=0.4)  # two of five, one of them new
    held = {Path(entry["image"]).name for entry in plan.split["validation"]}
    assert held == {Path(known["image"]).name, "0new1.tif"}
    assert plan.ids["split_file"].reason == "2 of 5 images held out; 1 of them as out did"
    file = next((tmp_path / "images").glob("0new0*"))
    file.unlink()
    next((tmp_path / "labels").glob("0new0*")).unlink()
    plan = plan_of(tmp_path, source, validation_fraction=0.5)  # the only new image is learned
    assert [entry["sha256"] for entry in plan.split["validation"]] == [known["sha256"]]
    chained = replace(
        source, plan=replace(source.plan, source={"images": [known["sha256"]["image"]]})
    )
    assert chained.held_out == []  # the weights before had learned it


def test_a_group_of_what_was_held_out_stays_held_out(
    trained: Path, cells: Path, more: Path, tmp_path: Path
) -> None:
    source = Source.of(trained)
    assert source.plan is not None
    name = Path(source.plan.split["validation"][0]["image"]).stem
    for part in ("images", "labels"):
        shutil.copytree(cells / part, tmp_path / part)
        file = min((more / part).iterdir())
        shutil.copy(file, tmp_path / part / f"{name}-again{file.suffix}")
    plan = plan_of(tmp_path, source, group=r"(cells_\d+)")
    held = {Path(entry["image"]).stem for entry in plan.split["validation"]}
    assert held == {name, f"{name}-again"}
    assert plan.ids["split_file"].reason.endswith("on one side each; 1 of them as out did")


def test_what_cannot_be_replayed_is_said(
    trained: Path, more: Path, cells: Path, tmp_path: Path
) -> None:
    source = Source.of(trained)
    plan = plan_of(more, source)
    told, place = with_replay(plan, source, [tmp_path, cells])
    assert place == cells
    assert "replay_file" in told.ids
    changed = Path(shutil.copytree(cells, tmp_path / "changed"))
    first = changed / told.replay[0]["image"]
    first.write_bytes(first.read_bytes() + b" ")
    told, place = with_replay(plan, source, [changed])
    assert (place, told.replay) == (None, ())
    assert told.source["replay"] == "not replayed: the images of out are not at hand " + (
        "(--replay says where)"
    )
    other = replace(plan, ids={**plan.ids, "scale": Decision(0.5, "")})
    told, place = with_replay(other, source, [cells])
    assert place is None
    assert "scale is 0.5, and that of out" in told.source["replay"]
    assert source.plan is not None
    strokes = {**source.plan.ids, "unknown": Decision(99, "")}
    other = replace(source, plan=replace(source.plan, ids=strokes))
    told, place = with_replay(plan, other, [cells])
    assert "unknown is None, and that of out 99" in told.source["replay"]
    same = replace(plan, ids={**plan.ids, "unknown": Decision(99, "")})
    assert with_replay(same, other, [cells])[1] == cells
    told, place = with_replay(plan_of(cells, source), source, [cells])  # nothing but the same
    assert told.source["replay"] == "not replayed: out names no other images"


@pytest.mark.parametrize("words", [["--replay", "none"], ["--trust"]])
def test_options_of_a_start_alone(
    words: list[str], more: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line(more, tmp_path / "out", *words)) == 2
    assert f"{words[0]} has no effect without --from" in capsys.readouterr().err


def test_a_strangers_bundle_is_no_start(
    trained: Path, more: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Path(shutil.copytree(trained, tmp_path / "theirs"))
    config = theirs / "configs/inference.json"
    content = json.loads(config.read_text())
    content["network_def"] = {"_target_": "subprocess.getoutput", "cmd": "true"}
    config.write_text(json.dumps(content))
    assert main(line(more, tmp_path / "out", "--from", str(theirs))) == 2
    assert "subprocess.getoutput" in capsys.readouterr().err
