"""The simulated device itself: what it refuses as a GPU does, what it counts, what it needs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from simulated_cuda import NoCompilerError, library, switch_on_if_asked
from simulated_cuda.counting import Counts, counted
from torch import nn


@pytest.mark.gpu
def test_sides_do_not_mix() -> None:
    here, there = torch.ones(3), torch.ones(3, device="cuda")
    assert there.is_cuda
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        here + there
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        there.numpy()


@pytest.mark.gpu
def test_gradients_are_the_cpus() -> None:
    """In float64: a GPU rounds float32 to TF32, and of a bias before a norm rounding is all."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    network = nn.Sequential(*layers).double()
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    gradients = []
    for device in ("cpu", "cuda"):
        network.zero_grad()
        network.to(device)(x.to(device)).square().sum().backward()
        gradients.append([p.grad.cpu() for p in network.parameters()])
    torch.testing.assert_close(*gradients)


@counted
@pytest.mark.gpu
def test_waits_and_copies_are_counted() -> None:
    x = torch.rand(4, device="cuda")
    with Counts() as counts:
        y = x * 2 + 1
    assert counts.kernels == {"mul": 1, "add": 1}
    assert not counts.waits + counts.to_host + counts.to_device
    with Counts() as counts:
        float(y.sum())
        y[y > 0]
        y.cpu()
        torch.ones(4).to("cuda")
        torch.ones(4).to("cuda", non_blocking=True)
    assert {name.split()[0] for name in counts.waits} == {"_local_scalar_dense", "index"}
    totals = [sum(c.values()) for c in (counts.to_host, counts.to_device, counts.behind)]
    assert totals == [1, 1, 1]


def test_without_a_compiler_a_sentence_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(library, "CACHE", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NoCompilerError, match=r"needs a C\+\+ compiler"):
        library.built()


@pytest.mark.parametrize("asked", ["1", "required"])
def test_beside_a_cuda_build_nothing_is_simulated(
    asked: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As from PyPI, where torch for Linux brings CUDA: its tests are skipped, and say why."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.setattr(library, "_torch", lambda: tmp_path)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("SIMULATED_CUDA", asked)
    assert "torch is a CUDA build" in str(switch_on_if_asked())


def test_after_torch_it_is_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMULATED_CUDA", "1")
    with pytest.raises(RuntimeError, match="torch is imported already"):
        switch_on_if_asked()
