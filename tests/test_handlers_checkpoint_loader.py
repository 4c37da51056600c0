"""Weights of every kind of file, through every door."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from monai import handlers
from safetensors.torch import save_file

from unet_med import bundle
from unet_med.bundle import find_weights
from unet_med.export import load_trained
from unet_med.handlers import CheckpointLoader
from unet_med.networks import load_weights, read_weights, start_from, unet
from unet_med.segmentation import Segmenter

CHOICES: dict[str, Any] = {"preset": "modern", "features": [2, 4]}
State = dict[str, torch.Tensor]

KINDS: dict[str, tuple[str, Callable[[State, Path], None]]] = {
    "plain": ("model.pt", torch.save),
    "model": ("model.pt", lambda state, path: torch.save({"model": state, "epoch": 3}, path)),
    "network": ("model.pt", lambda state, path: torch.save({"network": state}, path)),
    "lightning": ("model.pt", lambda state, path: torch.save({"state_dict": state}, path)),
    "safetensors": ("model.safetensors", save_file),
}


@pytest.fixture(params=KINDS)
def trained(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, State]:
    """A bundle whose weights lie in one kind of file, and the weights."""
    folder = tmp_path / "bundle"
    bundle.copy_bundle(folder)
    config = folder / "configs" / "inference.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | CHOICES))
    torch.manual_seed(1)
    state = unet(**CHOICES).state_dict()
    name, write = KINDS[request.param]
    write(state, folder / "models" / name)
    return folder, state


def assert_same(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_every_door_reads_every_kind(trained: tuple[Path, State]) -> None:
    folder, state = trained
    path = find_weights(folder)
    assert_same(read_weights(path), state)
    by_call, by_handler = unet(**CHOICES), unet(**CHOICES)
    load_weights(by_call, path)
    CheckpointLoader(str(path), {"model": by_handler})(Engine(lambda *_: None))
    of_blocks = Segmenter(folder).network
    of_export = load_trained(folder).network
    for network in (by_call, by_handler, of_blocks, of_export):
        assert_same(network.state_dict(), state)


def test_a_checkpoint_of_several_things_is_monais(tmp_path: Path) -> None:
    network, other = unet(**CHOICES), unet(**CHOICES)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    content = {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "all.pt")
    again = torch.optim.SGD(other.parameters(), lr=0.1)
    targets = {"model": other, "optimizer": again}
    CheckpointLoader(str(tmp_path / "all.pt"), targets)(Engine(lambda *_: None))
    assert_same(other.state_dict(), network.state_dict())
    assert again.param_groups[0]["lr"] == 0.5
    save_file(network.state_dict(), tmp_path / "all.safetensors")
    loader = CheckpointLoader(str(tmp_path / "all.safetensors"), targets)
    with pytest.raises(ValueError, match="safetensors hold weights, and load_dict asks for more"):
        loader(Engine(lambda *_: None))


@pytest.mark.parametrize(
    ("kept", "asked"),
    [(("model", "ema"), "ema"), (("net", "opt"), "net"), (("ema", "network"), "network")],
)
def test_the_entry_of_that_name_is_loaded_as_monai_does(
    kept: tuple[str, ...], asked: str, tmp_path: Path
) -> None:
    states = {name: torch.nn.Linear(2, 1).state_dict() for name in kept}
    torch.save({**states, "epoch": 3}, tmp_path / "all.pt")
    ours, theirs = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    CheckpointLoader(str(tmp_path / "all.pt"), {asked: ours})(Engine(lambda *_: None))
    handlers.CheckpointLoader(str(tmp_path / "all.pt"), {asked: theirs})(Engine(lambda *_: None))
    assert_same(ours.state_dict(), states[asked])
    assert_same(theirs.state_dict(), states[asked])


def test_a_state_to_resume_is_no_model(tmp_path: Path) -> None:
    network = unet(**CHOICES)
    state = {"network": network.state_dict(), "optimizer": {}, "random": {}, "iteration": 3}
    torch.save(state, tmp_path / "checkpoint.pt")
    doors: list[Callable[[Any], Any]] = [
        read_weights,
        partial(load_weights, network),
        partial(start_from, network),
        lambda path: CheckpointLoader(str(path), {"model": network})(Engine(lambda *_: None)),
    ]
    for door in doors:
        with pytest.raises(ValueError, match=r"checkpoint.pt is what a training resumes from"):
            door(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize(
    "loader", [CheckpointLoader, handlers.CheckpointLoader], ids=["ours", "MONAI's"]
)
def test_weights_of_which_none_fits_are_refused(loader: Any, tmp_path: Path) -> None:
    """MONAI Label loads a file of the user's choice with `strict=False`."""
    torch.save({"epoch": 3, "iteration": 7}, tmp_path / "other.pt")
    network = unet(**CHOICES)
    load = loader(str(tmp_path / "other.pt"), {"model": network}, strict=False)
    with pytest.raises(ValueError, match=r"none of the weights fits|holds no state dictionary"):
        load(Engine(lambda *_: None))
    with pytest.raises(ValueError, match="none of the weights fits this U-Net: they are called"):
        network.load_state_dict({"epoch": torch.tensor(3)}, strict=False)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_whose_shape_fits_are_loaded_alone(kind: str, tmp_path: Path) -> None:
    """Fine-tuning to another number of classes."""
    name, write = KINDS[kind]
    source, target = unet(**CHOICES), unet(**CHOICES, out_channels=5)
    write(source.state_dict(), tmp_path / name)
    own = {key: value.clone() for key, value in target.state_dict().items()}
    load = CheckpointLoader(
        str(tmp_path / name), {"model": target}, strict=False, strict_shape=False
    )
    load(Engine(lambda *_: None))
    expected = {k: own[k] if k.startswith("logits") else v for k, v in source.state_dict().items()}
    assert_same(target.state_dict(), expected)


def test_weights_whose_shape_fits_of_several_networks(tmp_path: Path) -> None:
    sources, targets = ({n: torch.nn.Linear(2, 1) for n in ("net", "ema")} for _ in range(2))
    targets["wide"] = torch.nn.DataParallel(torch.nn.Linear(3, 1))
    states = {name: source.state_dict() for name, source in sources.items()}
    torch.save({**states, "wide": states["net"]}, tmp_path / "all.pt")
    options = {"strict": False, "strict_shape": False}
    CheckpointLoader(str(tmp_path / "all.pt"), targets, **options)(Engine(lambda *_: None))
    for name, state in states.items():
        assert_same(targets[name].state_dict(), state)
    assert torch.equal(targets["wide"].module.bias, sources["net"].bias)


def test_weights_of_which_no_shape_fits_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 1).state_dict(), tmp_path / "other.pt")
    options = {"strict": False, "strict_shape": False}
    load = CheckpointLoader(str(tmp_path / "other.pt"), {"net": torch.nn.Linear(3, 2)}, **options)
    with pytest.raises(ValueError, match=r"other.pt: none of its 2 weights has the name and shape"):
        load(Engine(lambda *_: None))
    network = torch.nn.Linear(2, 1)
    targets = {"net": network, "opt": torch.optim.SGD(network.parameters(), lr=0.1)}
    with pytest.raises(ValueError, match="strict_shape=False is for weights, and load_dict asks"):
        CheckpointLoader(str(tmp_path / "other.pt"), targets, **options)(Engine(lambda *_: None))


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no trained weights \(models/model.pt\)"):
        find_weights(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_weights(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gone.pt cannot be loaded .* No such file"):
        read_weights(tmp_path / "gone.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="holds no state dictionary"):
        read_weights(tmp_path / "list.pt")
