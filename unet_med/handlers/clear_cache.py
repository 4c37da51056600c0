"""Remove the files in which images were kept, when a training has finished."""

from __future__ import annotations

import ignite.distributed as idist
from ignite.engine import Engine, Events

from unet_med.data.image_cache import ImageCache


class ClearCache:
    """Clear a cache of images when a training has come to its end.

    One that is stopped or fails leaves the files to the run that resumes it. Processes that
    train together wait for one another first.

    Args:
        cache: what keeps the images.
    """

    def __init__(self, cache: ImageCache) -> None:
        self.cache = cache

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind all handlers that look at images."""
        engine.add_event_handler(Events.COMPLETED, self._clear)

    def _clear(self, engine: Engine) -> None:
        idist.barrier()
        self.cache.clear()
