"""Federated learning with MONAI's own client: two sites, three rounds, one server."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject

from unet_med import Segmenter, bundle
from unet_med.data import SyntheticCells, find_pairs, load_label, split_validation

pytestmark = pytest.mark.filterwarnings("ignore:.*bundle:UserWarning")  # a bundle is a program

ROUNDS, EPOCHS = 3, 2
SMALL: dict[str, Any] = {"features": [2, 4, 8], "tile_size": 84, "num_workers": 0, "seed": 3}
SMALL |= {"label_kind": "instances", "validation_fraction": 0.25, "epochs": 50}
State = Mapping[str, torch.Tensor]


@dataclass
class Site:
    """A client, what its optimiser did round by round, and what it says of the server's network."""

    name: str
    algo: MonaiAlgo
    rates: list[list[float]] = field(default_factory=list)
    begins: list[State] = field(default_factory=list)  # its own weights as a round begins
    ends: list[State] = field(default_factory=list)
    changes: list[State] = field(default_factory=list)  # which it returns
    scores: list[dict[str, Any]] = field(default_factory=list)

    def learn(self, weights: State) -> State:
        """One round, from the server's weights on."""
        self.rates.append([])
        self.algo.train(ExchangeObject(weights=dict(weights)))
        self.ends.append(self.own())
        self.changes.append(dict(self.algo.get_weights().weights))
        return self.changes[-1]

    def own(self) -> State:
        """A copy of its network's weights."""
        state = self.algo.trainer.network.state_dict()
        return {name: weight.clone() for name, weight in state.items()}

    def score(self, weights: State) -> None:
        metrics = self.algo.evaluate(ExchangeObject(weights=dict(weights))).metrics
        self.scores.append(dict(metrics))


@dataclass
class Federation:
    root: Path
    sites: list[Site]
    server: list[State]  # weights before each round, and after the last


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    root = tmp_path_factory.mktemp("federation")
    common = bundle.copy_bundle(root / "common")
    bundle.write_settings(common, [], SMALL)
    sites = [site(root, f"site-{k}", seed=k) for k in (1, 2)]
    weights = {name: w.clone() for name, w in sites[0].algo.trainer.network.state_dict().items()}
    server = [weights]
    for _ in range(ROUNDS):
        changes = [each.learn(server[-1]) for each in sites]
        server.append(
            {name: w + sum(c[name] for c in changes) / 2 for name, w in server[-1].items()}
        )
        for each in sites:
            each.score(server[-1])
    return Federation(root, sites, server)


def site(root: Path, name: str, seed: int) -> Site:
    """A client whose bundle is the common one, and whose data are its own."""
    SyntheticCells(4, (72, 64), num_cells=6, seed=seed).write(root / name / "data")
    shutil.copytree(root / "common", root / name / "bundle")
    places = {"dataset_dir": str(root / name / "data"), "device": "$torch.device('cpu')"}
    algo = MonaiAlgo("bundle", local_epochs=EPOCHS, train_kwargs=places, eval_kwargs=dict(places))
    algo.initialize({ExtraItems.CLIENT_NAME: name, ExtraItems.APP_ROOT: str(root / name)})
    found = Site(name, algo)

    def note(engine: Any) -> None:
        found.rates[-1].append(engine.optimizer.param_groups[0]["lr"])

    algo.trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    algo.trainer.add_event_handler(Events.STARTED, lambda: found.begins.append(found.own()))
    return found


def test_every_round_has_the_whole_schedule(federation: Federation) -> None:
    for each in federation.sites:
        first, *others = each.rates
        assert len(first) == 3 * EPOCHS  # three images to learn from
        assert max(first) > 5 * min(first)
        assert others == [first] * (ROUNDS - 1)


def test_a_site_returns_what_its_round_changed(federation: Federation) -> None:
    """Each round of each begins with the server's weights."""
    for each in federation.sites:
        rounds = list(zip(federation.server, each.begins, each.ends, each.changes, strict=False))
        assert len(rounds) == ROUNDS
        for given, before, after, change in rounds:
            assert given.keys() == change.keys() == after.keys()
            for name, moved in change.items():
                assert torch.equal(before[name], given[name])
                torch.testing.assert_close(moved, after[name] - before[name], rtol=0, atol=1e-6)
            assert any(moved.abs().max() > 1e-3 for moved in change.values())


@pytest.mark.parametrize("kind", [ModelType.BEST_MODEL, ModelType.FINAL_MODEL])
def test_a_site_hands_out_its_models(kind: ModelType, federation: Federation) -> None:
    for each in federation.sites:
        found = each.algo.get_weights({ExtraItems.MODEL_TYPE: kind}).weights
        own = each.algo.trainer.network.state_dict()  # of the last round
        assert found.keys() == own.keys()
        assert all(torch.equal(found[name], own[name]) for name in own)


def test_the_score_is_the_servers_on_what_was_held_out(
    federation: Federation, tmp_path: Path
) -> None:
    torch.save(dict(federation.server[-1]), tmp_path / "server.pt")
    for each in federation.sites:
        folder = federation.root / each.name
        [held] = split_validation(find_pairs(folder / "data/images", folder / "data/labels"), 0.25)[
            1
        ]
        segment = Segmenter(folder / "bundle", device="cpu", checkpoint=tmp_path / "server.pt")
        found = np.squeeze(segment(held["image"]).mask) > 0
        truth = np.squeeze(load_label(held["label"], "instances")).T > 0  # (X, Y)
        assert found.shape == truth.shape
        dice = 2 * np.sum(found & truth) / (np.sum(found) + np.sum(truth))
        assert each.scores[-1]["val_mean_dice"] == pytest.approx(dice, abs=2e-3)
        assert all(
            type(value) is float for value in each.scores[-1].values()
        )  # NVFlare sends those


def test_only_a_named_run_keeps_its_last_network(trained: Path, federation: Federation) -> None:
    assert not (trained / "models/model_final.pt").exists()
    names = {p.name for p in (federation.root / "site-1/bundle/models").glob("*.pt")}
    assert names == {"model.pt", "model_final.pt"}
