"""Volumes larger than memory, on one machine or many: the same result as one pass."""

from __future__ import annotations
