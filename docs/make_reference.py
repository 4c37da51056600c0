"""Write the pages of docs/reference from docstrings, configs and the command's options.

    python -m docs.make_reference

Only the standard library reads the code: `inspect` for signatures and docstrings,
`json` for the configs, `argparse` for the options. The output is the same on every
Python version, and a test compares it with the files.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import unet_med
from unet_med import cli

DOCS = Path(__file__).resolve().parent
CONFIGS = DOCS.parent / "configs"
MEANINGS = DOCS / "config_ids.json"
COMMAND = "python -m docs.make_reference"
WIDTH = 100  # characters of a signature's line
GENERATED = f"<!-- Made by `{COMMAND}`; edit the source, not this page. -->"


def pages() -> dict[str, str]:
    """Every generated page: its file name in docs/reference, and its text."""
    return {"api.md": api_page(), "configs.md": configs_page(), "cli.md": cli_page()}


# --- api.md -----------------------------------------------------------------------------------


def api_page() -> str:
    """All public names, grouped by module."""
    parts = ["# API", GENERATED, "Signatures and docstrings of every public name."]
    parts.append("\n".join(f"- [`{m.__name__}`](#{_anchor(m)})" for m in modules()))
    for module in modules():
        parts += [f"## {module.__name__}", _text(module)]
        for name, value, aliases in public_names(module):
            parts += list(_entry(name, value, aliases))
    return "\n\n".join(parts) + "\n"


def modules() -> list[ModuleType]:
    """The public modules of the package."""
    names = [name for name in dir(unet_med) if not name.startswith("_")]
    return [importlib.import_module(f"unet_med.{name}") for name in names]


def public_names(module: ModuleType) -> Iterator[tuple[str, Any, list[str]]]:
    """Name, value and further names of what a module offers, in the order of the names.

    MONAI's dictionary transforms have three names; `Food` is the one to show.
    """
    own = [n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__]
    listed = getattr(module, "__all__", [name for name in own if not name.startswith("_")])
    names_of: dict[int, list[str]] = {}
    for name in sorted(listed):
        names_of.setdefault(id(getattr(module, name)), []).append(name)
    for name in sorted(listed):
        value = getattr(module, name)
        names = names_of[id(value)]
        shown = getattr(value, "__name__", names[0])
        if name == (shown if shown in names else names[0]):
            yield name, value, [other for other in names if other != name]


def _entry(name: str, value: Any, aliases: list[str]) -> Iterator[str]:
    """A heading, the signature, the docstring, and the public methods of a class."""
    yield f"### {name}"
    if aliases:
        yield "Also " + ", ".join(f"`{alias}`" for alias in aliases) + "."
    if not callable(value):
        yield "A constant of type `" + type(value).__name__ + "`."
        return
    yield signature(name, value)
    yield _text(value)
    for method, function in _methods(value):
        yield f"#### {name}.{method}"
        yield _code(method, function)
        yield _text(function)


def _methods(value: Any) -> Iterator[tuple[str, Any]]:
    if not inspect.isclass(value):
        return
    for name, member in vars(value).items():
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        public = name == "__call__" or not name.startswith("_")
        if public and inspect.isfunction(function) and function.__doc__:
            yield name, function


def signature(name: str, value: Any) -> str:
    """The signature of a function or class in a fence."""
    return _code(f"class {name}" if inspect.isclass(value) else name, value)


class _Plain(str):
    """An annotation that prints without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _code(name: str, value: Any) -> str:
    """The signature in a fence, one parameter a line where it is long."""
    try:
        signature = inspect.signature(value)
    except ValueError:  # a class without a constructor of its own
        return f"```text\n{name}\n```"
    parameters = [
        p.replace(annotation=_plain(p.annotation))
        for p in signature.parameters.values()
        if p.name != "self"
    ]
    returned = inspect.Signature.empty if inspect.isclass(value) else signature.return_annotation
    signature = inspect.Signature(parameters, return_annotation=_plain(returned))
    text = f"{name}{signature}"
    if len(text) > WIDTH:
        text = f"{name}(\n" + "".join(_lines(parameters)) + ")" + str(signature).rpartition(")")[2]
    return f"```text\n{text}\n```"


def _lines(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters)
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            starred = True
            yield "    *,\n"
        yield f"    {parameter},\n"


def _plain(annotation: Any) -> Any:
    return _Plain(annotation) if isinstance(annotation, str) else annotation


def _text(value: Any) -> str:
    return "```text\n" + (inspect.getdoc(value) or "").strip() + "\n```"


def _anchor(module: ModuleType) -> str:
    return module.__name__.replace(".", "")


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
    if isinstance(value, str) and value.startswith("@"):
        return f"`{value}`"
    if not isinstance(value, dict) or "_target_" not in value:
        return ""
    if "chains" in value:
        return ", ".join(_component(chain) for chain in value["chains"])
    return "`" + value["_target_"].rpartition(".")[2] + "`"


# --- cli.md -----------------------------------------------------------------------------------


def cli_page() -> str:
    """Commands and options of `unet-med`."""
    parser = cli._parser()
    commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts = ["# Command line", GENERATED, f"`unet-med COMMAND ...`: {parser.description}"]
    parts.append("`python -m unet_med` is the same command.")
    for choice in commands._choices_actions:
        parts += [f"## unet-med {choice.dest}", f"{_sentence(choice.help)}"]
        parts.append("\n".join(_options(commands.choices[choice.dest])))
    parts.append(
        "Exit code: 0 done, 2 wrong input (one sentence says what and the fix), 3 done but for "
        "images that were set aside, 130 ^C."
    )
    return "\n\n".join(parts) + "\n"


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield "| argument | default | meaning |"
    yield "|---|---|---|"
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        name = action.option_strings[-1] if action.option_strings else action.dest.upper()
        choices = ", ".join(map(str, action.choices)) if action.choices else action.metavar or ""
        values = f" ({choices})".replace("|", ", ") if choices else ""
        meaning = (action.help or "") % {**vars(action), "prog": parser.prog}
        yield f"| `{name}`{values} | {_given(action)} | {meaning} |"


def _given(action: argparse.Action) -> str:
    if action.required or not action.option_strings:
        return "required"
    return "" if action.default is None or action.default is False else f"`{action.default}`"


def _sentence(text: str | None) -> str:
    return f"{(text or '')[:1].upper()}{(text or '')[1:]}."


def main() -> None:
    """Write the pages and name those that changed."""
    for name, text in pages().items():
        path = DOCS / "reference" / name
        changed = not path.is_file() or path.read_text(encoding="utf-8") != text
        path.write_text(text, encoding="utf-8")
        print(f"{'written' if changed else 'current'}  docs/reference/{name}")


if __name__ == "__main__":
    main()
