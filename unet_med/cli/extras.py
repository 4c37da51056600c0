"""What is installed of the optional packages, and how to install the rest."""

from __future__ import annotations

from importlib.util import find_spec

# modules of each extra of pyproject.toml, and what they are for
EXTRAS: dict[str, tuple[tuple[str, ...], str]] = {
    "track": (("tensorboard",), "train --config tensorboard"),
    "mlflow": (("mlflow", "sqlalchemy", "alembic"), "train --config mlflow"),
    "zarr": (("zarr",), "OME-Zarr, volumes larger than memory"),
    "bioio": (("bioio_czi", "bioio_nd2", "bioio_lif"), "CZI, ND2 and LIF files"),
    "cluster": (("zarr", "distributed"), "predict --scheduler"),
    "export": (("onnx", "onnxscript", "onnxruntime", "bioimageio.spec"), "export"),
    "dicom": (("pydicom", "highdicom"), "predict --dicom-seg, multi-frame DICOM"),
    "napari": (("napari",), "the widget"),
}


def missing(extra: str) -> list[str]:
    """Modules of an extra that are not installed; none of them is imported."""
    return [name for name in EXTRAS[extra][0] if not _is_there(name)]


def install_line(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'unet-med[{extra}]'"


def require(extra: str, wanted: str) -> None:
    """Refuse what an extra is missing for, before any work.

    Args:
        extra: its name in `EXTRAS`.
        wanted: option that needs it, as the user wrote it.

    Raises:
        ImportError: names what is missing, and the command that installs it.
    """
    if names := missing(extra):
        raise ImportError(
            f"{wanted} needs {', '.join(names)}, not installed: {install_line(extra)}"
        )


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # the package of a submodule
        return False
