"""Whether progress bars are shown: on a terminal, unless nobody wants them."""

from __future__ import annotations

import logging

BARS = logging.getLogger("unet_med.bars")  # level ERROR: no bars; see `unet-med --quiet`


def no_bar(wanted: bool = True) -> bool | None:
    """`disable` of a tqdm bar: True hides it, None hides it where there is no terminal.

    >>> no_bar(), no_bar(False)
    (None, True)
    """
    return None if wanted and BARS.isEnabledFor(logging.WARNING) else True
