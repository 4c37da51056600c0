"""Weights from a file: tensors only, never a program."""

from __future__ import annotations

import pickle
import re
from typing import Any

import torch
from ignite.engine import Engine
from monai.handlers import CheckpointLoader


class WeightsLoader(CheckpointLoader):
    """MONAI's `CheckpointLoader` for `.safetensors` too; what is wrong is one sentence.

    Both kinds hold tensors alone: `.pt` is read with `weights_only=True`, so that a pickled
    program in it is refused before it runs.

    Args:
        *args: of `monai.handlers.CheckpointLoader`.
        **kwargs: of `monai.handlers.CheckpointLoader`.

    Raises:
        ValueError: the file is missing, damaged, holds more than tensors, or does not fit.
    """

    def __call__(self, engine: Engine) -> None:
        """Load when a run starts."""
        try:
            if str(self.load_path).endswith(".safetensors"):
                self._load_safetensors()
            else:
                super().__call__(engine)
        except pickle.UnpicklingError as error:
            named = re.search(r"GLOBAL (\S+)", str(error))
            what = f" (it calls {named[1]})" if named else ""
            raise ValueError(
                f"{self.load_path} holds more than tensors{what}: loading it could run a program, "
                "so it is refused"
            ) from error
        except (EOFError, KeyError, OSError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"{self.load_path} cannot be loaded as weights of this network: {_short(error)}"
            ) from error

    def _load_safetensors(self) -> None:
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError:
            raise ImportError(
                f"{self.load_path} needs safetensors: pip install 'unet-med[safetensors]'"
            ) from None
        try:
            state: dict[str, Any] = load_file(self.load_path, device="cpu")
        except SafetensorError as error:
            raise ValueError(f"{self.load_path} is damaged: {_short(error)}") from error
        for target in self.load_dict.values():
            if not isinstance(target, torch.nn.Module):
                raise TypeError("safetensors hold weights, and load_dict asks for more")
            target.load_state_dict(state, strict=self.strict)


def _short(error: Exception) -> str:
    """The start of an error's text in one line, and its kind."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
