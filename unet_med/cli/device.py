"""Which device a command runs on."""

from __future__ import annotations


def choose_device(name: str | None) -> str:
    """Name of the device to use.

    Args:
        name: what the user asked for; None: a GPU where there is one.

    Raises:
        ValueError: not a device, or CUDA where there is none.
    """
    import torch

    if name is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}: cpu, cuda or cuda:N") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ValueError(f"device {name}: {count} CUDA devices here; use --device cpu")
    return name
