"""How a bundle's objects are made and its probabilities calibrated: planned, fitted, taken back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_med import bundle
from unet_med.fitting.search import Verdict
from unet_med.planning import Plan
from unet_med.planning.objects import CHOSEN, FITTED, decide_objects
from unet_med.planning.plan import Decision


def fits_objects(plan: Plan) -> bool:
    """Whether held-out images have a choice of how objects are made."""
    return bool(plan.value("label_kind") == "instances" and plan.value("preset") == "modern")


def planned_objects(plan: Plan) -> tuple[dict[str, Any], list[str]]:
    """How a plan makes objects before anything is fitted, and which of these ids are free.

    Free is what neither the user nor a file of theirs set.
    """
    planned = _decided(plan)
    free = [
        id for id in CHOSEN if plan.ids[id] == planned[id] or plan.ids[id].reason.startswith(FITTED)
    ]
    return {id: (planned if id in free else plan.ids)[id].value for id in CHOSEN}, free


def write_verdict(
    folder: Path, verdict: Verdict, planned: Mapping[str, Any], free: Sequence[str], images: str
) -> None:
    """Write into a bundle, with the scores as the reason, how objects are made from now on.

    Args:
        folder: the bundle.
        verdict: what held-out images say.
        planned: the choice of the plan.
        free: ids that may change.
        images: which they were, in words.
    """
    reason = f"{FITTED}{images}: AP {verdict.score:.3f} on these, which chose it"
    if verdict.choice != planned:
        reason += f", instead of {verdict.before:.3f} as planned"
    else:
        reason += ", and no other choice is better by more than the images scatter"
    bundle.write_settings(folder, [], {id: verdict.choice[id] for id in free}, reason=reason)
    _write_card(folder)


def forget(folder: Path) -> None:
    """Write planned values where a bundle has fitted ones, as its weights are about to change.

    Args:
        folder: the bundle; one without a plan has nothing fitted.
    """
    content = bundle.read_plan(folder)
    if not content:
        return
    plan = Plan.from_json(content)
    was_fitted = {id for id, one in plan.ids.items() if one.reason.startswith(FITTED)}
    for id in sorted(was_fitted & {*CHOSEN}):
        planned = _decided(plan)[id]
        bundle.write_settings(folder, [], {id: planned.value}, reason=planned.reason)
    if was_fitted & {*CHOSEN}:
        _write_card(folder)
    if "calibration" in was_fitted and plan.ids["calibration"].value is not None:
        # the same beginning: the fit that follows may write another one
        reason = f"{FITTED}weights that a training replaces: not calibrated before it has ended"
        bundle.write_settings(folder, [], {"calibration": None}, reason=reason)
        text = f"## Probabilities\n\nThose of the network: {reason}.\n"
        bundle.write_section(folder, "probabilities", text)


def _write_card(folder: Path) -> None:
    """Say in the model card how objects are made, and what chose it: others copy these numbers."""
    ids = Plan.from_json(bundle.read_plan(folder)).ids
    rows = [f"| `{id}` | {ids[id].value} | {ids[id].reason} |" for id in CHOSEN]
    head = ["## Objects", "", "| | value | by |", "|---|---|---|"]
    bundle.write_section(folder, "objects", "\n".join([*head, *rows]) + "\n")


def _decided(plan: Plan) -> dict[str, Decision]:
    """How a plan decides on objects by itself."""
    values = {id: decision.value for id, decision in plan.ids.items()}
    return decide_objects(plan.seen, values, source=plan.source)
