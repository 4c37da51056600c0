"""One function chooses the device; nothing else knows what devices are called."""

from __future__ import annotations

import ast
import json
import logging
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unet_med import devices
from unet_med.devices import Choice, choose, choose_device

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let torch see devices of these kinds, on which nothing can run."""

    def see(*kinds: str, lacks: str | None = None, error: Exception | None = None) -> None:
        for kind, module in (("cuda", torch.cuda), ("xpu", torch.xpu)):
            monkeypatch.setattr(module, "is_available", lambda k=kind: k in kinds)
            monkeypatch.setattr(module, "device_count", lambda k=kind: 2 * (k in kinds))
            monkeypatch.setattr(module, "get_device_name", lambda d, k=kind: f"a {k} card")
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in kinds)

        def exercise(device: torch.device, spatial_dims: int) -> None:
            if lacks and spatial_dims == 3:
                raise NotImplementedError(f"{lacks} is not implemented for {device}\nmore")
            if error is not None:
                raise error

        monkeypatch.setattr(devices, "_exercise", exercise)
        devices._missing.cache_clear()

    yield see
    devices._missing.cache_clear()


@pytest.mark.parametrize(
    ("kinds", "taken", "reason"),
    [
        ((), "cpu", "torch sees no other device"),
        (("xpu",), "xpu", "torch sees xpu (a xpu card)"),
        (("mps", "xpu"), "mps", "torch sees mps"),
        (("cuda", "mps", "xpu"), "cuda", "torch sees cuda (a cuda card)"),
    ],
)
def test_the_best_that_is_there(
    kinds: tuple[str, ...], taken: str, reason: str, seeing: Callable[..., None]
) -> None:
    seeing(*kinds)
    assert choose() == Choice(torch.device(taken), reason)


@pytest.mark.parametrize("name", [None, "mps"])
def test_what_lacks_an_operation_falls_back_with_a_sentence(
    name: str | None, seeing: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    seeing("mps", lacks="aten::max_pool3d")
    with caplog.at_level(logging.INFO, "unet_med.devices"):
        assert choose_device(name) == torch.device("cpu")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert "cpu: " in record.getMessage()
    lack = "(aten::max_pool3d is not implemented for mps)"
    assert record.getMessage().endswith(f"torch lacks an operation of a U-Net on mps {lack}")


def test_a_gpu_that_is_full_lacks_no_operation(seeing: Callable[..., None]) -> None:
    seeing("mps", error=RuntimeError("MPS backend out of memory (MPS allocated: 17.83 GB)"))
    assert choose() == Choice(torch.device("mps"), "torch sees mps")
    seeing("mps", error=RuntimeError("Conv3D is only supported on MPS for MacOS_13_2 or newer"))
    assert choose().device == torch.device("cpu")


def test_sums_are_as_wide_as_a_device_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices.widest_float("cpu") == devices.widest_float("cuda:1") == torch.float64
    assert devices.widest_float("mps") == torch.float32
    for wide in (torch.float32, torch.float64):
        card = SimpleNamespace(has_fp64=wide == torch.float64)
        monkeypatch.setattr(torch.xpu, "get_device_properties", lambda d, card=card: card)
        assert devices.widest_float("xpu") == wide


def test_the_cpu_has_every_operation() -> None:
    for spatial_dims in (2, 3):
        devices._exercise(torch.device("cpu"), spatial_dims)


def test_the_choice_is_said(seeing: Callable[..., None], caplog: pytest.LogCaptureFixture) -> None:
    seeing()
    with caplog.at_level(logging.INFO, "unet_med.devices"):
        assert choose_device("cpu").type == "cpu"
    assert [r.getMessage() for r in caplog.records] == ["device    cpu: as asked"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:2", "device cuda:2: 2 CUDA devices here; use --device cpu"),
        ("mps", "device mps: 0 MPS devices here; use --device cpu"),
        ("tpu", "unknown device 'tpu': cuda, mps, xpu, cpu, or cuda:N"),
        ("meta", "unknown device 'meta': cuda, mps, xpu, cpu, or cuda:N"),
    ],
)
def test_devices_that_are_not_there(name: str, message: str, seeing: Callable[..., None]) -> None:
    seeing("cuda")
    assert choose("cuda:1").device == torch.device("cuda:1")
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        choose(name)


def test_each_process_has_its_own_gpu(
    seeing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    seeing("cuda")
    assert devices.device_of_rank() == torch.device("cuda:1")
    seeing()
    assert devices.device_of_rank() == torch.device("cpu")


def test_a_mac_is_not_shared_out(
    seeing: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    seeing("mps")
    assert devices.device_of_rank() == torch.device("cpu")


@pytest.mark.parametrize(
    ("cores", "ranks", "workers"), [(4, 1, 4), (64, 1, 16), (64, 8, 8), (2, 8, 1)]
)
def test_a_gpu_is_fed_by_the_cores_of_this_process(
    cores: int, ranks: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 256)  # of the whole node
    monkeypatch.setattr("unet_med.cgroups.cores", lambda: math.inf)
    assert devices.cores() == cores
    assert devices.loader_workers("cuda:0", ranks) == workers
    assert devices.loader_workers("cpu", ranks) == devices.loader_workers("mps", ranks) == 0
    monkeypatch.setattr("unet_med.cgroups.cores", lambda: 1.5)  # of a container
    assert devices.cores() == 2


@pytest.mark.parametrize(
    ("cores", "asked", "threads"), [(1, None, 1), (1.5, None, 2), (4, None, 2), (1, "2", 2)]
)
def test_a_container_held_by_quota_computes_with_its_cores(
    cores: float, asked: str | None, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unet_med.cgroups.cores", lambda: cores)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)  # of the machine
        choose_device()
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


# --- names of devices -------------------------------------------------------------------------

NAMED = re.compile(r"\b(cuda|is_cuda|mps|xpu)\b")
ELSEWHERE = {  # what may name a device, and why
    "unet_med/devices.py": "the one place",
    "unet_med/cli/options.py": "help, which is there without torch",
    "unet_med/bundle/trust.py": "how bundles of earlier versions choose",
    "unet_med/handlers/training_state.py": "a key of checkpoints",
}


def named_in(path: Path) -> list[str]:
    """Device names in the code of a module or config, docstrings aside."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return NAMED.findall(json.dumps(json.loads(text)))
    tree = ast.parse(text)
    docs = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            found += NAMED.findall(node.attr)
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
        ):
            found += NAMED.findall(node.value)
    return found


def test_devices_are_named_in_one_place() -> None:
    files = [p for where in ("unet_med", "workflows", "configs") for p in (ROOT / where).rglob("*")]
    code = [p for p in files if p.suffix in (".py", ".json") and "_bundle" not in p.parts]
    naming = {p.relative_to(ROOT).as_posix() for p in code if named_in(p)}
    assert len(code) > 200
    assert naming == set(ELSEWHERE)
