"""What a training says of itself: how often it draws, and its model card."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import re
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data.meta_tensor import MetaTensor

from unet_med import __version__
from unet_med.bundle import copy_bundle, find_bundle, merge_config, network_of
from unet_med.data.formats import version_of
from unet_med.networks import unet
from unet_med.report import TrainingRecord, provenance, record
from unet_med.report.model_card import network_facts, recipe_facts, write_training


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Pictures that would have been drawn, and of what."""
    found: list[tuple[str, Any]] = []
    monkeypatch.setattr(
        record,
        "learning_curve_figure",
        lambda history, *_, **__: found.append(("curve", [row["score"] for row in history])),
    )
    monkeypatch.setattr(
        record, "comparison_figure", lambda images, *_, **__: found.append(("preview", len(images)))
    )
    return found


def train(folder: Path, when: Any, epochs: int = 1) -> None:
    """Epochs of two steps, and at an event the number of epochs so far as the score."""
    item = {"image": torch.zeros(1, 4, 4), **dict.fromkeys(("label", "pred"), torch.zeros(2, 4, 4))}
    trainer, evaluator = Engine(lambda *_: {"loss": torch.tensor(0.5)}), Engine(lambda *_: item)
    trainer.state.device = "cpu"  # type: ignore[attr-defined]

    @trainer.on(when)
    def validate(_: Engine) -> None:
        evaluator.run([0])
        evaluator.state.epoch = trainer.state.epoch
        evaluator.state.metrics["score"] = trainer.state.epoch

    TrainingRecord(folder, evaluator).attach(trainer)
    trainer.run([0, 0], max_epochs=epochs)


def test_versions_are_looked_up_once() -> None:
    version_of.cache_clear()
    found = [provenance.versions() for _ in range(3)]
    assert found[0] == found[2]
    assert found[0]["torch"] == importlib.metadata.version("torch")
    assert version_of.cache_info().misses == len(provenance.PACKAGES) - 1


@pytest.mark.parametrize("part", ["images", "earlier", "settings"])
def test_a_record_of_another_program_says_nothing(tmp_path: Path, part: str) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({"images": {}, part: ["a.tif"]}))
    assert provenance.record_of(tmp_path) == {}
    file.write_text(json.dumps({"images": {"a": {}}, part: None}))
    assert provenance.record_of(tmp_path) == json.loads(file.read_text())


def test_a_record_has_the_versions_of_what_reads_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what is not installed there is none."""
    installed = {name: importlib.metadata.version(name) for name in ("nibabel", "SimpleITK")}
    assert provenance.versions().items() >= installed.items()
    monkeypatch.setattr(provenance, "PACKAGES", ("unet-med", "no-such-package", "nibabel"))
    own = {"unet-med": __version__, "nibabel": installed["nibabel"]}
    assert {k: v for k, v in provenance.versions().items() if k not in ("Python", "system")} == own


@pytest.mark.parametrize("when", [Events.EPOCH_COMPLETED, Events.COMPLETED])
def test_a_short_training_is_drawn_once(
    when: Any, drawn: list[tuple[str, Any]], tmp_path: Path
) -> None:
    train(tmp_path, when)
    assert drawn == [("curve", [1]), ("preview", 1)]


def test_what_came_within_a_minute_is_drawn_at_the_end(
    drawn: list[tuple[str, Any]], tmp_path: Path
) -> None:
    train(tmp_path, Events.EPOCH_COMPLETED, epochs=3)
    curves = [of for kind, of in drawn if kind == "curve"]
    assert curves == [[1], [1, 2, 3]]


def test_a_score_that_is_no_number_is_no_row_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot be drawn, and would be marked as the best."""
    monkeypatch.setattr(record, "learning_curve_figure", lambda history, *_, **__: history)
    evaluator = Engine(lambda *_: None)
    evaluator.state.metrics = {"score": torch.tensor(torch.nan), "other": 0.5}
    kept = TrainingRecord(tmp_path, evaluator)
    kept.history = [{"epoch": 0, "loss": 0.5}]
    kept._add_scores(evaluator)
    assert kept.history == [{"epoch": 0, "loss": 0.5, "other": 0.5}]


def test_of_a_volume_the_plane_that_is_drawn_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A copy: a view would keep whole volumes, of one class map each, on a GPU."""
    shape = (6, 5, 7)
    image, label = torch.rand(3, *shape), torch.randint(0, 4, (1, *shape))
    pred = torch.nn.functional.one_hot(label[0].flip(0), 4).movedim(-1, 0)  # of an old bundle
    expected = [image[..., 3].clone(), label[..., 3].clone(), label[..., 3].flip(1).clone()]
    evaluator = Engine(lambda *_: [{"image": image, "label": label, "pred": pred}])
    kept = TrainingRecord(tmp_path, evaluator)
    kept.attach(Engine(lambda *_: None))
    evaluator.run([0, 0, 0, 0])
    for tensor in (image, label, pred):
        tensor.zero_()
    seen: list[Any] = []
    monkeypatch.setattr(record, "comparison_figure", lambda *rows, **_: seen.extend(rows[:3]))
    kept._draw_preview()
    for found, plane in zip(seen, expected, strict=True):
        assert len(found) == 3  # images
        for array in found:
            np.testing.assert_array_equal(array, plane)
            assert array.base is None


def test_the_preview_knows_how_large_pixels_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    affine = torch.diag(torch.tensor([0.5, 0.25, 2.0, 1.0]))
    labels = torch.zeros(1, 6, 5, 7)
    image = MetaTensor(labels, affine=affine, meta={"spatial_unit": "mm"})
    plain, sizes = {"image": labels, "label": labels, "pred": labels}, []
    evaluator = Engine(lambda *_: [{**plain, "image": image}, plain])
    kept = TrainingRecord(tmp_path, evaluator)
    kept.attach(Engine(lambda *_: None))
    evaluator.run([0])
    monkeypatch.setattr(record, "comparison_figure", lambda *_, **all: sizes.append(all))
    kept._draw_preview()
    assert sizes == [{"kind": "classes", "pixel_sizes": ((0.5, 0.25, "mm"), None)}]


def test_a_card_that_cannot_be_written_costs_no_training(
    drawn: list[tuple[str, Any]], tmp_path: Path, monkeypatch: Any, caplog: Any
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("a network that has no shape")

    monkeypatch.setattr(record, "write_training", fails)
    train(tmp_path, Events.EPOCH_COMPLETED)
    assert "docs/README.md is not renewed: RuntimeError: a network" in caplog.text
    assert (tmp_path / "training.json").is_file()


def test_the_model_card_of_volumes_says_what_they_have_besides() -> None:
    configs = find_bundle() / "configs"
    overrides = [configs / f"{name}.json" for name in ("modern", "volume3d", "modern3d")]
    said = {"spatial_dims": 3, "label_kind": "classes", "features": [2, 4], "mirror_axes": [1]}
    settings = merge_config(configs / "train.json", overrides, said)
    parser, network = network_of(settings)
    recipe = recipe_facts(parser, settings, 7)
    assert recipe["loss"] == "`SumLoss` of `WeightedCrossEntropyLoss` and `OnLabel` of `DiceLoss`"
    assert recipe["border weights"] is None
    acting = re.findall(r"(?:^|; )([\w ]+):", recipe["augmentation"])  # no turn, no flip along Z
    assert acting == ["crop", "flip", "flip y", "rotate", "elastic", "grey"]
    facts = network_facts(network, settings, {"image_classes": "images", "pred_classes": "logits"})
    assert facts["normalisation"] == "`BatchNorm3d`"  # the statistics are those of the training
    assert facts["features"] == "2, 4"


def test_the_model_card_says_what_it_was_trained_on(trained: Path, tmp_path: Path) -> None:
    card = (trained / "docs/README.md").read_text(encoding="utf-8")
    assert "carries no trained weights" not in card
    with (trained / "models/learning_curve.csv").open(newline="") as file:
        *_, last = csv.DictReader(file)
    for line in (
        "| preset | modern |",
        "| features | 2, 4, 8 |",
        "| images | 3 file(s) in images |",
        "| labels are | instances |",
        "| epochs | 1 |",
        f"| val mean dice, single passes | {float(last['val_mean_dice']):.3f} |",
    ):
        assert card.count(f"\n{line}\n") == 1, line
    assert [word for word in ("valid convolutions", "31,030,658", "SGD") if word in card] == []
    parameters = sum(p.numel() for p in unet("modern", features=(2, 4, 8)).parameters())
    steps = json.loads((trained / "models/training.json").read_text())["iterations"]
    for line in (
        "A MONAI bundle that `unet-med train` made; its network and training are below.",
        "| made by | `unet_med.networks.unet` |",
        "| padding | same |",
        "| normalisation | `BatchNorm2d`, with the statistics of each image |",
        f"| parameters | {parameters:,} in 13 convolutions |",  # 2 a level, 2 up, 1 of 1x1
        "| optimiser | `Adam` |",
        "| batch | 4 tile(s) of 72 x 72 px |",
        f"| steps | {steps} |",
        "| border weights | w0 10.0, sigma 5.0 |",
    ):
        assert card.count(f"\n{line}\n") == 1, line
    assert "rotate: `RandRotated`, prob 0.2, range_x 0.785; elastic: `RandElasticDeformd`" in card
    write_training(trained)  # of a training that was resumed
    assert (trained / "docs/README.md").read_text(encoding="utf-8") == card
    other = copytree(trained, tmp_path / "other")
    write_training(other, unet("modern", features=(2, 4, 8)))
    assert (other / "docs/README.md").read_text(encoding="utf-8") == card
    write_training(other, unet("modern", features=(2, 4)))  # of a further config file
    changed = (other / "docs/README.md").read_text(encoding="utf-8")
    assert "## Its network\n\nIt is not the one of `configs/train.json`" in changed
    assert "| parameters |" not in changed
    assert "| optimiser |" not in changed
    old = card.replace("<!-- about: begin -->", "").replace("| epochs | 1 |", "| epochs | ? |")
    (other / "docs/README.md").write_text(old, encoding="utf-8")
    write_training(other)  # a card of before these sections: its own text stays alone
    renewed = (other / "docs/README.md").read_text(encoding="utf-8")
    assert "| epochs | 1 |" in renewed
    assert renewed.count("## Its network") == 1
    fresh = copy_bundle(tmp_path / "fresh")
    before = (fresh / "docs/README.md").read_bytes()
    write_training(fresh)  # nothing was planned: a checkout, or a bundle laid by hand
    assert (fresh / "docs/README.md").read_bytes() == before


@pytest.mark.parametrize("channels", [1, 3])
def test_the_preview_takes_numbers_of_classes_and_one_hot_maps(
    channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(record, "comparison_figure", lambda *args, **_: shown.append(args[1:3]))
    classes = torch.tensor([[[0, 1], [2, 1]]])
    maps = classes if channels == 1 else torch.cat([classes == k for k in range(channels)]).float()
    item = {"image": torch.zeros(1, 2, 2), "label": maps, "pred": maps.flip(1)}
    evaluator = Engine(lambda *_: item)
    drawing = TrainingRecord(tmp_path, evaluator)
    drawing.attach(Engine(lambda *_: None))
    evaluator.run([0])
    drawing._draw_preview()
    [([label], [result])] = shown
    np.testing.assert_array_equal(label, classes)
    np.testing.assert_array_equal(result, classes.flip(1))
