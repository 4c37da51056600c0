"""What a bundle's model card says of its network and of its training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from unet_med.bundle import has_section, network_of, read_plan, write_section
from unet_med.data.atomic import read_json
from unet_med.data.pixel_size import in_words
from unet_med.handlers import TrainingBudget
from unet_med.networks import UNet, unwrapped
from unet_med.planning.words import levels
from unet_med.report.provenance import TRAINING, read_record
from unet_med.report.training import (
    LATER,
    listed,
    read_history,
    read_settings,
    training_facts,
)

Facts = Mapping[str, Any]

ABOUT = "A MONAI bundle that `unet-med train` made; its network and training are below.\n"
PLAN = "`configs/plan.json` has each choice with its reason, and the images' SHA-256.\n"
RECIPE = "How the network of this folder was trained, by `configs/train.json`:\n\n"
OTHER = (
    "It is not the one of `configs/train.json`: further config files, or ids, made another of it.\n"
)
NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)
OF_NETWORK = ("preset", "features", "poolings", "kernels")  # facts that its table has
UNSAID = ("lr", "fused")  # of an optimiser: it has a row, or changes no result


def write_training(bundle: Path, trained: nn.Module | None = None) -> None:
    """Write into a bundle's model card its network and training; one without a plan stays as it is.

    What the card of a fresh bundle says of the paper's network makes way: a trained one is
    another, and the card is what people copy. Scores are those of the last validation, by single
    passes on the network's pixels.

    Args:
        bundle: its folder.
        trained: the network, which further config files may have made another than
            `configs/train.json` has; None: it is that.
    """
    if not read_plan(bundle):
        return
    settings = read_settings(bundle)
    parser, network = network_of(settings)
    metadata = read_json(bundle / "configs/metadata.json")
    steps = read_record(bundle / "models", TRAINING).get("iterations")
    own, recipe = OTHER, ""
    if trained is None or _shapes(trained) == _shapes(network):
        own = _table(network_facts(network, settings, metadata))
        recipe = RECIPE + _table(recipe_facts(parser, settings, steps))
    learned = _table(_learned(bundle, settings))
    write_section(bundle, "training", f"## What it was trained on\n\n{learned}\n{PLAN}")
    if not has_section(bundle, "about"):  # of an earlier version, whose text stays around it
        return
    write_section(bundle, "about", ABOUT)
    write_section(bundle, "network", f"## Its network\n\n{own}")
    write_section(bundle, "recipe", recipe)


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Of all weights, by name."""
    return {name: tuple(weight.shape) for name, weight in unwrapped(network).state_dict().items()}


def network_facts(network: nn.Module, settings: Facts, metadata: Facts) -> dict[str, Any]:
    """Facts of a network by their names; None where it does not say.

    Args:
        network: any; a `UNet` says more.
        settings: content of `configs/train.json`.
        metadata: content of `configs/metadata.json`.
    """
    own = network if isinstance(network, UNet) else None
    convolutions = sum(isinstance(module, _ConvNd) for module in network.modules())
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {
        "made by": f"`{_target(settings['network_def'])}`",
        "preset": settings.get("preset") if own else None,
        "input": f"{settings.get('in_channels')} channel(s): {metadata.get('image_classes')}",
        "resampled": _resampled(settings.get("scale")),
        "output": metadata.get("pred_classes"),
        "features": listed(own.features if own else settings.get("features")),
        "poolings": levels(settings.get("pool")),
        "kernels": levels(settings.get("kernel_size")),
        "padding": own.padding if own else None,
        "context, px per side": listed(own.margin if own else settings.get("margin"), " x "),
        "normalisation": _normalisation(network, settings.get("statistics")),
        "parameters": f"{parameters:,} in {convolutions} convolutions",
    }


def recipe_facts(parser: Any, settings: Facts, steps: int | None) -> dict[str, Any]:
    """How a network was trained, by the names of the facts; None where it is not known.

    Args:
        parser: MONAI's, of the settings.
        settings: content of `configs/train.json`.
        steps: that it took.
    """
    tile, peak = listed(settings.get("tile_size"), " x "), settings.get("learning_rate")
    return {
        "loss": _with_parts(settings.get("loss")),
        "border weights": _border_weights(settings),
        "optimiser": _with_numbers(settings.get("optimizer")),
        "peak learning rate": f"{peak}; {_schedule(settings.get('budget'))}",
        "batch": f"{settings.get('batch_size')} tile(s) of {tile} px",
        "steps": steps,
        "augmentation": "; ".join(_augmentation(parser, settings.get("augment"))),
    }


def _learned(bundle: Path, settings: Facts) -> dict[str, Any]:
    """What a bundle was trained on, and its last scores."""
    history = read_history(bundle / "models" / "learning_curve.csv")
    facts = training_facts(bundle, settings, history)
    last = {n.replace("_", " "): v for row in history for n, v in row.items() if "val_" in n}
    shown = {name: fact for name, fact in facts.items() if name not in (*LATER, *OF_NETWORK)}
    return shown | {f"{name}, single passes": f"{value:.3f}" for name, value in last.items()}


def _table(facts: Facts) -> str:
    """Markdown; facts that are None or empty are left out."""
    known = {name: str(fact) for name, fact in facts.items() if fact not in (None, "")}
    rows = ["| {} | {} |".format(name, fact.replace("|", r"\|")) for name, fact in known.items()]
    return "\n".join(["| | |", "|---|---|", *rows]) + "\n"


def _augmentation(parser: Any, chain: Any) -> Iterator[str]:
    """Each random transform that acts, with the numbers that the config gives it."""
    for name, made in chain.items() if isinstance(chain, Mapping) else ():
        disabled = f"augment::{name}::_disabled_"
        if not name.startswith("_") and not (
            disabled in parser and parser.get_parsed_content(disabled)
        ):
            yield f"{name.replace('_', ' ')}: {_with_numbers(made)}"


def _border_weights(settings: Facts) -> str | None:
    """Numbers of the paper's weight map, which classes have not."""
    if settings.get("label_kind") == "classes":
        return None
    return f"w0 {settings.get('w0')}, sigma {settings.get('sigma')}"


def _schedule(budget: Any) -> str:
    """How the learning rate runs, of the budget's config."""
    defaults = inspect.signature(TrainingBudget).parameters
    said = budget if isinstance(budget, Mapping) else {}
    warmup, final = (said.get(name, defaults[name].default) for name in ("warmup", "final"))
    if not all(isinstance(number, int | float) for number in (warmup, final)):
        return "as `budget` of `configs/train.json` has it"
    end = "it stays" if final == 1 else f"it falls along half a cosine to {final:g} of it"
    return f"it rises over the first {100 * warmup:g} % of the training, then {end}"


def _with_numbers(made: Any) -> str:
    """`SGD, momentum 0.99`: a part of a config, with the plain numbers that are given it."""
    of = made if isinstance(made, Mapping) else {}
    said = {
        k: v
        for k, v in of.items()
        if isinstance(v, int | float) and k not in UNSAID and k[0] != "_"
    }
    return ", ".join([f"`{_class_name(made)}`", *(f"{key} {value}" for key, value in said.items())])


def _with_parts(made: Any) -> str:
    """`SumLoss` of its losses, as a config nests them."""
    values = made.values() if isinstance(made, Mapping) else ()
    each = [part for value in values for part in (value if isinstance(value, list) else [value])]
    parts = [_with_parts(part) for part in each if isinstance(part, Mapping) and "_target_" in part]
    return f"`{_class_name(made)}`" + (f" of {' and '.join(parts)}" if parts else "")


def _class_name(made: Any) -> str:
    return _target(made).rpartition(".")[2]


def _target(made: Any) -> str:
    """The name that a config imports; an expression as it stands."""
    return str(made["_target_"]) if isinstance(made, Mapping) else str(made)


def _normalisation(network: nn.Module, statistics: str | None) -> str:
    names = dict.fromkeys(type(m).__name__ for m in network.modules() if isinstance(m, NORMS))
    if not names:
        return "none"
    whose = ", with the statistics of each image" if statistics == "image" else ""
    return f"`{'`, `'.join(names)}`{whose}"


def _resampled(scale: Any) -> str | None:
    """What is done to images whose pixel sizes do not count; those of others stand at `input`."""
    if scale in (None, 1):
        return None
    return f"to {in_words(scale)} times its pixels along each axis"
