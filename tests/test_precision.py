"""Precision, memory format and compilation: what a choice means, does and is recorded as."""

from __future__ import annotations

import json
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from unet_med.cli import main
from unet_med.cli.options import PRECISIONS as OFFERED
from unet_med.devices import rounding_settings
from unet_med.handlers import Rounding
from unet_med.handlers.checkpoints import _lay_like_parameters
from unet_med.inferers import OverlapTileInferer, TrainingInferer
from unet_med.networks import chosen_memory_format, place, unet
from unet_med.precision import PRECISIONS, chosen_precision, repeatable, rounding


def switches() -> list[bool]:
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


@pytest.mark.parametrize("precision", sorted({*PRECISIONS} - {"mixed"}))
def test_a_cpu_has_float32(precision: str) -> None:
    assert {chosen_precision(precision, "cpu", training=t) for t in (True, False)} == {"float32"}


@pytest.mark.parametrize("has", ["avx512_bf16", "amx_bf16", "avx512_f"])
def test_a_cpu_trains_in_bfloat16_where_it_has_instructions(
    has: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {has: True}, raising=False)
    trained = chosen_precision("mixed", "cpu", training=True)
    assert trained == ("bf16" if has.endswith("bf16") else "float32")
    assert chosen_precision("mixed", "cpu") == "float32"
    network, seen = unet(features=[2, 4]), []
    network.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    logits = TrainingInferer("mixed")(torch.randn(1, 1, 60, 60), network)
    logits.mean().backward()
    assert seen == [torch.bfloat16 if has.endswith("bf16") else torch.float32]
    assert {logits.dtype, *(p.grad.dtype for p in network.parameters())} == {torch.float32}


def test_threads_take_turns_with_the_settings_of_a_gpu() -> None:
    cudnn, before = torch.backends.cudnn, (torch.backends.cudnn.deterministic, rounding_settings())
    inside, left, both = threading.Event(), threading.Event(), threading.Barrier(2)

    def run(first: bool) -> tuple[bool, list[bool]]:
        with repeatable("cuda"), rounding("float32", "cuda"):
            inside.set()
            with suppress(threading.BrokenBarrierError):
                both.wait(0.2)
            if not first:
                left.wait(0.2)  # of two within, the first would set back what holds for both
            seen = cudnn.deterministic, switches()
        left.set()
        return seen

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(run, True)
        assert inside.wait(10)
        other = threads.submit(run, False)
    assert [one.result(), other.result()] == [(True, [False, False])] * 2
    assert (cudnn.deterministic, rounding_settings()) == before


@pytest.mark.parametrize("supported", [True, False])
def test_what_auto_is_on_a_gpu(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    major = 8 if supported else 7  # of Ampere, of Volta
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (major, 0))
    assert chosen_precision("auto", "cuda") == "float32"
    found = chosen_precision("auto", "cuda", training=True)
    assert found == ("bf16" if supported else "float32")
    assert chosen_precision("mixed", "cuda", training=True) == found
    assert chosen_precision("mixed", "cuda") == "float32"
    assert [chosen_precision(p, "cuda") for p in PRECISIONS[2:]] == list(PRECISIONS[2:])


def test_of_several_gpus_the_one_that_is_meant_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is an older one without bfloat16."""
    known = {"cuda:0": (7, 0), "cuda:1": (9, 0)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: known[str(device)])
    found = [chosen_precision("auto", device, training=True) for device in known]
    assert found == ["float32", "bf16"]


@pytest.mark.parametrize(("device", "current"), [("cuda:1", ["cuda:1"]), ("cuda", []), ("cpu", [])])
def test_the_gpu_of_a_network_becomes_the_current_one(
    device: str, current: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: happened.append(str(device)))
    network = unet(features=[2, 4])
    monkeypatch.setattr(network, "to", lambda *there, **_: happened.extend(map(str, there)))
    place(network, device)
    assert happened == [*current, device]


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="precision 'half' is none of auto, mixed, "):
        chosen_precision("half", "cpu")
    with pytest.raises(ValueError, match="memory_format 'nhwc' is none of"):
        chosen_memory_format(unet(features=[2, 4]), "nhwc")
    with pytest.raises(ValueError, match="compile 'yes' is none of"):
        place(unet(features=[2, 4]), "cpu", compile="yes")
    assert OFFERED == PRECISIONS


@pytest.mark.parametrize("precision", ["float32", "tf32", "bf16"])
def test_rounding_is_set_and_given_back(precision: str) -> None:
    before = switches()
    with rounding(precision, "cuda"):
        assert switches() == [precision == "tf32"] * 2
    assert switches() == before
    with rounding("tf32", "cpu"):
        assert switches() == before


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("chosen", [("tf32", "tf32"), ("ieee", "ieee"), ("ieee", "tf32"), None])
def test_a_project_may_have_set_torchs_newer_switches(
    chosen: tuple[str, str] | None, precision: str
) -> None:
    """Then torch refuses to read the older ones, which others read within the context."""
    kinds = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    original = [*rounding_settings(), (torch.backends, "fp32_precision", "none")]
    try:
        if chosen is None:  # one for all
            torch.backends.fp32_precision, chosen = "tf32", ("tf32", "tf32")
        else:
            for kind, value in zip(kinds, chosen, strict=True):
                kind.fp32_precision = value
        with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
            switches()
        with rounding(precision, "cuda"):
            expected = "tf32" if precision == "tf32" else "ieee"
            assert [kind.fp32_precision for kind in kinds] == [expected] * 2
            assert switches() == [precision == "tf32"] * 2
        assert tuple(kind.fp32_precision for kind in kinds) == chosen
    finally:
        for owner, name, value in original:
            setattr(owner, name, value)


class Convolving(nn.Conv2d):
    """Notes which kernels cuDNN may take where it convolves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
        return super().forward(x)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_kernels_of_a_prediction_repeat_themselves(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nobody called `set_determinism`: a `Segmenter`, and each process of a job."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    network = Convolving(1, 2, 1).to(device)
    OverlapTileInferer(8, margin=0, stride=1)(torch.zeros(1, 1, 8, 8), network)
    assert network.seen == ((True, False) if device == "cuda" else (False, True))
    assert (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark) == (False, True)


def test_what_torch_advises_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch 2.11, whose older switches warn when they are read or set."""

    def advising(name: str) -> None:
        touch = getattr(torch._C, name)

        def advise(*values: bool) -> Any:
            warnings.warn("Please use the new API settings to control TF32", stacklevel=1)
            return touch(*values)

        monkeypatch.setattr(torch._C, name, advise)

    for name in ("_get_cublas_allow_tf32", "_set_cublas_allow_tf32"):
        advising(name)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with rounding("tf32", "cuda"):
            assert said == []
        assert said == []
        switches()
    assert len(said) == 1  # who touches them himself is told


@pytest.mark.parametrize("fails", [False, True])
def test_a_training_rounds_as_it_was_told(fails: bool) -> None:
    before, seen = switches(), []

    def step(engine: Engine, batch: int) -> None:
        seen.append(switches())
        if fails:
            raise ZeroDivisionError

    trainer = Engine(step)
    Rounding("tf32", "cuda").attach(trainer)
    if fails:
        with pytest.raises(ZeroDivisionError):
            trainer.run([0], 1)
    else:
        trainer.run([0], 1)
    assert seen == [[True, True]]
    assert switches() == before


def test_the_memory_format_of_weights() -> None:
    flat, deep = unet(features=[2, 4]), unet(features=[2, 4], spatial_dims=3)
    assert [chosen_memory_format(net) for net in (flat, deep)] == ["channels_last"] * 2
    for network, layout in ((flat, torch.channels_last), (deep, torch.channels_last_3d)):
        first = next(p for p in place(network, "cpu").parameters() if p.ndim > 3 and p.shape[1] > 1)
        assert first.is_contiguous(memory_format=layout)


def test_predictions_do_not_depend_on_it() -> None:
    torch.manual_seed(0)
    network, image = unet("modern", features=[4, 8, 16]).eval(), torch.randn(1, 1, 70, 50)
    results = []
    for layout in ("contiguous", "channels_last"):
        network.to(memory_format=torch.contiguous_format)
        with torch.no_grad():
            placed = place(network, "cpu", memory_format=layout)
            results.append(OverlapTileInferer(52, 2)(image, placed))
    assert torch.equal(*results)


def test_compiled_networks_keep_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda *_, **options: asked.append(options))
    network = unet(features=[2, 4])
    names = list(network.state_dict())
    for choice in ("auto", False, True):
        place(network, "cpu", compile=choice)
    assert asked == [{"dynamic": False}]
    assert list(network.state_dict()) == names


def test_an_optimiser_lies_as_its_parameters() -> None:
    """One step of Adam walks through both in the order of their memory."""
    torch.manual_seed(0)
    parameter = torch.nn.Parameter(torch.randn(4, 3, 3, 3))
    optimizer = torch.optim.Adam([parameter], fused=True)
    parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    parameter.data = parameter.data.to(memory_format=torch.channels_last)
    values = optimizer.state[parameter]["exp_avg"].clone()
    _lay_like_parameters(optimizer)
    for name in ("exp_avg", "exp_avg_sq"):
        kept = optimizer.state[parameter][name]
        assert kept.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(optimizer.state[parameter]["exp_avg"], values)


def test_averages_of_a_bfloat16_network_are_float32s() -> None:
    """Eight views of 1 and 1 / 256: their sum in bfloat16 loses the small ones."""
    numbers = iter([1.0] + [2.0**-8] * 7)

    def network(x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, next(numbers)).expand(-1, 2, -1, -1)

    image = torch.zeros(1, 1, 8, 8, dtype=torch.bfloat16)
    inferer = OverlapTileInferer(-1, margin=0, stride=1, tta="rotations")
    expected = torch.tensor((1 + 7 * 2.0**-8) / 8).bfloat16()
    found = inferer(image, network)
    assert found.dtype == torch.bfloat16
    assert found.eq(expected).all()


@pytest.mark.gpu
def test_a_gpu_computes_in_what_was_chosen() -> None:
    seen: list[torch.dtype] = []
    network = unet(features=[2, 4]).cuda()
    network.register_forward_hook(lambda *args: seen.append(args[-1].dtype))
    image = torch.randn(1, 1, 60, 60, device="cuda")
    assert TrainingInferer()(image, network).dtype == torch.float32
    for precision in ("auto", "bf16"):
        result = OverlapTileInferer(precision=precision)(image, network)
        assert result.dtype == torch.float32
    assert seen == [torch.bfloat16, torch.float32, torch.bfloat16]


def test_records_say_what_was_used(trained: Path, cells: Path, tmp_path: Path) -> None:
    found = json.loads((trained / "models" / "training.json").read_text(encoding="utf-8"))
    precision = chosen_precision("mixed", "cpu", training=True)  # of the preset `modern`
    facts = {"precision": precision, "memory_format": "channels_last", "compiled": False}
    assert facts.items() <= found.items()
    image = next((cells / "images").iterdir())
    words = ["predict", image, "--bundle", trained, "--output", tmp_path, "--precision", "bf16"]
    assert main([*map(str, words), "--device", "cpu"]) == 0
    record = json.loads((tmp_path / "record.json").read_text(encoding="utf-8"))
    assert record["settings"]["precision"] == "float32"  # of a CPU, whatever was asked
