"""Whether the objects that a run finds are as wide as those that its network learned."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from ignite.engine import Engine, Events

from unet_med.data.labels import instance_faces, instance_sizes, summary_of
from unet_med.planning import Source
from unet_med.planning.object_width import plane_widths

FAR = 2.0  # times: a set of images of one magnification varies by less in its median
FEWEST = 20  # objects that a median is taken of

_log = logging.getLogger(__name__)


class FoundWidths:
    """Handler that says in one line that a run's images seem to be of another magnification.

    It looks at the instances of planes. Where images are brought to a pixel size, or the bundle
    does not say how wide the objects were that it learned, it says nothing.

    Args:
        bundle: folder of the trained bundle; None: none is known.
        settings: ids of the run: `scale` and `spatial_dims`.
    """

    def __init__(self, bundle: str | os.PathLike[str] | None, settings: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.settings = settings
        self._widths: list[np.ndarray] = []

    def attach(self, engine: Engine) -> None:
        """Register with an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self._widths.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._look)
        engine.add_event_handler(Events.COMPLETED, self.say)

    def _look(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for item in output if isinstance(output, list) else [output]:
            if (instances := item.get("instances")) is not None:
                self.look(np.asarray(instances)[0])

    def look(self, instances: np.ndarray) -> None:
        """Keep how wide objects are.

        Args:
            instances: numbers of objects, `(X, Y)` or `(X, Y, Z)`; 0 elsewhere.
        """
        if self.settings.get("spatial_dims") == 2:
            self._widths.append(widths_of(instances))

    def say(self) -> None:
        """Say it in one line, if the objects are of another width than those that were learned."""
        if not self._widths:
            return
        widths = np.concatenate(self._widths)
        if len(widths) < FEWEST or (known := self._known()) is None:
            return
        found = float(np.median(widths))
        if not known / FAR <= found <= known * FAR:
            _log.warning(
                "the median object is %.3g px wide, and that of the training %.3g: if these images "
                "are of another magnification, measure a typical object and give --object-width PX",
                *(found, known),  # found may be fragments, so its width is no advice
            )

    def _known(self) -> float | None:
        """Width of the median object that was learned, px of these images as they are shown."""
        if self.bundle is None:
            return None
        try:
            return Source.of(self.bundle, trust=True).width_at(self.settings.get("scale"))
        except (KeyError, OSError, TypeError, ValueError):  # no bundle, or one of another version
            return None


def widths_of(instances: np.ndarray) -> np.ndarray:
    """Width of each object in each plane, px, as the plan measures those of a training.

    Args:
        instances: numbers of objects, `(X, Y)` or `(X, Y, Z)`; 0 elsewhere.

    >>> widths_of(np.array([[1, 1, 0], [1, 1, 2]])).round(2).tolist()
    [2.26, 1.13]
    """
    look = summary_of(instances)
    return plane_widths(instance_sizes(look, 2), instance_faces(look, 2))
