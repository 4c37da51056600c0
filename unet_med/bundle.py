"""The bundle: where it is, a writable copy of it, its settings, and how it runs.

The repository root is the bundle; a wheel carries a copy. A training's output
folder is a bundle too, with the settings of that training written into its
configs, so that every later run needs nothing but the folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unet_med.data.beside import written_beside

MAX_CONFIG_BYTES, MAX_CONFIG_ENTRIES, MAX_CONFIG_DEPTH = 16 << 20, 1_000_000, 100
PARTS = ("configs", "workflows", "docs/README.md", "LICENSE")

Settings = Mapping[str, Any]


def find_bundle() -> Path:
    """Folder of the bundle that this installation carries.

    Raises:
        FileNotFoundError: neither a wheel's copy nor a checkout is there.
    """
    package = Path(__file__).resolve().parent
    for root in (package / "_bundle", package.parent):
        if (root / "configs" / "metadata.json").is_file():
            return root
    raise FileNotFoundError(f"no bundle beside {package}: reinstall unet-med")


def copy_bundle(destination: str | Path, *, over: bool = False) -> Path:
    """Write a fresh bundle, without weights, into a new or empty folder.

    Args:
        destination: folder to make.
        over: write over a bundle that is there; other files in it stay.

    Returns:
        The folder.

    Raises:
        FileExistsError: it holds something already, and not `over`.
    """
    root, destination = find_bundle(), Path(destination)
    if (
        not over
        and destination.exists()
        and (not destination.is_dir() or any(destination.iterdir()))
    ):
        raise FileExistsError(f"{destination} exists and is not empty: choose a new folder")
    for part in PARTS:
        source, target = root / part, destination / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, target, ignore=ignored, dirs_exist_ok=over)
        elif source.is_file():
            shutil.copyfile(source, target)
    (destination / "models").mkdir(exist_ok=True)
    return destination


def override_file(name: str) -> Path | None:
    """Config file `configs/NAME.json` of the bundle that changes the defaults, if there is one."""
    path = find_bundle() / "configs" / f"{name}.json"
    return path if path.is_file() else None


def override_names() -> list[str]:
    """Names of the bundle's override files: configs that change a part, and run nothing.

    >>> "tensorboard" in override_names(), "train" in override_names()
    (True, False)
    """
    files = sorted((find_bundle() / "configs").glob("*.json"))
    contents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
    programs = {"run", "initialize", "monai_version"}  # the last: metadata.json
    return [name for name, content in contents.items() if not programs & set(content)]


def find_override(name: str | os.PathLike[str], configs: Path | None = None) -> Path:
    """An override file by its path, or by its name.

    Args:
        name: path of a JSON file, or name of one in `configs` or of this installation's bundle.
        configs: folder of a bundle's configs.

    Raises:
        FileNotFoundError: there is none; lists the names there are.
    """
    beside = [] if configs is None else [configs / f"{name}.json"]
    for path in (Path(name), *beside, override_file(str(name))):
        if path is not None and path.is_file():
            return path
    known = ", ".join(override_names())
    raise FileNotFoundError(f"no override file {name}: give the path of one, or one of {known}")


def merge_config(config: Path, overrides: Sequence[Path], settings: Settings) -> dict[str, Any]:
    """Config file with override files and single settings merged in, as MONAI merges them.

    Args:
        config: config file, JSON.
        overrides: files of ids that replace those of the config, or with a `+`
            append to them; ids that the config does not know are left out (an
            override serves training and inference alike).
        settings: single ids, likewise.

    Returns:
        The content of the config file.
    """
    from monai.bundle import ConfigParser
    from monai.bundle.utils import merge_kv

    parser = ConfigParser(ConfigParser.load_config_file(config))
    for pairs in [*(json.loads(path.read_text(encoding="utf-8")) for path in overrides), settings]:
        for key, value in pairs.items():
            if key.lstrip("+").split("::")[0] in parser:
                merge_kv(parser, key, value)  # "+key" appends
    content = parser.get()
    return dict(content)


def write_settings(bundle: Path, overrides: Sequence[Path], settings: Settings) -> None:
    """Write a training's choices into `train.json` and `inference.json` of a bundle.

    What goes into its network and comes out is written into `metadata.json`, where MONAI Label
    and the model zoo's checks look for it.
    """
    for name in ("train", "inference"):
        path = bundle / "configs" / f"{name}.json"
        content = merge_config(path, overrides, settings)
        _write_json(path, content)
    path = bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text(encoding="utf-8"))
    _describe(metadata["network_data_format"], content)
    _write_json(path, metadata)


def _write_json(path: Path, content: Any) -> None:
    with written_beside(path) as beside:
        beside.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


def network_of(config: dict[str, Any]) -> tuple[Any, Any]:
    """Parser of a config's content, and its network without memory for weights."""
    import torch
    from monai.bundle import ConfigParser

    parser = ConfigParser(json.loads(json.dumps(config)))  # parsing changes what it parses
    with torch.device("meta"):
        return parser, parser.get_parsed_content("network_def")


def _describe(data_format: dict[str, Any], config: dict[str, Any]) -> None:
    """Set channels and sizes of `network_data_format` to those of a config's network."""
    parser, network = network_of(config)
    ids = ("spatial_dims", "in_channels", "out_channels", "label_kind", "stride")
    dims, inputs, outputs, kind, stride = (parser.get_parsed_content(id) for id in ids)
    side_in = side_out = stride
    if hasattr(network, "input_size_for"):
        stride, side_in = network.stride, network.input_size_for(1)
        side_out = network.output_size(side_in)
    classes = [f"class {k}" for k in range(1, outputs)] if kind == "classes" else ["foreground"]
    data_format["inputs"]["image"] |= {
        "num_channels": inputs,
        "spatial_shape": [_side(stride, side_in)] * dims,
        "channel_def": {str(k): f"channel {k}" if inputs > 1 else "image" for k in range(inputs)},
    }
    data_format["outputs"]["pred"] |= {
        "num_channels": outputs,
        "spatial_shape": [_side(stride, side_out)] * dims,
        "channel_def": {str(k): name for k, name in enumerate(["background", *classes])},
    }


def _side(stride: int | None, first: int | None) -> str:
    """Sides `first`, `first + stride`, ... as the metadata writes them, n from 1; `*` for any."""
    if stride is None or first is None:  # a foreign network whose config does not say
        return "*"
    offset = first - stride
    return f"{stride}*n {'+-'[offset < 0]} {abs(offset)}" if offset else f"{stride}*n"


@dataclass(frozen=True)
class ConfigUse:
    """One place of a config where MONAI imports, evaluates or opens something.

    Attributes:
        file: the config file.
        id: where it stands in the file, as MONAI counts: `train::handlers::0`.
        kind: `"target"`, a dotted name that is imported and called; `"expression"`, Python that
            is evaluated (`$...`); or `"macro"`, another file that is opened (`%...`).
        text: the name, the expression or the macro, as it stands there.
    """

    file: str
    id: str
    kind: str
    text: str


def config_files(bundle: str | Path) -> list[Path]:
    """Every config file of a bundle, metadata included: MONAI parses that too.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = Path(bundle) / "configs"
    files = sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".yaml", ".yml"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no config: give the folder that `configs` is in")
    return files


def targets_of(configs: Iterable[str | Path]) -> list[ConfigUse]:
    """What config files would import, evaluate or open, without doing any of it.

    Args:
        configs: config files, JSON or YAML.

    Returns:
        In the order of the files: every `_target_`, every `$` expression, every `%` macro.

    >>> from unet_med.bundle import config_files, find_bundle
    >>> uses = targets_of(config_files(find_bundle()))
    >>> sorted({use.text.split(".")[0] for use in uses if use.kind == "target"})
    ['ignite', 'monai', 'torch', 'unet_med']
    """
    return [
        use for path in map(Path, configs) for use in _uses(path.as_posix(), "", load_config(path))
    ]


def load_config(path: Path) -> Any:
    """Content of a config file that anybody may have written; nothing in it is evaluated.

    Args:
        path: JSON or YAML.

    Raises:
        ValueError: it is neither, or too large, too deep or endless.
    """
    if (size := path.stat().st_size) > MAX_CONFIG_BYTES:
        raise ValueError(f"{path} has {size} bytes, a config at most {MAX_CONFIG_BYTES}")
    try:
        content = _parse(path)
    except ImportError:
        raise
    except Exception as error:  # YAML's own errors are no ValueError
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} cannot be read as a config: {reason}") from error
    _check_tree(path, content)
    return content


def _parse(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text, object_pairs_hook=_all_pairs)
    try:
        import yaml
    except ImportError:
        raise ImportError(f"{path} is YAML: pip install pyyaml, to read it") from None
    return yaml.safe_load(text)


def _check_tree(path: Path, content: Any) -> None:
    """Aliases of YAML can make a tree without end, or with more leaves than atoms, of few bytes."""
    count, rest = 0, [(content, 0)]
    while rest:
        node, depth = rest.pop()
        count += 1
        if count > MAX_CONFIG_ENTRIES or depth > MAX_CONFIG_DEPTH:
            raise ValueError(
                f"{path} has more than {MAX_CONFIG_ENTRIES} entries or {MAX_CONFIG_DEPTH} levels"
            )
        children = node.values() if isinstance(node, dict) else node
        if isinstance(node, dict | list):
            rest += [(child, depth + 1) for child in children]


def _all_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON file; of a key that stands there twice, no value hides the other."""
    content: dict[str, Any] = {}
    for key, value in pairs:
        while key in content:
            key += " (again)"
        content[key] = value
    return content


def _uses(file: str, id: str, node: Any) -> Iterator[ConfigUse]:
    """Walk through one value of a config, at `id`."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _uses(file, f"{id}::{key}" if id else str(key), value)
    elif isinstance(node, str):
        last = re.split("::|#", id)[-1].split(" ")[0]
        if node.startswith("$"):
            yield ConfigUse(file, id, "expression", node)
        elif node.startswith("%"):
            yield ConfigUse(file, id, "macro", node)
        elif last == "_target_":
            yield ConfigUse(file, id, "target", node)


def load_workflow(bundle: Path, kind: str, settings: Settings | None = None) -> Any:
    """MONAI `ConfigWorkflow` of a bundle, initialised, not yet run.

    Args:
        bundle: folder of the bundle.
        kind: `"train"` or `"inference"`.
        settings: ids to override for this run.

    Returns:
        The workflow; `.run()` runs it.
    """
    from monai.bundle import ConfigWorkflow

    configs = bundle / "configs"
    workflow = ConfigWorkflow(
        config_file=str(configs / f"{kind}.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type="train" if kind == "train" else "infer",
        bundle_root=str(bundle),
        **(settings or {}),
    )
    workflow.initialize()
    return workflow


def command_line(bundle: Path, kind: str, settings: Settings | None = None) -> str:
    """The `python -m monai.bundle` line that runs the same thing."""
    import shlex

    configs = bundle / "configs"
    words = ["python", "-m", "monai.bundle", "run"]
    words += ["--config_file", str(configs / f"{kind}.json")]
    words += ["--meta_file", str(configs / "metadata.json")]
    words += ["--logging_file", str(configs / "logging.conf")]
    for key, value in {"bundle_root": str(bundle), **(settings or {})}.items():
        if value is None:
            value = "$None"  # MONAI drops an option that is None; an expression arrives
        words += [f"--{key}", value if isinstance(value, str) else repr(value)]
    return " ".join(shlex.quote(word) for word in words)
