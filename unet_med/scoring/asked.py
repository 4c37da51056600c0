"""How somebody wants results to be scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_med.data.class_names import ClassNames
from unet_med.planes import APART, JOINED, Planes
from unet_med.scoring.families import METRICS_OF_KIND

AUTO = "auto"


@dataclass(frozen=True)
class Asked:
    """How results are to be scored; see `unet_med.scoring.evaluate`.

    Raises:
        ValueError: a kind or a tolerance that is none, or another word for planes.
    """

    kind: str = AUTO
    metrics: str | None = None
    tolerance: float | None = None
    names: ClassNames | None = None
    choice: Mapping[str, Any] = field(default_factory=dict)
    unknown: int | None = None
    group: str | None = None
    planes: Planes | None = None

    def __post_init__(self) -> None:
        if self.tolerance is not None and not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"--tolerance {self.tolerance}: give a distance, such as 2")
        _require_one_of("label_kind", self.kind, (AUTO, *METRICS_OF_KIND))
        _require_one_of("planes", self.planes, (None, APART, JOINED))

    @property
    def reading(self) -> dict[str, Any]:
        """How the truths are read, as arguments of `load_label`."""
        return {"unknown": self.unknown, **self.choice}

    @property
    def objects(self) -> bool | None:
        """Whether labels that number objects are asked for, or others; None: nobody said."""
        kinds = [kind for kind, own in METRICS_OF_KIND.items() if self.metrics in own]
        kinds = kinds if self.kind == AUTO else [self.kind]
        found = {kind == "instances" for kind in kinds}
        return found.pop() if len(found) == 1 else None

    @property
    def about(self) -> dict[str, Any]:
        """What a table says of it, as far as it was asked for."""
        said = {
            "unknown": self.unknown,
            "choice": dict(self.choice) or None,
            "group": self.group,
            "planes": self.planes,
        }
        return {name: value for name, value in said.items() if value is not None}


def _require_one_of(name: str, value: str | None, known: tuple[str | None, ...]) -> None:
    if value not in known:
        words = ", ".join(repr(each) for each in known)
        raise ValueError(f"{name} {value!r} is none of {words}")
