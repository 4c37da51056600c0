"""What was decided for a training, each choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from unet_med.planning.fingerprints import Fingerprint

ASKED = "as asked"  # the reason of what the user chose


@dataclass(frozen=True)
class Decision:
    """The value of one id of the configs, and why.

    Attributes:
        value: as JSON has it.
        reason: one sentence, or what one would say in its place.
    """

    value: Any
    reason: str


Decisions = dict[str, Decision]  # by id


@dataclass(frozen=True)
class Plan:
    """All that is decided before a training starts.

    Attributes:
        ids: by id of the configs, in the order in which they are merged into them.
        data: what the files said; `data.cases` names and hashes each of them.
        overrides: SHA-256 of the override files that the user named, by their names.
        split: content of `configs/split.json`: what is learned from, and what is held out.
        source: the bundle that the training starts from, as `Source.described` has it.
        replay: content of `configs/replay.json`: images of that bundle to learn from as well.
        folds: content of `configs/folds.json`: a split for each network that judges a part.
        subsets: content of `configs/subsets.json`: of folds, with fewer images to learn from.
    """

    ids: Mapping[str, Decision]
    data: Fingerprint
    overrides: Mapping[str, str]
    split: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    replay: Sequence[Mapping[str, Any]] = ()
    folds: Sequence[Mapping[str, Any]] = ()
    subsets: Sequence[Mapping[str, Any]] = ()

    def value(self, id: str) -> Any:
        """What was decided for one id; None where nothing was."""
        return self.ids[id].value if id in self.ids else None

    @property
    def seen(self) -> Fingerprint:
        """What the files say, as the network sees them."""
        return self.data.turned(self.value("orientation"))

    def to_json(self) -> dict[str, Any]:
        """Content of `configs/plan.json`; splits and `replay` have files of their own."""
        return {
            "ids": {id: asdict(decision) for id, decision in self.ids.items()},
            "overrides": dict(self.overrides),
            **({"source": dict(self.source)} if self.source else {}),
            "split": dict(self.split),
            "replay": [dict(entry) for entry in self.replay],
            "folds": [dict(split) for split in self.folds],
            "subsets": [dict(split) for split in self.subsets],
            "data": self.data.to_json(),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that `to_json` gave."""
        return cls(
            ids={id: Decision(**entry) for id, entry in content["ids"].items()},
            data=Fingerprint.from_json(content["data"]),
            overrides=content["overrides"],
            split=content.get("split", {}),
            source=content.get("source", {}),
            replay=tuple(content.get("replay", ())),
            folds=tuple(content.get("folds", ())),
            subsets=tuple(content.get("subsets", ())),
        )
