"""A bundle is a program: what one names that unet-med's own bundle does not."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unet_med.bundle.files import find_bundle, override_file, override_names
from unet_med.bundle.ids import first_of
from unet_med.bundle.inspection import (
    load_config,
    planned_values,
    targets_of,
    uses_in,
)
from unet_med.bundle.literals import is_literal

READ_BY_PREDICT = ("inference.json", "metadata.json")
_EARLIER = {  # named by bundles of earlier versions
    "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "$@network_def.eval()",
    "$@network_def.to(@device)",
    "$'probabilities' not in @outputs",
    "$@calibration is None or not {'probabilities', 'rois'} & set(@outputs)",
    "ignite.handlers.ProgressBar",
    "monai.data.Dataset",
    "monai.engines.SupervisedEvaluator",
    "monai.handlers.CheckpointLoader",
    "monai.transforms.AsDiscreted",
    "monai.transforms.Compose",
    "unet_med.handlers.WeightsLoader",
    "unet_med.transforms.SaveSegmentationd",
}
_DEVICE = re.compile(r"\$torch\.device\('[a-z]+(:\d+)?'\)\Z")  # where a training ran
_IN_BUNDLE = re.compile(r"\$@bundle_root \+ '(/\w[\w.-]*)+'\Z")  # a file of its own
_SHOWN = 5


def require_trust(folder: str | os.PathLike[str]) -> None:
    """Refuse a bundle that would call anything that unet-med's own bundle does not.

    Nothing of it is imported or evaluated to find out.

    Raises:
        ValueError: lists what it names.
    """
    found = foreign(Path(folder))
    if not found:
        return
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    raise ValueError(
        f"{folder} names what unet-med's own bundle does not: {', '.join(found[:_SHOWN])}{more}; "
        f"look at it with `unet-med inspect {shlex.quote(str(folder))}`, "
        "and if you trust it, add --trust"
    )


def foreign(folder: Path) -> list[str]:
    """What the configs of a bundle call, evaluate or open beyond unet-med's own, in order.

    Its own are those of a prediction. What a training calls as well (a tracker that sends files to
    an address, a handler that keeps checkpoints in a folder) has no place in one.

    Returns:
        Dotted names, `$` expressions and `%` macros, each once, as they stand there.
    """
    named = [*_named(folder), *_planned(folder)]
    known = own_names() | _EARLIER
    return [text for text in dict.fromkeys(named) if text not in known and not _is_harmless(text)]


def own_names() -> set[str]:
    """What unet-med's own bundle names for a prediction, with each of its override files."""
    root = find_bundle()
    inference = load_config(root / "configs" / "inference.json")
    overrides = [path for name in override_names() if (path := override_file(name)) is not None]
    merged = [_of_prediction(path, load_config(path), inference) for path in overrides]
    return {name for names in (_named(root), *merged) for name in names}


def _is_harmless(text: str) -> bool:
    """Whether an expression names a device or a file of the bundle, or is a string."""
    known = (_DEVICE, _IN_BUNDLE)
    return any(pattern.match(text) for pattern in known) or is_literal(text)


def _planned(folder: Path) -> list[str]:
    """What the plan names for a prediction; a loss of the user's own is training's alone."""
    plan, inference = (folder / "configs" / f"{name}.json" for name in ("plan", "inference"))
    if not plan.is_file() or not inference.is_file():
        return []
    return _of_prediction(plan, planned_values(load_config(plan)), load_config(inference))


def _of_prediction(path: Path, ids: dict[str, Any], inference: dict[str, Any]) -> list[str]:
    """What those ids of a file name that are merged into `inference.json`."""
    values = {id: value for id, value in ids.items() if first_of(id) in inference}
    return [use.text for use in uses_in(path.as_posix(), values)] + list(_by_name(values))


def _named(bundle: Path) -> list[str]:
    """What the files name that a prediction reads."""
    paths = (bundle / "configs" / name for name in READ_BY_PREDICT)
    files = [path for path in paths if path.is_file()]
    uses = [use.text for use in targets_of(files)]
    contents = (load_config(path) for path in files)
    return uses + [name for content in contents for name in _by_name(content)]


def _by_name(node: Any) -> Iterator[str]:
    """Classes that MONAI imports by a plain string: readers and writers of images."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("reader", "writer") and isinstance(value, str) and value[:1] not in "@$":
                yield value
            yield from _by_name(value)
    elif isinstance(node, list):
        for value in node:
            yield from _by_name(value)
