"""`unet-med train --from`: what holds of a trained bundle, what does not fit, what is replayed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from folded import facts_of
from hypothesis import given
from hypothesis import strategies as st
from monai.transforms import Compose, Lambdad, RandLambdad

from unet_med import bundle
from unet_med.cli import main
from unet_med.data import (
    SeededDataset,
    SyntheticCells,
    replayed_pairs,
    sha256,
    split_validation,
)
from unet_med.fitting import FitObjects, planned_objects
from unet_med.planning import (
    Decision,
    Fingerprint,
    Plan,
    Source,
    describe,
    fingerprint,
    make_plan,
    replay,
    with_replay,
)
from unet_med.planning.folds import decide_folds
from unet_med.planning.learned import Learned, held_planes
from unet_med.planning.replay import place_of
from unet_med.planning.splits import decide_split
from unet_med.report.training import _about_probabilities, _about_validation
from unet_med.segmentation import Segmenter


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
    colour = np.tile(np.uint8([10, 20, 30]), (40, 48, 1))
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


def test_grey_with_an_opaque_alpha_is_taken_by_a_network_of_colours(
    trained: Path, tmp_path: Path
) -> None:
    """As its prediction takes it."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    pixels = np.arange(40 * 48, dtype=np.uint8).reshape(40, 48)
    opaque = np.full_like(pixels, 255)
    bands = np.stack([pixels, pixels, pixels, opaque], -1)
    tifffile.imwrite(tmp_path / "images/a.tif", bands, photometric="rgb", extrasamples=[2])
    tifffile.imwrite(tmp_path / "labels/a.tif", (pixels > 99).astype(np.uint8))
    found = fingerprint(tmp_path / "images", tmp_path / "labels")
    assert (found.cases[0].image.channels, found.needed) == (4, 1)
    source = Source.of(trained)
    for count in (1, 3, 4):
        own = replace(source, ids={**source.ids, "in_channels": count})
        assert own.kept(found, {}).get("in_channels", Decision(1, "")).value == count
    two = replace(source, ids={**source.ids, "in_channels": 2})
    with pytest.raises(ValueError, match=r"a\.tif has 4 channel\(s\), and the network of out"):
        two.kept(found, {})


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
    widths = tuple(4 * width for width in found.instances.width_px)
    wide = replace(found, instances=replace(found.instances, width_px=widths))
    [known, new] = (each.instances.width_px[3] for each in (source.plan.data, wide))
    kept = source.kept(wide, {})
    assert kept["scale"].value == pytest.approx(known / new, rel=5e-3)
    assert f"px wide, and {source.name} knows {known:.3g}" in kept["scale"].reason


def test_a_width_said_at_prediction_is_brought_to_the_known_one(trained: Path) -> None:
    source = Source.of(trained)
    assert source.plan is not None
    known = source.plan.data.instances.width_px[3]  # the median
    assert source.scale_for(4 * known) == pytest.approx(1 / 4, rel=5e-3)
    assert source.scale_for(known) == 1
    third = replace(source, ids={**source.ids, "scale": [1 / 3, 1 / 6]})
    assert third.scale_for(known / 2) == pytest.approx([2 / 3, 1 / 3], rel=5e-3)
    sized = replace(source, ids={**source.ids, "element_size": 0.5, "element_unit": "mm"})
    with pytest.raises(ValueError, match=r"out sees pixels of 0\.5 mm, whatever the magnif"):
        sized.scale_for(known)
    for other in (
        replace(source, plan=None),
        replace(source, ids={**source.ids, "label_kind": "classes"}),
    ):
        with pytest.raises(ValueError, match="does not say how wide the objects were"):
            other.scale_for(known)


def test_predictions_of_another_magnification(trained: Path, more: Path, tmp_path: Path) -> None:
    """The command and the function show the network the same pixels, and say at which scale."""
    image = next((more / "images").iterdir())
    ids = ["--instances", "--device", "cpu", "--object-width", "40"]
    place = ["--bundle", str(trained), "--output", str(tmp_path / "results")]
    assert main(["predict", str(image), *place, *ids]) == 0
    written = tifffile.imread(tmp_path / "results" / f"{image.stem}_instances.tif")
    record = json.loads((tmp_path / "results/record.json").read_text("utf-8"))
    scale = Source.of(trained).scale_for(40)
    assert scale < 1
    assert record["settings"]["scale"] == scale
    for segment in (Segmenter(trained, object_width=40), Segmenter(trained, scale=scale)):
        assert np.array_equal(segment(image).instances.squeeze(), written)
    assert written.shape == tifffile.imread(image).shape


def test_images_of_the_bundle_are_seen_as_it_saw_them(trained: Path, cells: Path) -> None:
    """However wide the objects are of an image that was added to them."""
    source = Source.of(trained)
    found = fingerprint(cells / "images", cells / "labels")
    assert found.instances is not None
    widths = tuple(4 * width for width in found.instances.width_px)
    kept = source.kept(replace(found, instances=replace(found.instances, width_px=widths)), {})
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


def test_names_of_new_labels_are_not_lost_and_mean_the_same_values(trained: Path) -> None:
    """Labels whose list calls 1 the spleen made a bundle that calls it the liver."""
    ids = {"label_kind": "classes", "out_channels": 4, "class_values": None}
    source = replace(Source.of(trained), name="organs", ids={**ids, "class_names": ["a", "b", "c"]})

    def names(values: list[int], names: list[str] | None, **asked: Any) -> Decision:
        own = {"label_kind": "classes", "out_channels": len(values), "class_values": values}
        found = {id: Decision(v, "counted") for id, v in own.items()}
        found["class_names"] = Decision(names, "as dataset.json names them")
        return source.classes(found, asked)["class_names"]

    assert names([0, 1, 2], None) == Decision(["a", "b", "c"], "those of organs")
    assert names([0, 1, 2], ["A", "class 2"]).value == ["A", "b", "c"]  # 2 has no name there
    assert names([0, 1, 2], ["x", "b"]) == Decision(
        ["x", "b", "c"], "as dataset.json names them, and those of organs"
    )
    with pytest.raises(ValueError, match="B is the class 1 of the new labels, and 2 of organs"):
        names([0, 1, 2], ["B", "a"])


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
    assert chained.learned.held_out == set()  # the weights before had learned it


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


def cases_of(known: list[str], planes: int = 1) -> tuple[SimpleNamespace, dict[str, Any]]:
    """Images of which a bundle has learned from the `old`, held out the `held`, seen no `new`."""
    shape = (9, 9, planes) if planes > 1 else (9, 9)
    found = [
        SimpleNamespace(
            image=facts_of(f"images/{k}.tif", shape, f"{k}{kind}"),
            label=SimpleNamespace(name=f"labels/{k}.tif", sha256=f"label{k}"),
            listed={},
            blank_planes=lambda kind: set(),
            planes_without_object=set(),
            holds_object=True,
            label_values=None,
        )
        for k, kind in enumerate(known)
    ]
    of = {kind: [c.image.sha256 for c, k in zip(found, known, strict=True) if k == kind]
          for kind in ("old", "held")}  # fmt: skip
    begun = {"name": "B", "seen": len(of["old"]), "images": [*of["old"], *of["held"]]}
    return SimpleNamespace(cases=found, held_out=None), {**begun, "held_out": of["held"]}


IDS = {"slice_stacks": False, "label_kind": "instances"}


@given(
    st.lists(st.sampled_from(["old", "new", "held"]), min_size=2, max_size=14),
    st.floats(0.05, 0.7),
)
def test_what_is_held_out_is_what_the_weights_do_not_know(known: list[str], share: float) -> None:
    found, begun = cases_of(known)
    split, ids, count = decide_split(found, {**IDS, "validation_fraction": share}, {}, begun=begun)
    training, held = ([e["image"] for e in split[s]] for s in ("training", "validation"))
    kinds = {case.image.name: kind for case, kind in zip(found.cases, known, strict=True)}
    usual = split_validation([{"image": name} for name in kinds], share)[1]
    new, kept = known.count("new"), known.count("held")
    said = ids["split_file"].reason
    assert "fit" not in ids
    if new == len(known) or kept == len(known):
        assert held == [item["image"] for item in usual]
    elif not kept and new < 2:
        assert training == [*kinds]
        assert (split["seen"], count) == (True, 0)
        assert f"B has learned from all{f' but {new}' * new} of them, and" in said
        return
    else:
        assert {"old"} & {kinds[name] for name in held} == set()
        assert {name for name in kinds if kinds[name] == "held"} <= {*held}
        assert len(held) == max(kept, min(len(usual), kept + new // 2))
        assert (f"; {kept} of them as B did" in said) == (kept > 0)
    assert sorted([*training, *held]) == sorted(kinds)
    assert training
    assert count == len(held)
    assert "seen" not in split


@pytest.mark.parametrize("how", ["fold", "file", "list"])
def test_who_holds_out_what_the_weights_know_is_told(how: str, tmp_path: Path) -> None:
    found, begun = cases_of(["new", "old", "held", "new", "old", "new"])
    held = ["images/0.tif", "images/2.tif", "images/4.tif"]
    ids, file = {**IDS, "validation_fraction": 0.1}, None
    if how == "fold":
        ids["fold"] = "0/2"
    if how == "list":
        found.held_out = "3 of its 'validation' held out"
        for k in (0, 2, 4):
            found.cases[k].listed = {"section": "validation"}
    if how == "file":
        file = str(tmp_path / "split.json")
        training = [f"images/{k}.tif" for k in (1, 3, 5)]
        Path(file).write_text(json.dumps({"training": training, "validation": held}))
    split, decided, count = decide_split(found, ids, {}, file, begun=begun)
    assert [entry["image"] for entry in split["validation"]] == held
    assert count == 3
    assert decided["split_file"].reason.endswith(
        "; 1 of them as B did; B has learned from 1 of them, so their score flatters"
    )
    assert decided["fit"].value is False
    assert "B has learned from 1 of the held-out images" in decided["fit"].reason
    plan = {"split": split, "source": begun}
    assert _about_validation(plan) == (
        "3 image(s), of which 1 taught B, from whose weights it starts: their score flatters"
    )
    assert "held-out images taught the weights" in _about_probabilities(plan)
    assert "fitted to its 3 held-out images" in _about_probabilities({**plan, "source": {}})
    silent = {"name": "B", "seen": None, "images": [], "held_out": []}
    reason = decide_split(found, ids, {}, file, begun=silent)[1]["split_file"].reason
    assert reason.endswith(
        "; B does not say what it has learned from: if these, their score flatters"
    )
    assert "; " not in decide_split(found, ids, {}, file)[1]["split_file"].reason


@pytest.mark.parametrize(
    ("known", "asked", "said"),
    [
        (["new", "old", "new", "old"], {"folds": 2}, "2 of these images, such as 1.tif: leave"),
        (["new", "old", "new", "new"], {"learning_curve": True}, "--learning-curve asks what new"),
        (["new", "held", "new", "held"], {"folds": 2}, None),
        (["new"] * 4, {"folds": 2, "learning_curve": True}, None),
    ],
)
def test_no_fold_holds_out_what_the_weights_have_learned_from(
    known: list[str], asked: dict[str, Any], said: str | None
) -> None:
    """A score of it would flatter, and thresholds fitted to it be those of a memory."""
    found, begun = cases_of(known)
    ids = {**IDS, "validation_fraction": 0.25, "seed": 0, **asked}
    if said is None:
        held = decide_folds(found, ids, asked, None, begun=begun).folds
        assert sorted(e["image"] for part in held for e in part["validation"]) == [
            f"images/{k}.tif" for k in range(4)
        ]
        return
    with pytest.raises(ValueError, match=said) as raised:
        decide_folds(found, ids, asked, None, begun=begun)
    assert str(raised.value).endswith("or these images")
    assert "leave out --from, --" in str(raised.value)


def test_a_fold_may_learn_from_what_the_weights_know(tmp_path: Path) -> None:
    found, begun = cases_of(["old", "new", "new"])
    file = tmp_path / "splits.json"
    names = [f"images/{k}.tif" for k in range(3)]
    splits = [{"training": [names[0], names[k]], "validation": [names[3 - k]]} for k in (1, 2)]
    file.write_text(json.dumps(splits))
    ids = {**IDS, "validation_fraction": 0.25, "seed": 0, "folds": 2}
    folds = decide_folds(found, ids, {}, str(file), begun=begun).folds
    assert [[e["image"] for e in part["validation"]] for part in folds] == [names[2:], names[1:2]]
    splits[0]["training"], splits[0]["validation"] = names[1:2], [names[2], names[0]]
    file.write_text(json.dumps(splits))
    with pytest.raises(ValueError, match="B, from which all networks start, has learned from 1"):
        decide_folds(found, ids, {}, str(file), begun=begun)


def test_a_plan_fits_nothing_to_images_that_the_weights_know(
    trained: Path, cells: Path, tmp_path: Path
) -> None:
    source = Source.of(trained)
    assert source.plan is not None
    [taught] = source.plan.split["training"][:1]
    names = [case.image.name for case in source.plan.data.cases]
    split = {
        "training": [n for n in names if n != taught["image"]],
        "validation": [taught["image"]],
    }
    (tmp_path / "split.json").write_text(json.dumps(split))
    plan = plan_of(cells, source, split_file=str(tmp_path / "split.json"))
    assert plan.ids["fit"] == Decision(
        False, "out has learned from 1 of the held-out images: they fit it alone"
    )
    assert "their score flatters" in describe(plan)
    asked = plan_of(cells, source, split_file=str(tmp_path / "split.json"), fit=True)
    assert asked.ids["fit"].value is True


@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))), min_size=1, max_size=4
    ),
)
def test_planes_that_were_held_out_of_a_stack(
    trainings: list[tuple[set[int], set[int]]],
) -> None:
    """One training after the other learns some planes and holds out others.

    A plane that an earlier one neither learned nor held out counts as learned.
    """
    learned: set[int] = set()
    kept = {*range(10)}
    source: dict[str, Any] = {}
    for training, held in trainings:
        of = {"training": training or {0}, "validation": held}
        split = {
            side: [{"slices": [z, z + 1], "sha256": {"image": "s"}} for z in planes]
            for side, planes in of.items()
        }
        planes = held_planes(split, Learned.of(source), [])
        learned |= of["training"]
        kept &= held - learned
        source = {"images": ["s"], "held_out": [], "held_planes": planes}
        known = Learned.of(source)
        for z in range(10):
            assert known.held("s", z) == (z in kept)
            assert known.has("s", z) == (z not in kept)
        assert known.count(split["validation"]) == len(held - kept)


def test_a_block_of_a_stack_stays_held_out() -> None:
    found, begun = cases_of(["old"], planes=20)
    begun["held_planes"] = {"0old": "16..18"}  # of which the last is new
    ids = {**IDS, "slice_stacks": True, "validation_fraction": 0.1}
    split, decided, count = decide_split(found, ids, {}, begun=begun)
    assert [entry["slices"] for entry in split["validation"]] == [[16, 19]]
    assert [entry["slices"] for entry in split["training"]] == [[0, 16], [19, 20]]
    assert count == 3
    assert decided["split_file"].reason.endswith("; 3 of them as B did")
    split, decided, count = decide_split(found, ids, {}, begun={**begun, "held_planes": {}})
    assert (split["seen"], count) == (True, 0)
    assert decided["split_file"].reason.startswith(
        "all 20 planes are learned from: B has learned from all of them"
    )


def test_a_session_of_one_image_after_the_other(trained: Path, tmp_path: Path) -> None:
    """A single new image is learned from each time, and none is a score that the weights know."""
    SyntheticCells(4, (48, 40), num_cells=4, seed=8).write(tmp_path / "all")
    source, learned = Source.of(trained), set()
    for count in (1, 2, 3, 4):
        for part in ("images", "labels"):
            (tmp_path / part).mkdir(exist_ok=True)
            file = sorted((tmp_path / "all" / part).iterdir())[-count]  # the new one is first
            shutil.copy(file, tmp_path / part)
        plan = plan_of(tmp_path, source)
        learned |= {entry["image"] for entry in plan.split["training"]}
        assert len(plan.split["training"]) == len(learned) == count
        assert plan.ids["fit"].value is False
        source = replace(source, plan=plan)
    assert source.learned.held_out == set()


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


@pytest.fixture(scope="module")
def third(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("third")
    SyntheticCells(2, (48, 40), num_cells=4, seed=5).write(folder)
    return folder


def learned_by(*plans: Plan) -> set[str]:
    """SHA-256 of the images that trainings have learned from."""
    return {entry["sha256"]["image"] for plan in plans for entry in plan.split["training"]}


def test_what_a_bundle_replayed_is_replayed_again(
    trained: Path, more: Path, third: Path, cells: Path, tmp_path: Path
) -> None:
    """A, then B from A, then C from B, then D from C: each learns from all before it."""
    source, places, plans = Source.of(trained), [cells], [Source.of(trained).plan]
    for folder in (more, third, tmp_path):
        if folder is tmp_path:
            SyntheticCells(2, (48, 40), num_cells=4, seed=6).write(folder)
        plan, place = with_replay(plan_of(folder, source), source, places)
        assert place is not None
        for entry in plan.replay:
            for part in ("image", "label"):
                assert not Path(entry[part]).is_absolute()
                assert sha256(place / entry[part]) == entry["sha256"][part]
        assert {entry["sha256"]["image"] for entry in plan.replay} == learned_by(*plans)
        assert place_of(plan.replay, [tmp_path / "nothing", *places]) == place  # of --resume
        plans.append(plan)
        source, places = replace(source, plan=plan), [folder, *places]
    assert plans[2].source["replay"] == (
        "1 image(s) of out and 2 that it replayed, in every other tile"
    )


def test_what_is_no_longer_replayed_is_counted(
    trained: Path, more: Path, third: Path, cells: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source = Source.of(trained)
    plan, _ = with_replay(plan_of(more, source), source, [cells])
    second = Path(shutil.copytree(trained, tmp_path / "second"))
    bundle.write_plan(second, plan.to_json())
    source = Source.of(second)
    at_hand = {
        more: "1 image(s) of second, in every other tile; 2 that it replayed are left out: no",
        cells: "2 image(s) that second replayed, in every other tile; 1 that it learned from are",
        tmp_path: "not replayed: the images of second are not at hand",
    }
    new = plan_of(third, source)
    for folder, said in at_hand.items():
        assert with_replay(new, source, [folder])[0].source["replay"].startswith(said)
    words = ["--from", str(second), "--plan-only", "--replay"]
    assert main(line(third, tmp_path / "c", *words, str(more), str(cells))) == 0
    assert "1 image(s) of second and 2 that it replayed, in every" in capsys.readouterr().out
    assert main(line(third, tmp_path / "c", *words, str(third), str(tmp_path))) == 2
    assert f"--replay {third} {tmp_path}: not replayed: the images" in capsys.readouterr().err
    monkeypatch.setattr(replay, "MOST", 1)  # or as many as there are new ones, two
    few, _ = with_replay(new, source, [more, cells])
    assert few.source["replay"].startswith("1 image(s) of second and 1 that it replayed, in")
    assert len(few.replay) == 2
    monkeypatch.setattr(replay, "folder_above", lambda places: None)  # two disks
    apart, place = with_replay(new, source, [more, cells])
    assert (place, len(apart.replay)) == (more, 1)
    assert (
        "; 2 that it replayed are left out: no folder at hand holds them too"
        in (apart.source["replay"])
    )


def test_images_that_are_replayed_are_spread_over_all_that_could_be() -> None:
    """64 of 100 that the source learned from and 50 that it replayed: every second or third."""
    found = Fingerprint("", None, (), "mask", {}, None, (), 0, {})
    entries = [{"image": str(k), "sha256": {"image": str(k)}} for k in range(150)]
    old = Plan({}, found, {}, {"training": entries[:100]}, replay=entries[100:])
    parts, reason = replay._parts(Plan({}, found, {}), Source("s", Path(), Path(), {}, old))
    assert reason == ""
    own, earlier = ([int(entry["image"]) for entry in chosen] for _, chosen in parts)
    assert max(own) < 100 <= min(earlier)
    assert len(own + earlier) == 64
    assert {*np.diff(own + earlier).tolist()} == {2, 3}
    assert own[0] == 0
    assert earlier[-1] >= 147


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
