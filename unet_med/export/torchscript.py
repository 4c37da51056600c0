"""TorchScript: deprecated by torch, and still what Java readers and MONAI Deploy load."""

from __future__ import annotations

import os
from pathlib import Path

from unet_med.export.trained import load_trained


def export_torchscript(
    bundle: str | os.PathLike[str], path: str | os.PathLike[str] | None = None
) -> Path:
    """Write the network of a trained bundle, with the bundle's configs inside, as MONAI does.

    Args:
        bundle: folder of a trained bundle.
        path: file to write; None: `models/model.ts` of the bundle.

    Returns:
        The file. It maps standardised images `(B, C, X, Y[, Z])` to logits, as the network does.

    Raises:
        ValueError: it is no trained bundle.
    """
    from monai.bundle import ckpt_export

    folder = load_trained(bundle).folder
    path = folder / "models" / "model.ts" if path is None else Path(path)
    ckpt_export(
        net_id="network_def",
        filepath=str(path),
        ckpt_file=str(folder / "models" / "model.pt"),
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.json"),
        bundle_root=str(folder),
    )
    return path
