"""What a run says of images that its network itself takes to be segmented wrongly."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ignite.engine import Engine

from unet_med.data import load_image, save_image
from unet_med.report import PredictionRecord
from unet_med.report.doubtful import LEAST, say_doubtful

ADVICE = (
    ": they may hold nothing of what it learned, or be of another kind; look at their results "
    "before you use them"
)


def said(caplog: pytest.LogCaptureFixture, **sure: float | None) -> list[str]:
    caplog.clear()
    say_doubtful({name: {"confidence": number} for name, number in sure.items()})
    return caplog.messages


def test_the_least_sure_come_first_and_a_line_is_enough(caplog: pytest.LogCaptureFixture) -> None:
    lines = said(caplog, good=0.9, noise=0.05, dim=LEAST, empty=None, worse=0.29)
    begin = "the network takes most of what it found for wrong (confidence below 0.3 of 1) in "
    assert lines == [f"{begin}noise (0.05), worse (0.29){ADVICE}"]
    lines = said(caplog, **{f"n{k}": k / 100 for k in range(7)})
    assert lines == [f"{begin}n0 (0.00), n1 (0.01), n2 (0.02) and 4 more{ADVICE}"]


def test_nothing_is_said_of_sure_empty_and_unknown_images(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert said(caplog, good=0.9, empty=None) == []
    say_doubtful({"of a bundle that does not say it": {}})
    assert caplog.messages == []


def noted(folder: Path, name: str, sure: float) -> Any:
    save_image(folder / name, np.zeros((1, 8, 8), np.uint8))
    image = load_image(folder / name)
    image.meta["confidence"] = sure
    return image


def test_a_run_says_it_once_at_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = [noted(tmp_path, f"{sure}.tif", sure) for sure in (0.1, 0.8, 0.2)]
    engine = Engine(lambda engine, image: [{"image": image}])
    engine.state.device = "cpu"  # type: ignore[attr-defined]
    PredictionRecord(tmp_path / "results").attach(engine)
    with caplog.at_level(logging.WARNING, "unet_med.report.doubtful"):
        engine.run(images)
        [line] = caplog.messages
        assert "in 0.1 (0.10), 0.2 (0.20): they" in line
        caplog.clear()
        engine.run(images[1:2])  # of this run alone
        assert caplog.messages == []


def test_an_image_that_is_noted_alone_says_it_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As block by block, and where a `Segmenter` saves."""
    PredictionRecord(tmp_path / "results").note(noted(tmp_path, "a.tif", 0.1), "cpu", 1.0)
    assert [line.split(" in ")[1].split(":")[0] for line in caplog.messages] == ["a (0.10)"]
