"""`unet-med train --from`: a trained bundle to start from, and what it learned to replay."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.data.cases import files_of
from unet_med.data.checksum import sha256
from unet_med.planning import DataFolder, Plan, Source, with_replay
from unet_med.planning.replay import place_of

NONE = "none"  # of --replay


def source_of(args: argparse.Namespace) -> Source | None:
    """The bundle that `--from` names; None without it.

    Raises:
        ValueError: it is no trained bundle; or an option has no effect without it.
    """
    named = getattr(args, "from")  # a word of Python's
    if named is not None:
        return Source.of(named, trust=args.trust)
    for option in ("replay", "trust"):
        if getattr(args, option):
            raise ValueError(f"--{option} has no effect without --from: leave it out")
    return None


def replayed(
    plan: Plan, source: Source | None, args: argparse.Namespace
) -> tuple[Plan, str | None]:
    """A plan with what is replayed, and the folder that it lies in.

    Raises:
        ValueError: the folders that `--replay` names do not hold it.
    """
    if source is None or args.replay == NONE:
        return plan, None
    plan, place = with_replay(plan, source, _places(args, source.folder))
    if args.replay and place is None:
        raise ValueError(f"--replay {_said(args)}: {plan.source['replay']}")
    return plan, None if place is None else str(place)


def resumed(args: argparse.Namespace, output: Path) -> dict[str, Any]:
    """What a training that goes on has to be told of its beginning.

    Raises:
        ValueError: another beginning is asked for, or what is replayed is not at hand.
    """
    plan = bundle.read_plan(output)
    begun: Mapping[str, Any] = plan.get("source", {})
    if (named := getattr(args, "from")) is not None and not _is_same(named, begun):
        raise ValueError(
            f"--from {named} does not continue {output}, begun with "
            f"{begun.get('name', 'fresh weights')}: leave it out, or train into another folder"
        )
    entries = plan.get("replay", [])
    if args.replay and (args.replay == NONE or not entries):
        had = f"{len(entries)} images to replay" if entries else "no images to replay"
        raise ValueError(f"--replay {_said(args)}: {output} was begun with {had}: leave it out")
    if not entries:
        return {}
    place = place_of(entries, _places(args, output))
    if place is None:
        raise ValueError(
            f"the {len(entries)} images that {output} replays are not at hand: say with --replay "
            f"where {entries[0]['image']} lies, unchanged"
        )
    return {"replay_dir": str(place)}


def _is_same(named: str, begun: Mapping[str, Any]) -> bool:
    """Whether a bundle has the weights that a training was begun with."""
    if not begun:
        return False
    return bool(sha256(bundle.find_weights(bundle.find_trained(named))) == begun["weights"])


def _said(args: argparse.Namespace) -> str:
    return " ".join(files_of(args.replay))


def _places(args: argparse.Namespace, folder: Path) -> Iterator[Path]:
    """Where images of a bundle may lie: as told, else in it, beside it, with the new ones, here."""
    if args.replay:
        yield from (Path(place).absolute() for place in files_of(args.replay))
        return
    root = DataFolder.of(args.images, args.labels).root
    named = getattr(args, "from")
    source = [] if named is None else [bundle.find_trained(named)]
    for place in (folder, *source):
        yield place.absolute() / "data"
        yield place.absolute().parent
    yield from (place for place in (root, Path.cwd()) if place is not None)
