"""Entries of an item that are the package's own, under names that no data list has.

An item keeps all entries of the user's list, `age` or `centre` among them; so one name of ours
would take the other's value for its own.
"""

from __future__ import annotations

__all__ = ["CENTRE", "DRAWS", "KNOWN", "LINES", "PLACES"]

PLACES = "unet_med.places"  # of an image: rare values and the numbers of their pixels, (2, N)
KNOWN = "unet_med.known"  # of an image: how many pixels are known up to the end of each line
CENTRE = "unet_med.centre"  # the tile is drawn around this pixel, its number
LINES = "unet_med.lines"  # where on a GPU the pixels are, one tensor of numbers an axis
DRAWS = "unet_med.draws"  # all that was drawn for a tile, one float64 tensor
