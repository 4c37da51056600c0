"""Memory that does not suffice: smaller tiles, the same result; a training says what fits."""

from __future__ import annotations

import logging
import math
import os
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from processes import finish, start, start_command

from unet_med.data import SyntheticCells
from unet_med.handlers import OutOfMemory
from unet_med.handlers.step_memory import step_bytes
from unet_med.inferers import OverlapTileInferer
from unet_med.losses import WeightedCrossEntropyLoss
from unet_med.memory import is_out_of_memory
from unet_med.networks import UNet

MB = 1 << 20


class Starved(UNet):
    """A network that has memory for tiles of `most` pixels."""

    most = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[2:].numel() > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def starved(most: int) -> Starved:
    torch.manual_seed(0)
    network = Starved(features=(2, 4, 8)).eval().double()
    network.most = most
    return network


@pytest.mark.parametrize("tile_size", ["auto", 300])
@torch.no_grad()
def test_smaller_tiles_and_the_same_result(
    tile_size: int | str, caplog: pytest.LogCaptureFixture
) -> None:
    image = torch.randn(1, 1, 230, 250, dtype=torch.float64)
    inferer = OverlapTileInferer(tile_size)
    expected = inferer(image, starved(10**9))
    network = starved(140**2)
    with caplog.at_level(logging.WARNING):
        logits = inferer(image, network)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    assert re.search(r"out of memory in tiles of \[\d+, \d+\] px; going on with \[", caplog.text)
    if tile_size == "auto":  # the next image does not run into it again
        caplog.clear()
        inferer(image, network)
        assert not caplog.text


@torch.no_grad()
def test_too_little_for_the_smallest_tile() -> None:
    with pytest.raises(MemoryError, match=r"even in tiles of \[\d+, \d+\] px, the smallest"):
        OverlapTileInferer()(torch.zeros(1, 1, 90, 90, dtype=torch.float64), starved(10))


def test_other_errors_pass() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        OverlapTileInferer(margin=4, stride=2)(torch.zeros(1, 1, 8, 8), fails)


def fails(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("shapes do not match")


def leave(megabytes: int) -> Callable[[], None]:
    """Let this process allocate so much more and not a byte beyond."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * MB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return limit


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_process_that_may_not_allocate_more(tmp_path: Path) -> None:
    def predict() -> None:
        torch.manual_seed(0)
        network = UNet(features=(32, 32)).eval()
        image = torch.randn(1, 1, 600, 600)
        with torch.no_grad():
            expected = OverlapTileInferer(300)(image, network)
            leave(90)()  # one pass holds three times 32 maps of 1.5 MB
            logging.basicConfig(filename=tmp_path / "log", force=True)
            logits = OverlapTileInferer(620)(image, network)
        torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)

    assert finish(start(predict)) == 0
    assert "out of memory in tiles of [620, 620] px" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("most", "side"), [(150**2, 148), (180**2, 180), (10, None)])
def test_largest_tile_of_a_training_step(most: int, side: int | None) -> None:
    network = starved(most).float()
    guard = OutOfMemory(network, WeightedCrossEntropyLoss())
    assert guard.largest_tile((2, 1, 300, 260)) == side
    trainer = Engine(lambda engine, batch: network(batch["image"]))
    guard.attach(trainer)
    advice = f"fits is {side} px .--tile-size {side}" if side else "not even the smallest"
    said = r"out of memory in a training step on 2 tiles of \[300, 260\] px: .*" + advice
    with pytest.raises(ValueError, match=said):
        trainer.run([{"image": torch.zeros(2, 1, 300, 260)}])
    assert all(weight.grad is None for weight in network.parameters())


def test_bytes_of_a_step_are_those_of_its_tensors() -> None:
    """Two convolutions of one pixel: what lives when the first one's gradient is made."""
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 1, bias=False), torch.nn.ReLU(), torch.nn.Conv2d(8, 2, 1, bias=False)
    )
    maps = 4 * 2 * 50 * 40  # bytes of one map of the batch
    needed = step_bytes(network, (2, 1, 50, 40))
    image_and_target, activations, gradients = 5 * maps, 16 * maps, 16 * maps
    assert activations + image_and_target < needed <= image_and_target + activations + gradients
    assert 3.9 < step_bytes(network, (2, 1, 100, 80)) / needed < 4.1
    assert all(weight.device.type == "cpu" and weight.grad is None for weight in
               network.parameters())  # fmt: skip


@linux
def test_training_out_of_memory_is_one_sentence(tmp_path: Path) -> None:
    SyntheticCells(2, (90, 80), num_cells=5).write(tmp_path / "cells")
    words = ["train", "--images", tmp_path / "cells/images", "--labels", tmp_path / "cells/labels"]
    words += ["--features", 8, 16, "--epochs", 1, "--device", "cpu"]

    def trained(side: int) -> int | None:
        words_now = [*words, "--tile-size", side, "--output", tmp_path / f"out{side}"]
        return finish(start_command(words_now, tmp_path, leave(300)))

    assert trained(1200) == 2
    said = (tmp_path / "stderr").read_text()
    assert "Traceback" not in said
    assert re.search(r"out of memory in a training step on \d tiles of \[1200, 1200\] px", said)
    assert not (tmp_path / "out1200").exists()
    found = re.search(r"the largest tile that fits is (\d+) px \(--tile-size \1\)", said)
    assert found, said
    side = int(found[1])
    assert trained(side) == 0, (tmp_path / "stderr").read_text()
    assert trained(math.ceil(side * math.sqrt(2) / 2) * 2) == 2  # not half of what fits
