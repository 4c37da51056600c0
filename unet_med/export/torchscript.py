"""TorchScript: deprecated by torch, and still what Java readers and MONAI Deploy load."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch

from unet_med.data.atomic import atomic_write
from unet_med.errors import hushed
from unet_med.export.card import CARD, card_of
from unet_med.export.trained import load_trained, refuse_statistics


def export_torchscript(
    bundle: str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    trust: bool = False,
    statistics: str | None = None,
) -> Path:
    """Write the network of a trained bundle, with the bundle's configs inside, as MONAI does.

    Args:
        bundle: folder of a trained bundle.
        path: file to write; None: `models/model.ts` of the bundle.
        trust: run also what unet-med's own bundle does not name.
        statistics: of batch normalisation: `"training"`, or None as the bundle has it.

    Returns:
        The file. It maps standardised images `(B, C, X, Y[, Z])` to logits, as the network does.

    Raises:
        ValueError: it is no trained bundle, or its statistics are those of each image.
    """
    from monai.bundle import ckpt_export

    trained = load_trained(bundle, trust=trust)
    refuse_statistics(trained, statistics, "TorchScript")
    folder, path = trained.folder, trained.file("model.ts", path)
    with tempfile.TemporaryDirectory() as aside, atomic_write(path) as unseen:
        weights = Path(aside) / "model.pt"  # MONAI reads `.pt` alone
        written = Path(aside) / "model.ts"  # and adds `.ts` to a name without suffix
        torch.save(trained.network.state_dict(), weights)
        card = Path(aside) / CARD
        card.write_text(json.dumps(card_of(trained, by_image=False)), encoding="utf-8")
        with hushed("monai.bundle.scripts", logging.WARNING):
            ckpt_export(
                net_id="network_def",
                filepath=str(written),
                ckpt_file=str(weights),
                meta_file=str(folder / "configs" / "metadata.json"),
                config_file=[str(folder / "configs" / "inference.json"), str(card)],
                bundle_root=str(folder),
            )
        shutil.copyfile(written, unseen)
    return path
