"""The bundle from Python: MONAI workflows whose parts are values, not strings.

`UNetTrainWorkflow` and `UNetInferWorkflow` read the same configs as `python -m monai.bundle
run`, so that both give the same result. Settings are keyword arguments and may be any Python
object; MONAI's properties (`network_def`, `train_dataset`, `evaluator`, ...) are attributes that
can be read and replaced.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import PythonicWorkflow
from monai.utils import BundlePropertyConfig

from unet_med.bundle import (
    find_bundle,
    find_override,
    find_trained,
    merge_config,
    require_ids,
    require_trust,
)
from unet_med.bundle.literals import literal
from unet_med.bundle.models import is_model


class UNetWorkflow(PythonicWorkflow):
    """What training and inference share: a config, and its parts as attributes.

    Args:
        bundle: folder of the bundle; None: the one that this installation carries.
        overrides: names of override files of the bundle (`"modern"`) or paths of others, merged
            in this order.
        **settings: ids of the config with new values, any Python objects; nested ids as
            `**{"train::dataset::cache": False}`. A string that begins with `$`, `@` or `%` is
            MONAI's syntax; a path that does so is given as a `Path`.

    Raises:
        FileNotFoundError: an override file is not there.
        ValueError: a setting that the config does not have, with the nearest that it has.
    """

    kind: str
    """Name of the config: `"train"` or `"inference"`."""

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        overrides: Sequence[str | os.PathLike[str]] = (),
        **settings: Any,
    ) -> None:
        root = find_bundle() if bundle is None else Path(bundle)
        configs = root / "configs"
        files = [find_override(name, configs) for name in overrides]
        config = merge_config(configs / f"{self.kind}.json", files, {})
        require_ids(settings, source=type(self).__name__, configs=[config])
        super().__init__(
            workflow_type="train" if self.kind == "train" else "infer",
            config_file=config,  # type: ignore[arg-type]
            meta_file=str(configs / "metadata.json"),
            **literal({"bundle_root": root, **settings}),
        )

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Fix the random seeds; parts are made when they are asked for."""
        super().initialize()
        self.parser.parse(reset=True)  # parts that were made before a change are made anew
        self.parser.get_parsed_content("initialize")

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Train, or segment all images; initialises where that was not done yet."""
        if not self._is_initialized:
            self.initialize()
        return self.parser.get_parsed_content("run")

    def finalize(self, *args: Any, **kwargs: Any) -> None:
        """Nothing is left to be closed."""

    def _get_property(self, name: str, property: dict[Any, Any]) -> Any:
        if not self._is_initialized:
            self.initialize()
        id = property[BundlePropertyConfig.ID]
        return self.parser.get_parsed_content(id) if id in self.parser else None

    def _set_property(self, name: str, property: dict[Any, Any], value: Any) -> None:
        self.parser[property[BundlePropertyConfig.ID]] = literal(value)
        self._is_initialized = False


class UNetTrainWorkflow(UNetWorkflow):
    """Training, as `configs/train.json`.

    Args:
        bundle: folder of the bundle; None: the one that this installation carries.
        overrides: names of override files of the bundle (`"modern"`), or paths of others.
        **settings: ids of the config with new values: `images`, `labels`, `label_kind`,
            `output_dir`, `epochs`, `loss`, ...

    Example::

        workflow = UNetTrainWorkflow(
            images="images", labels="labels", output_dir="models", overrides=["modern"]
        )
        workflow.run()
        network = workflow.network_def
    """

    kind = "train"


class UNetInferWorkflow(UNetWorkflow):
    """Segmentation with trained weights, as `configs/inference.json`.

    Args:
        bundle: folder of a trained bundle, or the name of a model that comes with the package.
        overrides: names of override files of the bundle, those of the training.
        trust: run also what unet-med's own bundle does not name.
        **settings: ids of the config with new values: `images`, `output_dir`, `checkpoint`, ...

    Raises:
        ValueError: the bundle names what unet-med's own does not, and is not trusted; or it
            comes with the package, and `output_dir` is not given.

    Example::

        UNetInferWorkflow("my-bundle", images="new", output_dir="results").run()
    """

    kind = "inference"

    def __init__(
        self,
        bundle: str | os.PathLike[str] | None = None,
        *,
        overrides: Sequence[str | os.PathLike[str]] = (),
        trust: bool = False,
        **settings: Any,
    ) -> None:
        bundle = None if bundle is None else find_trained(bundle)
        if bundle is not None and not trust:
            require_trust(bundle)
        if bundle is not None and is_model(bundle) and "output_dir" not in settings:
            raise ValueError(
                f"{bundle.name} is part of the installed unet-med, where nothing is written: say "
                "where results go with output_dir"
            )
        super().__init__(bundle, overrides=overrides, **settings)
