"""Names of what the planes of a stack are: images of their own, or one volume."""

from __future__ import annotations

from typing import Literal

__all__ = ["APART", "JOINED"]

Planes = Literal["apart", "joined"]

APART: Planes = "apart"
JOINED: Planes = "joined"
