"""Entries of items and metadata that several modules write and read.

An item keeps all entries of the user's list, `age` or `centre` among them. Those of the package's
own have names that no list has, so that none is taken for the other.
"""

from __future__ import annotations

from typing import Any

Item = dict[str, Any]  # of a data list

PLACES = "unet_med.places"  # of an image: rare values and the numbers of their pixels, (2, N)
KNOWN = "unet_med.known"  # of an image: how many pixels are known up to the end of each line
CENTRE = "unet_med.centre"  # the tile is drawn around this pixel, its number
LINES = "unet_med.lines"  # where on a GPU the pixels are, one tensor of numbers an axis
DRAWS = "unet_med.draws"  # all that was drawn for a tile, one float64 tensor
CHANNEL_NAMES = "channel_names"  # in the metadata of an image whose file names all: lines
NOTES = "notes"  # in the metadata of an image: how it is unlike those of the training, lines
AGREEMENT = "agreement"  # in the metadata of logits: of the views, one number an image, (B,)
WRITTEN = "outputs"  # in the metadata of an image, and in its record: which results were written
DIGESTS = "digests"  # likewise: SHA-256 of each file that was written, by its name
