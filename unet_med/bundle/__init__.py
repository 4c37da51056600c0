"""The bundle: where it is, a writable copy of it, its settings, and how it runs.

The repository root is the bundle; a wheel carries a copy. A training's output
folder is a bundle too, with the settings of that training written into its
configs, so that every later run needs nothing but the folder.
"""

from __future__ import annotations

from unet_med.bundle.card import has_section, write_section
from unet_med.bundle.files import (
    copy_bundle,
    find_bundle,
    find_ensemble,
    find_override,
    find_weights,
    override_file,
    override_names,
)
from unet_med.bundle.ids import combine, require_ids
from unet_med.bundle.inspection import ConfigUse, config_files, load_config, targets_of
from unet_med.bundle.literals import literal
from unet_med.bundle.metadata import network_of
from unet_med.bundle.models import find_trained, model_names
from unet_med.bundle.running import command_line, inference_parser, load_workflow
from unet_med.bundle.trust import require_trust
from unet_med.bundle.writing import (
    merge_config,
    plan_file,
    read_plan,
    write_plan,
    write_settings,
)

__all__ = [
    "ConfigUse",
    "combine",
    "command_line",
    "config_files",
    "copy_bundle",
    "find_bundle",
    "find_ensemble",
    "find_override",
    "find_trained",
    "find_weights",
    "has_section",
    "inference_parser",
    "literal",
    "load_config",
    "load_workflow",
    "merge_config",
    "model_names",
    "network_of",
    "override_file",
    "override_names",
    "plan_file",
    "read_plan",
    "require_ids",
    "require_trust",
    "targets_of",
    "write_plan",
    "write_section",
    "write_settings",
]
