"""Memory that does not suffice: smaller tiles, the same result; a training ends with a way out."""

from __future__ import annotations

import logging
import math
import os
import pydoc
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from image_files import write_source
from monai.handlers import MeanDice, from_engine
from monai.inferers import SimpleInferer
from monai.transforms import AsDiscreted, Compose
from processes import finish, start, start_command
from tiny_bundle import make_bundle

from unet_med import Segmenter
from unet_med.bundle import find_bundle
from unet_med.data import SyntheticCells
from unet_med.errors import is_out_of_memory
from unet_med.handlers import (
    KeepMemory,
    OutOfMemory,
    SkipFailuresEvaluator,
    WholeImageEvaluator,
)
from unet_med.inferers import OverlapTileInferer, stitch
from unet_med.inferers.tile_size import half_sides
from unet_med.inferers.tiling import tiling_of
from unet_med.networks import UNet, unet
from unet_med.segmentation.volume import Volume
from unet_med.volumes import open_source

MB = 1 << 20
FILLED: list[bytearray] = []  # for the life of a process with a limit


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


@torch.no_grad()
def test_an_image_without_room_leaves_the_next_ones_their_tiles() -> None:
    image, network = torch.zeros(1, 1, 120, 120, dtype=torch.float64), starved(10**9)
    inferer = OverlapTileInferer()
    inferer(image, network)
    sides = inferer.sides
    with pytest.raises(MemoryError):
        inferer(image, starved(10))
    inferer(image, network)
    assert inferer.sides == sides


GPU = torch.device("cuda")  # that nothing is ever allocated on here


class Room:
    """Memory of a GPU for results; there is none for those of more than `most` numbers."""

    def __init__(self, patch: pytest.MonkeyPatch, most: int = 0) -> None:
        self.asked: list[str] = []  # where results were to be put together
        self._empty, self.most = torch.empty, most
        patch.setattr(stitch.torch, "empty", self)

    def __call__(self, shape: Any, **kwargs: Any) -> torch.Tensor:
        if "memory_format" in kwargs or "device" not in kwargs:  # of tiles, and of others
            return self._empty(shape, **kwargs)
        device = torch.device(kwargs["device"])
        self.asked.append(device.type)
        if device.type != "cpu" and math.prod(shape) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
        return self._empty(shape, **{**kwargs, "device": "cpu"})


@pytest.mark.parametrize("tta", [None, "flips"])
@pytest.mark.parametrize("statistics", [None, "image"])
@torch.no_grad()
def test_a_result_that_does_not_fit_is_put_together_in_main_memory(
    tta: str | None,
    statistics: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And no tile gets smaller for it: the result is the same to the bit."""
    torch.manual_seed(0)
    network = unet("modern", features=(2, 4)).eval()
    images = torch.randn(2, 1, 70, 50)
    inferer = OverlapTileInferer(48, tta=tta, statistics=statistics)
    expected, sides = inferer(images, network), inferer.sides
    room = Room(monkeypatch)
    with caplog.at_level(logging.WARNING):
        logits = inferer(images, network, device=GPU)
    assert torch.equal(logits, expected)
    assert inferer.sides == sides
    assert room.asked[0] == "cuda"
    assert {*room.asked[1:]} == {"cpu"}
    (line,) = caplog.messages
    assert line.startswith("out of memory on cuda: logits are put together in main memory, and the")


@torch.no_grad()
def test_a_result_for_which_no_memory_suffices(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **kwargs: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    inferer, network = OverlapTileInferer(48), unet("modern", features=(2, 4)).eval()
    seen: list[Any] = []
    network.register_forward_hook(lambda *_: seen.append(1))
    room = Room(monkeypatch)
    room._empty = lambda shape, **kwargs: (
        torch.zeros(shape) if "memory_format" in kwargs or "device" not in kwargs else none()
    )
    said = r"out of memory on cpu for 2\.8e-05 GB of logits \(1, 2, 70, 50\): predict in blocks"
    with pytest.raises(MemoryError, match=said):
        inferer(torch.zeros(1, 1, 70, 50), network)
    assert len(seen) == 1  # smaller tiles were not tried


def lack() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")


def no_room_for(image: torch.Tensor, device: Any = None, **_: Any) -> torch.Tensor:
    """`Tensor.to` of a machine whose GPU has no room for an image."""
    if torch.device(device).type != "cpu":
        lack()
    return image


class ByMonai:
    """Predictions by MONAI's evaluator, on a GPU that has no room for them."""

    def __init__(self, post: Any = None, prepare: Any = None, **more: Any) -> None:
        torch.manual_seed(0)
        self.network = unet("modern", features=(2, 4)).eval()
        self.images = torch.randn(2, 1, 40, 30)
        self.evaluator = SkipFailuresEvaluator(
            device=GPU,
            val_data_loader=[{"image": image[None]} for image in self.images],
            network=self.network,
            prepare_batch=prepare or (lambda batch, *_, **__: (batch["image"], None)),
            postprocessing=post,
            **{"inferer": OverlapTileInferer(), **more},
        )
        self.seen: list[torch.Tensor] = []
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def _keep(self, engine: Engine) -> None:
        self.seen += [item["pred"] for item in engine.state.output]

    def run(self) -> None:
        """Predict, and find what the network alone says."""
        self.evaluator.run()
        with torch.no_grad():
            expected = OverlapTileInferer()(self.images, self.network)
        torch.testing.assert_close(torch.stack(self.seen), expected, rtol=0, atol=0)
        assert self.evaluator.faults == []
        assert self.evaluator.state.device == GPU


def test_an_image_too_large_for_the_gpu_stays_in_main_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def prepare(batch: Any, device: Any, *_: Any, **__: Any) -> Any:
        return no_room_for(batch["image"], device), None

    with caplog.at_level(logging.WARNING):
        ByMonai(prepare=prepare).run()
    assert caplog.messages == 2 * [
        "out of memory on cuda: an image and its result stay in main memory, and the network "
        "where it is"
    ]


def test_postprocessing_too_large_for_the_gpu_is_done_in_main_memory() -> None:
    tries: list[int] = []

    def every_second(item: Any) -> Any:
        tries.append(len(tries))
        if len(tries) % 2:
            lack()
        return item

    ByMonai(Compose([every_second])).run()  # which raises an error of its own from it
    assert len(tries) == 4


@pytest.mark.gpu
@pytest.mark.parametrize("inferer", [OverlapTileInferer(), SimpleInferer()])
def test_images_are_scored_together_wherever_they_were_predicted(inferer: Any) -> None:
    """As validations and `evaluate.json` do: one image has room on the GPU, and one has not."""
    torch.manual_seed(0)
    network = unet("modern", features=(2, 4)).eval()
    items = [{"image": torch.randn(1, 1, 40, 32), "label": torch.ones(1, 1, 40, 32)}] * 2
    tries: list[str] = []

    def prepare(batch: Any, device: Any, *_: Any, **__: Any) -> Any:
        tries.append(torch.device(device).type)
        if tries == ["cuda", "cuda"] and isinstance(inferer, OverlapTileInferer):
            lack()
        return batch["image"].to(device), batch["label"].to(device)

    def dice(device: str) -> float:
        metric = MeanDice(num_classes=2, output_transform=from_engine(["pred", "label"]))
        evaluator = WholeImageEvaluator(
            device=torch.device(device),
            val_data_loader=items,
            network=network.to(device),
            prepare_batch=prepare,
            inferer=inferer,
            postprocessing=AsDiscreted("pred", argmax=True),
            key_val_metric={"dice": metric},
        )
        evaluator.run()
        (found,) = evaluator.state.output
        assert {found[key].device.type for key in ("image", "label", "pred")} == {"cpu"}
        return float(evaluator.state.metrics["dice"])

    assert dice("cuda") == pytest.approx(dice("cpu"), abs=1e-3)
    assert tries[:3] == ["cuda", "cuda", "cpu"]


def test_every_evaluator_of_the_configs_takes_images_of_any_size() -> None:
    names = {
        match[1]
        for path in (find_bundle() / "configs").glob("*.json")
        for match in re.finditer(r'"_target_": "([\w.]+Evaluator)"', path.read_text("utf-8"))
    }
    assert len(names) == 2
    for name in names:
        assert issubclass(pydoc.locate(name), WholeImageEvaluator)  # type: ignore[arg-type]


def test_an_inferer_that_runs_where_the_image_is_has_no_other_place() -> None:
    """The network is on the GPU: MONAI's own would complain of that, not of memory."""
    parts = ByMonai(prepare=lambda *_, **__: lack(), inferer=SimpleInferer())
    with pytest.raises(
        ValueError, match=r"none of 2 images .*; the first: OutOfMemoryError: CUDA "
    ):
        parts.run()


@pytest.mark.parametrize("where", ["image", "result"])
def test_a_segmenter_whose_gpu_has_no_room(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    segment = Segmenter(make_bundle(tmp_path / "bundle"), device="cpu")
    pixels = np.random.default_rng(0).random((30, 40))
    expected = segment(pixels).probabilities
    segment.device = GPU
    if where == "image":
        monkeypatch.setattr(torch.Tensor, "to", _with_no_room(torch.Tensor.to))
    else:  # it is asked for on the device of the image, which is the CPU
        segment.inferer.device = GPU
        segment.device = torch.device("cpu")
        Room(monkeypatch)
    with caplog.at_level(logging.WARNING):
        found = segment(pixels).probabilities
    np.testing.assert_array_equal(found, expected)
    lines = [line for line in caplog.messages if line.startswith("out of memory on cuda: ")]
    said = ["image.tif stays in main", "image.tif is postprocessed in main"]
    begins = {"image": said, "result": ["logits are put together in main"]}[where]
    assert [
        line.removeprefix("out of memory on cuda: ")[: len(b)]
        for line, b in zip(lines, begins, strict=True)
    ] == begins


def _with_no_room(to: Any) -> Any:
    def moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if GPU in args:
            lack()
        return to(tensor, *args, **kwargs)

    return moved


@torch.no_grad()
def test_a_block_whose_result_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planes whose statistics are their own are joined, and lie all in one place."""
    pytest.importorskip("zarr", reason="zarr 3 needs Python 3.11")
    folder = make_bundle(tmp_path / "bundle", preset="modern", statistics="image", tta="flips")
    source = write_source(tmp_path / "a.ome.zarr", np.random.default_rng(0).random((3, 40, 30)))
    volume = Volume(Segmenter(folder, device="cpu"), open_source(source))
    box = ((0, 30), (0, 40), (0, 3))
    expected, views = volume.look(box)
    volume.segmenter.inferer.device = GPU
    Room(monkeypatch)
    found, terms = volume.look(box)
    assert torch.equal(found, expected)
    assert terms == views
    monkeypatch.undo()
    volume.segmenter.inferer.device, volume.segmenter.device = None, GPU
    monkeypatch.setattr(torch.Tensor, "to", _with_no_room(torch.Tensor.to))  # nor do its pixels
    assert torch.equal(volume.predict(box), expected)


@pytest.mark.gpu
@torch.no_grad()
def test_a_network_on_the_gpu_takes_an_image_in_main_memory() -> None:
    torch.manual_seed(0)
    network, image = unet("modern", features=(2, 4)).eval(), torch.randn(1, 1, 70, 50)
    expected = OverlapTileInferer(48)(image, network)
    logits = OverlapTileInferer(48)(image, network.to("cuda"))
    assert logits.device.type == "cpu"
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)


def test_other_errors_pass() -> None:
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="shapes"):
        OverlapTileInferer(margin=4, stride=2)(torch.zeros(1, 1, 8, 8), fails)


def fails(x: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("shapes do not match")


def taken() -> int:
    """Bytes of addresses that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def leave(megabytes: int) -> Callable[[], None]:
    """Let this process allocate so much more and not a byte beyond.

    A process forked from one that has trained has free memory (`KeepMemory`), in which a limit on
    addresses goes unnoticed: that is filled first.
    """

    def limit() -> None:
        before = taken()
        while taken() < before + 8 * MB:  # more than Python's own objects come and go with
            FILLED.append(bytearray(MB))
        most = taken() + megabytes * MB
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    return limit


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_a_process_that_may_not_allocate_more(tmp_path: Path) -> None:
    def predict() -> None:
        torch.manual_seed(0)
        KeepMemory()._keep(Engine(lambda *_: None))  # as any test before this one may have
        torch.ones(50 * MB)  # 200 MB, which stay
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


def test_half_side_is_the_largest_legal_one_with_half_the_pixels() -> None:
    network = UNet(features=(2, 4, 8))
    tiling = tiling_of(network, torch.empty(1, 1, 1, 1), margin=None, stride=None)
    for sides in ([300, 260], [300, 300], [100, 800]):
        found = half_sides(sides, tiling)
        assert found is not None
        side = found[0]
        assert found == [side, side]
        assert network(torch.zeros(1, 1, side, side)).numel() > 0
        assert 2 * side**2 <= math.prod(sides) < 2 * (side + tiling.stride) ** 2
    smallest = tiling.smallest
    assert half_sides([smallest + tiling.stride] * 2, tiling) is None
    assert half_sides([2 * smallest, smallest], tiling) == [smallest] * 2
    volume = replace(tiling, axes=tiling.axes[:1] * 3)
    assert half_sides([252] * 3, volume) == [200] * 3  # 252 / 2 ** (1 / 3) = 200.01


def test_half_sides_keep_the_proportions_of_a_tile_for_thick_slices() -> None:
    pool, kernels = [(2, 2, 1), 2], [(3, 3, 1), 3, 3]
    for padding in ("valid", "same"):
        network = UNet(3, features=(2, 2, 2), pool=pool, kernel_size=kernels, padding=padding)
        tiling = tiling_of(network, torch.empty(1, 1, 1, 1, 1), margin=None, stride=None)
        sides = network.input_size_for((100, 60, 20))
        found = half_sides(sides, tiling)
        assert found is not None
        assert network(torch.zeros(1, 1, *found)).numel() > 0
        assert 2 * math.prod(found) <= math.prod(sides)
        for side, half, step in zip(sides, found, tiling.stride, strict=True):
            assert 0 <= side * 2 ** (-1 / 3) - half < step


@pytest.mark.parametrize(
    ("network", "side", "way_out"),
    [
        (UNet(features=(2, 4, 8)), 300, r"take tiles of 212 px \(--tile-size 212\), a smaller "),
        (UNet(features=(2, 4, 8)), 44, r"the network takes no smaller tile; take a smaller "),
        (torch.nn.Conv2d(1, 2, 1), 300, r"take smaller tiles, a smaller "),
    ],
)
def test_a_training_step_out_of_memory_is_one_sentence(
    network: torch.nn.Module, side: int, way_out: str
) -> None:
    def step(engine: Engine, batch: dict[str, torch.Tensor]) -> None:
        network(batch["image"]).mean().backward()
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    trainer = Engine(step)
    OutOfMemory(network).attach(trainer)
    said = rf"^out of memory in a training step on 2 tiles of \[{side}, {side}\] px: {way_out}"
    with pytest.raises(ValueError, match=said):
        trainer.run([{"image": torch.zeros(2, 1, side, side)}])
    assert trainer.state.batch is None
    assert all(weight.grad is None for weight in network.parameters())


@pytest.mark.parametrize("when", [Events.EPOCH_COMPLETED, Events.GET_BATCH_STARTED(once=1)])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory."),
            "^out of memory where images are loaded or",
        ),
        (ValueError("a.tif declares a terabyte"), "^a.tif declares"),
    ],
)
def test_what_runs_out_of_memory_beside_the_steps_is_no_tile(
    when: Any, error: Exception, said: str
) -> None:
    trainer = Engine(lambda engine, batch: None)
    OutOfMemory(UNet(features=(2, 4, 8))).attach(trainer)

    @trainer.on(when)
    def fails_there(_: Engine) -> None:
        raise error from MemoryError()

    with pytest.raises(ValueError, match=said):
        trainer.run([{"image": torch.zeros(2, 1, 44, 44)}] * 2)


def test_other_errors_of_a_training_step_pass() -> None:
    trainer = Engine(lambda engine, batch: fails(batch["image"]))
    OutOfMemory(UNet(features=(2, 4, 8))).attach(trainer)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        trainer.run([{"image": torch.zeros(2, 1, 20, 20)}])


@linux
def test_training_out_of_memory_is_one_sentence(tmp_path: Path) -> None:
    SyntheticCells(2, (90, 80), num_cells=5).write(tmp_path / "cells")
    words = ["train", "--images", tmp_path / "cells/images", "--labels", tmp_path / "cells/labels"]
    words += ["--features", 8, 16, "--epochs", 1, "--device", "cpu"]

    words += ["--tile-size", 1200, "--output", tmp_path / "out"]
    assert finish(start_command(words, tmp_path, leave(300))) == 2
    said = (tmp_path / "stderr").read_text()
    assert "Traceback" not in said
    assert re.search(
        r"out of memory in a training step on \d tiles of \[1200, 1200\] px: take tiles of 848 px "
        r"\(--tile-size 848\), a smaller batch_size, fewer features, or another device\n",
        said,
    )
    assert not (tmp_path / "out").exists()
