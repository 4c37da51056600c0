"""Threads that share an object which they change take turns with it."""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from contextlib import AbstractContextManager
from threading import RLock
from typing import Any
from weakref import WeakKeyDictionary

_locks: MutableMapping[object, AbstractContextManager[Any]] = WeakKeyDictionary()
if sys.platform != "win32":  # a worker that is forked lacks the threads that have their turns
    os.register_at_fork(after_in_child=_locks.clear)


def turn_with(shared: object) -> AbstractContextManager[Any]:
    """Within the context no other thread has its turn; the same one may have it again.

    The lock lies beside the object: one inside could not be pickled, nor copied.
    """
    return _locks.setdefault(shared, RLock())
