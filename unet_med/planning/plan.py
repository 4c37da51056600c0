"""What was decided for a training, each choice with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from unet_med.planning.fingerprints import Fingerprint


@dataclass(frozen=True)
class Decision:
    """The value of one id of the configs, and why.

    Attributes:
        value: as JSON has it.
        reason: one sentence, or what one would say in its place.
    """

    value: Any
    reason: str


@dataclass(frozen=True)
class Plan:
    """All that is decided before a training starts.

    Attributes:
        ids: by id of the configs, in the order in which they are merged into them.
        data: what the files said; `data.cases` names and hashes each of them.
        overrides: SHA-256 of the override files that the user named, by their names.
        split: content of `configs/split.json`: what is learned from, and what is held out.
    """

    ids: Mapping[str, Decision]
    data: Fingerprint
    overrides: Mapping[str, str]
    split: Mapping[str, Any] = field(default_factory=dict)

    def value(self, id: str) -> Any:
        """What was decided for one id; None where nothing was."""
        return self.ids[id].value if id in self.ids else None

    @property
    def seen(self) -> Fingerprint:
        """What the files say, as the network sees them."""
        return self.data.turned(self.value("orientation"))

    def to_json(self) -> dict[str, Any]:
        """Content of `configs/plan.json`, and as `split` that of `configs/split.json`."""
        return {
            "ids": {id: asdict(decision) for id, decision in self.ids.items()},
            "overrides": dict(self.overrides),
            "split": dict(self.split),
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
        )
