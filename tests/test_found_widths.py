"""What a run says of objects that are far wider or narrower than those that were learned."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine

from unet_med.planning import Source
from unet_med.report.found_widths import FoundWidths, widths_of
from unet_med.volumes.blocks import split
from unet_med.volumes.record import _look_at_widths


def squares(side: int, count: int = 20) -> torch.Tensor:
    """Instances `(1, X, Y)`: a row of squares that do not touch."""
    numbers = np.arange(1, count + 1, dtype=np.int32)
    row = np.pad(np.ones((side, side), np.int32), 1)
    return torch.from_numpy(np.kron(numbers[None], row)[None])


def said(handler: FoundWidths, caplog: pytest.LogCaptureFixture, *sides: int) -> list[str]:
    engine = Engine(lambda engine, side: [{"instances": squares(side)}])
    handler.attach(engine)
    caplog.clear()
    with caplog.at_level(logging.WARNING, "unet_med.report.found_widths"):
        engine.run(sides)
    return caplog.messages


def test_objects_of_another_magnification_are_said(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = Source.of(trained).width_at(None)
    assert known is not None
    near, far = round(known), round(4 * known)
    handler = FoundWidths(trained, {"spatial_dims": 2, "scale": None})
    assert said(handler, caplog, near, near) == []
    [line] = said(handler, caplog, far, far)
    width = 2 * far / np.sqrt(np.pi)  # of the circle of a square's area
    assert line == (
        f"the median object is {width:.3g} px wide, and that of the training {known:.3g}: if these "
        "images are of another magnification, measure a typical object and give --object-width PX"
    )
    assert said(handler, caplog, near, near, near, far) == []  # the run's median, anew each time
    [line] = said(handler, caplog, round(known / 4))
    assert f"and that of the training {known:.3g}" in line


def test_a_run_at_the_right_scale_says_nothing(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source.of(trained)
    known = source.width_at(None)
    assert known is not None
    shown = {"spatial_dims": 2, "scale": source.scale_for(4 * known)}
    assert source.width_at(shown["scale"]) == pytest.approx(4 * known, rel=5e-3)
    assert said(FoundWidths(trained, shown), caplog, round(4 * known)) == []
    assert len(said(FoundWidths(trained, shown), caplog, round(known))) == 1


@pytest.mark.parametrize("settings", [{"spatial_dims": 3}, {"spatial_dims": 2}])
def test_where_nothing_is_known_nothing_is_said(
    settings: dict[str, Any], tmp_path: Path, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = trained if settings["spatial_dims"] == 3 else tmp_path
    assert said(FoundWidths(bundle, settings), caplog, 200) == []
    assert said(FoundWidths(None, settings), caplog, 200) == []


def test_few_objects_are_no_median(trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    handler = FoundWidths(trained, {"spatial_dims": 2})
    state: Any = SimpleNamespace(state=SimpleNamespace(output={"instances": squares(200, 19)}))
    handler._look(state)
    with caplog.at_level(logging.WARNING):
        handler.say()
    assert caplog.messages == []


def test_blocks_say_it_of_a_large_image(
    trained: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Source.of(trained).width_at(None)
    assert known is not None
    numbers = squares(round(4 * known), 40)[0].numpy()
    stack = np.stack([np.zeros_like(numbers), numbers])[::-1]  # (Z, Y, X): first planes are enough
    blocks = split(stack.shape, (2, numbers.shape[0], 5 * round(4 * known + 2)))
    job: Any = SimpleNamespace(bundle=trained, pixels={"instances": stack}.get, blocks=blocks)
    for dims, lines in ((2, 1), (3, 0)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "unet_med.report.found_widths"):
            widths = FoundWidths(trained, {"spatial_dims": dims, "scale": None})
            _look_at_widths(job, widths)
            widths.say()
        assert len(caplog.messages) == lines
    job.pixels = {}.get
    _look_at_widths(job, None)


def test_width_is_that_of_the_circle_of_the_area() -> None:
    yy, xx = np.mgrid[:41, :41]
    disc = (np.hypot(yy - 20, xx - 20) <= 15.5).astype(int)
    assert widths_of(3 * disc).tolist() == pytest.approx([31], abs=0.2)
    assert widths_of(np.zeros((4, 4), int)).size == 0


def test_fibres_are_as_wide_as_a_plan_has_them() -> None:
    """A strip of 6 x 300 px has the area of a disc of 48 px, and is none."""
    fibre = np.zeros((308, 14), int)
    fibre[4:304, 4:10] = 1
    assert widths_of(fibre).tolist() == pytest.approx([2 * 16 / np.pi * 1800 / 612])
    stack = np.stack([fibre, 2 * fibre], axis=-1)  # (X, Y, Z): each in a plane of its own
    assert widths_of(stack).tolist() == pytest.approx([2 * 16 / np.pi * 1800 / 612] * 2)
