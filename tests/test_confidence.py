"""How sure a prediction is, against numbers by hand and views that disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from monai.data import MetaTensor
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from unet_med import Segmenter
from unet_med.cli import main
from unet_med.inferers import OverlapTileInferer
from unet_med.inferers.agreement import Votes
from unet_med.inferers.test_time_augmentation import views
from unet_med.metrics import dice
from unet_med.networks import together, unet
from unet_med.report import html_report
from unet_med.report.page import least_confident_first
from unet_med.report.training import _about_probabilities
from unet_med.transforms import Calibrate, Confidenced
from unet_med.transforms import confidence as confidence_module
from unet_med.transforms.confidence import expected_dice, uncertainty


def test_by_hand() -> None:
    """Foreground 0.9 and 0.6 in the mask, 0.2 and 0.1 outside: 2 * 1.5 / (1.8 + 2)."""
    foreground = torch.tensor([[0.9, 0.6, 0.2, 0.1]])
    scores = torch.stack([1 - foreground, foreground])
    found = torch.tensor([[[1, 1, 0, 0]]])
    assert expected_dice(scores, found) == pytest.approx(3.0 / 3.8)
    wrong = uncertainty(scores, found)
    assert wrong.flatten().tolist() == pytest.approx([0.1, 0.4, 0.2, 0.1])
    assert expected_dice(scores, torch.zeros_like(found)) is None


def test_it_expects_what_truths_drawn_from_the_probabilities_score() -> None:
    rng = np.random.default_rng(0)
    scores = rng.dirichlet([3.0, 1.0, 1.0], 4000).T  # (3, N)
    found = scores.argmax(axis=0)
    drawn = []
    for _ in range(100):
        truth = (rng.random(scores.shape[1]) > scores.cumsum(axis=0)[:-1]).sum(axis=0)
        hits = ((truth == found) & (found > 0)).sum()
        drawn.append(2 * hits / ((truth > 0).sum() + (found > 0).sum()))
    expected = expected_dice(torch.from_numpy(scores), torch.from_numpy(found)[None])
    assert expected == pytest.approx(np.mean(drawn), abs=0.005)


class NoDoubles(TorchDispatchMode):
    """A GPU that has no float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.is_cuda and result.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return result


@pytest.mark.gpu
def test_a_gpu_without_float64_says_how_sure_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As all of Apple: what is summed there is summed in float32."""
    torch.manual_seed(0)
    network, image = unet("modern", features=(2, 4)).eval(), torch.randn(1, 1, 32, 32)
    found = {}
    monkeypatch.setattr(confidence_module, "widest_float", lambda device: torch.float32)
    for device in ("cpu", "cuda"):
        with NoDoubles(), torch.no_grad():
            seen = MetaTensor(image.to(device))
            scores = OverlapTileInferer(tta="flips")(seen, network.to(device)).softmax(1)
            item = Confidenced("pred")({"image": MetaTensor(image[0]), "pred": scores[0]})
            found[device] = item["image"].meta["confidence"]
    assert 0 < found["cuda"] == pytest.approx(found["cpu"], abs=1e-3)


class Slope(nn.Module):
    """Foreground where an image is bright and, by its own view, far along the first axis."""

    spatial_dims = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(-1, 1, x.shape[2]).view(1, 1, -1, 1)
        scores = x + 2 * ramp * self.weight
        return torch.cat([-scores, scores], 1)


def slopes(count: int) -> nn.Module:
    """Several that see their slope more and more, or one."""
    both = together(Slope(), count)
    for k, weight in enumerate(both.parameters()):
        weight.data += 2 * k
    return both


@pytest.mark.parametrize("shape", [(1, 1, 8, 6), (2, 1, 8, 6, 3)])
@pytest.mark.parametrize(("tta", "count"), [("flips", 1), (None, 3), ("flips", 3)])
def test_agreement_is_the_dice_of_each_view_with_their_mean(
    shape: tuple[int, ...], tta: str | None, count: int
) -> None:
    """A view is what one network says of the image seen one way."""
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    inferer = OverlapTileInferer(-1, tta=tta, margin=0, stride=1)
    network = slopes(count)
    given = MetaTensor(image)
    with torch.no_grad():
        logits = inferer(given, network)
    assert torch.equal(given.meta["agreement"], logits.meta["agreement"])  # `Invertd` takes it
    for n in range(shape[0]):
        planes = image[n].reshape(1, 8, 6, -1).unbind(-1)
        both = sizes = 0
        for k, plane in enumerate(planes):
            said = [
                view.undo(one(view.apply(plane[None])))[0].detach().numpy()
                for view in views(tta, 2)
                for one in (network.members if count > 1 else [network])
            ]
            np.testing.assert_allclose(
                np.asarray(logits)[n].reshape(2, 8, 6, -1)[..., k], np.mean(said, 0), atol=1e-5
            )
            mean = np.mean(said, 0).argmax(0)
            for seen in (scores.argmax(0) for scores in said):
                both, sizes = both + 2 * (seen & mean).sum(), sizes + seen.sum() + mean.sum()
        assert float(logits.meta["agreement"][n]) == pytest.approx(both / sizes)
    assert both < sizes  # they do not agree
    once = OverlapTileInferer(-1, margin=0, stride=1)(given, Slope())
    assert "agreement" not in once.meta
    assert "agreement" not in given.meta  # of the prediction before


def test_more_views_than_a_byte_counts() -> None:
    """Of 300, 290 see the one pixel that the mean has: twice 290 of 290 and 300."""
    votes, sure = Votes(), torch.tensor([[[[-1.0]], [[1.0]]]])
    for k in range(300):
        votes.add(sure if k < 290 else -sure)
    assert votes.overlap(sure).tolist() == [[580, 590]]


def test_the_number_is_both() -> None:
    scores = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0)).softmax(0)
    found = (scores[1:] >= 0.4).long()
    expected = expected_dice(Calibrate(2.0)(scores), found)
    assert expected is not None
    item = {"image": MetaTensor(torch.zeros(1, 6, 5)), "pred": MetaTensor(scores)}
    step = Confidenced("pred", threshold=0.4, temperature=2.0, names="uncertainty")
    assert step(item)["image"].meta["confidence"] == round(expected, 4)
    item["pred"].meta["agreement"] = torch.tensor([0.5])
    done = step(item)
    assert done["image"].meta["confidence"] == round(0.5 * expected, 4)
    torch.testing.assert_close(
        done["uncertainty"].as_tensor(), uncertainty(Calibrate(2.0)(scores), found)
    )


@pytest.mark.parametrize(
    ("held", "fitted", "why"),
    [
        (2, False, "takes three held-out images or more"),
        (4, True, "by an unet-med that did not do so yet"),  # objects are fitted, it is not
        (4, False, "nothing was fitted to its 4 held-out images"),
    ],
)
def test_why_probabilities_are_not_calibrated(
    tmp_path: Path, held: int, fitted: bool, why: str
) -> None:
    known = {"sha256": {"image": ""}}
    images = [{"image": f"{k}.tif", **known} for k in range(held)]
    split = {"training": [], "validation": images}
    threshold = {"value": 0.6, "reason": "fitted on 4 images" if fitted else "planned"}
    plan = {"ids": {"threshold": threshold}, "split": split}
    assert why in _about_probabilities(plan)
    stack = {"training": [], "validation": [{"image": "s.tif", "slices": [0, held], **known}]}
    assert why in _about_probabilities({**plan, "split": stack})  # each plane is one
    plan["ids"]["calibration"] = {"value": None, "reason": "fitted on 4 images: none is better"}
    assert _about_probabilities(plan) == "fitted on 4 images: none is better"


def test_predict_writes_it_down(
    trained: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["--bundle", str(trained), "--device", "cpu", "--uncertainty", "--output", str(out)]
    assert main(["predict", f"{cells}/images", *words]) == 0
    said = "NAME_uncertainty is 1 less the network's own probability, not calibrated: that takes"
    assert said in capsys.readouterr().err
    record = json.loads((out / "record.json").read_text())
    segment = Segmenter(trained, device="cpu")
    for name in ("cells_000", "cells_001"):
        result = segment(str(cells / f"images/{name}.tif"))
        scores = torch.from_numpy(result.probabilities)
        mask = torch.from_numpy(result.mask)[None].long()
        agreed = float(result._item["pred"].meta["agreement"][0])
        expected = expected_dice(scores, mask)
        assert expected is not None
        assert record["images"][name]["confidence"] == pytest.approx(expected * agreed, abs=1e-4)
        assert result.confidence == record["images"][name]["confidence"]
        wrong = tifffile.imread(out / f"{name}_uncertainty.tif")
        np.testing.assert_allclose(wrong, uncertainty(scores, mask)[0], atol=1e-6)
        np.testing.assert_allclose(wrong, result.uncertainty, atol=1e-6)
    page = html_report(out).read_text()
    order = [*least_confident_first(record["images"])]
    assert sorted(order) == ["cells_000", "cells_001", "cells_002"]
    places = [page.index(f"<h3>{name}</h3>") for name in order]
    assert places == sorted(places)
    assert "the least confident first" in page
    assert page.count('aria-label="chance that a pixel is wrong"') == 3
    assert page.count("chance to be wrong, not calibrated") == 3


def test_nothing_found_comes_last() -> None:
    images = {"a": {"confidence": None}, "b": {"confidence": 0.9}, "c": {"confidence": 0.2}}
    assert [*least_confident_first(images)] == ["c", "b", "a"]


def test_the_dice_is_that_of_the_metric() -> None:
    """Sure probabilities expect the Dice with themselves as the truth."""
    truth, mask = torch.tensor([[1, 1, 0, 1]]), torch.tensor([[1, 0, 1, 1]])
    scores = torch.stack([1.0 - truth, truth.float()])
    assert expected_dice(scores, mask[None]) == pytest.approx(dice(mask, truth))
