"""Write the pages of docs/reference from docstrings, configs and the command's options.

    python -m docs.make_reference

Only the standard library reads the code: `inspect` for docstrings, `json` for the configs,
`unet_med.cli.options` for the options. The output is the same on every
Python version, and a test compares it with the files.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import unet_med
from unet_med.cli.option import EXITS, Command, Option, build_parser, help_of, sentence
from unet_med.cli.options import COMMANDS, TRAIN

DOCS = Path(__file__).resolve().parent
CONFIGS = DOCS.parent / "configs"
MEANINGS = DOCS / "config_ids.json"
COMMAND = "python -m docs.make_reference"
_SAME = ", ".join(f"`{option.name}`" for option in TRAIN if option.resumed == "same")
ABOUT = {  # what follows the table of a command
    "train": "With `--resume` these must be left out, or be what the training was begun with: "
    + _SAME
    + ". `--images` and `--labels` must lead to the same files, wherever they lie.",
}
GENERATED = f"<!-- Made by `{COMMAND}`; edit the source, not this page. -->"


def pages() -> dict[str, str]:
    """Every generated page: its file name in docs/reference, and its text."""
    return {
        "api.md": api_page(),
        "configs.md": configs_page(),
        "cli.md": cli_page(),
        "decisions.md": decisions_page(),
    }


# --- api.md -----------------------------------------------------------------------------------


def api_page() -> str:
    """Each public name with the first line of its docstring, grouped by module."""
    parts = ["# Python", GENERATED]
    parts.append(
        "The public names. `help(unet_med.networks.UNet)` has arguments and errors; so has the\n"
        "site that `make docs` builds."
    )
    for module in modules():
        parts += [f"## {module.__name__}", _first_line(module.__name__, module)]
        parts.append("\n".join(entry(module, *found) for found in public_names(module)))
    return "\n\n".join(parts) + "\n"


def modules() -> list[ModuleType]:
    """The package, where it offers names of its own, and its public modules."""
    parts = [getattr(unet_med, name) for name in dir(unet_med) if not name.startswith("_")]
    found = [part for part in parts if isinstance(part, ModuleType)]
    return [unet_med, *found] if len(found) < len(parts) else found


def public_names(module: ModuleType) -> Iterator[tuple[str, Any, list[str]]]:
    """Name, value and further names of what a module offers, in the order of the names.

    MONAI's dictionary transforms have three names; `Food` is the one to show.
    """
    names_of: dict[int, list[str]] = {}
    for name in sorted(getattr(module, "__all__", None) or _own_names(module)):
        names_of.setdefault(id(getattr(module, name)), []).append(name)
    for names in names_of.values():
        value = getattr(module, names[0])
        shown = getattr(value, "__name__", names[0])
        name = shown if shown in names else names[0]
        yield name, value, [other for other in names if other != name]


def _own_names(module: ModuleType) -> Iterator[str]:
    for name in dir(module):
        source = getattr(getattr(module, name), "__module__", None) or ""
        if not name.startswith("_") and source.startswith(module.__name__):
            yield name


def entry(module: ModuleType, name: str, value: Any, aliases: list[str]) -> str:
    """One line, with an anchor for the links of other pages."""
    names = ", ".join(f"`{each}`" for each in [name, *aliases])
    about = _first_line(name, value) if callable(value) else _about_constant(module, name)
    return f'* <a id="{name}"></a>{names}: {about}'


def _about_constant(module: ModuleType, name: str) -> str:
    """The first line of the text below a constant, in the module that it comes from."""
    tree = ast.parse(inspect.getsource(module))
    for node, below in pairwise(tree.body):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        text = getattr(below, "value", None)
        if name in [getattr(each, "id", None) for each in targets]:
            if isinstance(below, ast.Expr) and isinstance(text, ast.Constant):
                return inspect.cleandoc(str(text.value)).splitlines()[0]
            raise ValueError(f"{name} is public: say in a line below it what it is")
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    source = next(n.module for n in imports if name in [each.name for each in n.names])
    return _about_constant(importlib.import_module(str(source)), name)


def _first_line(name: str, value: Any) -> str:
    lines = (inspect.getdoc(value) or "").strip().splitlines()
    if not lines:
        raise ValueError(f"{name} is public and has no docstring: say in a line what it is")
    return lines[0]


# --- configs.md -------------------------------------------------------------------------------


def configs_page() -> str:
    """Ids of the configs: default, and the meaning that `config_ids.json` gives."""
    meanings: dict[str, str] = json.loads(MEANINGS.read_text(encoding="utf-8"))
    used: set[str] = set()
    parts = ["# Config ids", GENERATED]
    parts.append(
        "Every id can be replaced on the command line (`--epochs 50`), from Python\n"
        "(`ConfigWorkflow(..., epochs=50)`), or by a further file in `--config_file`.\n"
        "`$` begins a Python expression, `@` names another id."
    )
    for path in sorted(CONFIGS.glob("*.json"), key=_order):
        if path.stem == "metadata":
            continue
        parts += [f"## {path.name}", _about(meanings, path.name, used)]
        rows = ["| id | default | meaning |", "|---|---|---|"]
        for key, value in flat(json.loads(path.read_text(encoding="utf-8"))):
            rows.append(f"| `{key}` | {_default(value)} | {_about(meanings, key, used)} |")
        parts.append("\n".join(rows))
    if surplus := sorted(set(meanings) - used):
        raise ValueError(f"{MEANINGS.name} explains ids that no config has: {', '.join(surplus)}")
    return "\n\n".join(parts) + "\n"


def _order(path: Path) -> tuple[int, str]:
    main = ["train", "inference", "evaluate"]
    return (main.index(path.stem) if path.stem in main else len(main), path.stem)


def flat(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Ids and values; the groups `train` and `validate` are opened, components are not."""
    for key, value in config.items():
        if key in ("train", "validate"):
            yield from ((f"{key}::{part}", inner) for part, inner in value.items())
        else:
            yield key, value


def _about(meanings: dict[str, str], key: str, used: set[str]) -> str:
    if key not in meanings:
        raise ValueError(f"id {key!r} has no meaning yet: add a sentence to docs/{MEANINGS.name}")
    used.add(key)
    return meanings[key]


def _default(value: Any) -> str:
    """A value in one cell: components by their class, lists of them by their classes."""
    if isinstance(value, list) and value and all(_component(v) for v in value):
        return ", ".join(_component(v) for v in value)
    if component := _component(value):
        return component
    if isinstance(value, dict):  # components by name
        parts = {name: _component(part) for name, part in value.items()}
        return ", ".join(f"{name}: {part}" for name, part in parts.items() if part)
    text = value if isinstance(value, str) else json.dumps(value)
    return "`" + text.replace("|", "\\|") + "`"


def _component(value: Any) -> str:
    if isinstance(value, str) and value.startswith(("@", "$")):
        return f"`{value}`"
    if not isinstance(value, dict) or "_target_" not in value:
        return ""
    if "chains" in value:
        return ", ".join(_component(chain) for chain in value["chains"])
    return "`" + value["_target_"].rpartition(".")[2] + "`"


# --- cli.md -----------------------------------------------------------------------------------


def cli_page() -> str:
    """Commands and options of `unet-med`, from its table of them."""
    about = build_parser(COMMANDS).description
    parts = ["# Command line", GENERATED, f"`unet-med COMMAND ...`: {about}"]
    parts.append("`python -m unet_med` is the same command.")
    for command in COMMANDS:
        parts += [f"## unet-med {command.name}", sentence(command.help)]
        parts.append(f"```shell\n{command.example}\n```")
        parts.append("\n".join(_rows(command)))
        parts += [ABOUT[command.name]] if command.name in ABOUT else []
    parts.append(
        f"Exit code: {EXITS}, 130 stopped by ^C, 141 its reader has left (`| head`), 143 stopped "
        "by SIGTERM."
    )
    return "\n\n".join(parts) + "\n"


def _rows(command: Command) -> Iterator[str]:
    """A table of a command's options by headings, with the config ids that they set, if any."""
    ids = any(option.id for option in command.options)
    yield "| argument | default |" + (" config id |" if ids else "") + " meaning |"
    yield "|---|---|" + ("---|" if ids else "") + "---|"
    headings = [*dict.fromkeys([None, *(option.group for option in command.options)])]
    options = sorted(command.options, key=lambda option: headings.index(option.group))
    for heading, found in groupby(options, key=lambda option: option.group):
        if heading:
            yield f"| **{heading}** | |" + (" |" if ids else "") + " |"
        yield from (_row(option, ids) for option in found)


def _row(option: Option, ids: bool) -> str:
    choices = option.keywords.get("choices") or ()
    values = ", ".join(map(str, choices)) or option.keywords.get("metavar") or ""
    values = f" ({values})".replace("|", ", ") if values else ""
    name = option.name if option.name.startswith("-") else option.name.upper()
    meaning = help_of(option) % {**option.keywords, "prog": "unet-med"}
    sets = (f" `{option.id}` |" if option.id else " |") if ids else ""
    return f"| `{name}`{values} | {_given(option)} |{sets} {meaning} |"


def _given(option: Option) -> str:
    if option.keywords.get("required") or not option.name.startswith("-"):
        return "required"
    default = option.keywords.get("default")
    return "" if default is None else f"`{default}`"


# --- decisions.md -----------------------------------------------------------------------------


def decisions_page() -> str:
    """A line for each decision: its title."""
    files = sorted((DOCS / "explanation" / "decisions").glob("*.md"))
    titles = [(file, file.read_text(encoding="utf-8").splitlines()[0]) for file in files]
    lines = [f"* [{t.removeprefix('# ')}](../explanation/decisions/{f.name})" for f, t in titles]
    about = "Why things are as they are: what was chosen, what was tried, what it costs."
    return "\n\n".join(["# Decisions", GENERATED, about, "\n".join(lines)]) + "\n"


def main() -> None:
    """Write the pages and name those that changed."""
    for name, text in pages().items():
        path = DOCS / "reference" / name
        changed = not path.is_file() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        print(f"{'written' if changed else 'current'}  docs/reference/{name}")


if __name__ == "__main__":
    main()
