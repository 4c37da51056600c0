"""How far a training with folds is: what is finished, and how its minutes are shared out.

A network is one of a fold, or of fewer of its images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path

from unet_med.bundle.files import FOLDS
from unet_med.data.atomic import read_json, write_json
from unet_med.planning import Plan
from unet_med.planning.rules import SHARE_OF_ONE

FILE = "progress.json"


@dataclass
class Progress:
    """What `models/folds/progress.json` holds.

    Attributes:
        file: where it lies.
        epochs: budget of each network.
        total: minutes for all but the network of all images, judging included; None: epochs end
            them.
        done: names of the networks that are finished; `"one"` is that of all images.
        overhead: of a training besides its minutes, s, where those to learn from are loaded.
        minutes: of each network's training; None: not shared out, or epochs end it.
        images: that judge each network at most; None: not shared out, or all.
    """

    file: Path
    epochs: int
    total: float | None
    done: list[str] = field(default_factory=list)
    overhead: float = 0.0
    minutes: float | None = None
    images: int | None = None

    @classmethod
    def of(cls, output: Path, plan: Plan) -> Progress:
        """What was kept, or a new beginning where there is none or the budget is another."""
        one = plan.value("minutes")
        total = one and one * (1 - SHARE_OF_ONE) / SHARE_OF_ONE
        file = output / FOLDS / FILE
        fresh = cls(file, plan.value("epochs"), total)
        if not file.is_file():
            return fresh
        kept = read_json(file)
        if (kept["epochs"], kept["total"]) != (fresh.epochs, fresh.total):
            return fresh
        return cls(**{**kept, "file": file})

    def is_done(self, name: str) -> bool:
        """Whether a network is finished."""
        return name in self.done

    def finish(self, name: str, *, overhead: float | None = None) -> None:
        """Keep that a network is finished, and what it took besides its minutes, s."""
        self.done.append(name)
        if overhead is not None:
            self.overhead = max(0.0, overhead)
        self._write()

    def share(self, minutes: float | None, images: int | None) -> None:
        """Keep how the minutes are shared out."""
        self.minutes, self.images = minutes, images
        self._write()

    def _write(self) -> None:
        content = {key: value for key, value in asdict(self).items() if key != "file"}
        write_json(self.file, content, indent=2)
