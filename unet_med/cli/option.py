"""What an option of `unet-med` is, and how a parser is made of a table of them."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from unet_med import __version__
from unet_med.bundle import override_names

EXITS = "0 done, 2 wrong input (one sentence says what and the fix), 3 done but for some images"
BEGIN = (
    "Begin with: doctor, train, predict, evaluate, measure. `unet-med COMMAND --help` lists the "
    "options of a command; a default stands in brackets at the end of a line."
)


@dataclass(frozen=True)
class Option:
    """One option or argument of a command.

    Attributes:
        name: `--features`, or `bundle` for an argument without dashes.
        help: what it is for; a default stands in brackets at its end.
        id: the id of the configs that it sets.
        resumed: when a training is resumed: `"new"` acts anew; `"same"` must be what the
            training was begun with; `"data"` must be the same files, wherever they lie.
        blocks: of `predict`: True, it acts block by block alone; False, on whole images alone.
        needs: it acts only where this other option has this value.
        exclusive: options of one such name exclude each other.
        group: heading under which `--help` lists it.
        keywords: what else `argparse` takes: type, nargs, choices, metavar, action, ...
    """

    name: str
    help: str
    id: str | None = None
    resumed: Literal["new", "same", "data"] | None = None
    blocks: bool | None = None
    needs: tuple[str, str] | None = None
    exclusive: str | None = None
    group: str | None = None
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @property
    def dest(self) -> str:
        """Its name among the parsed arguments."""
        return self.name.lstrip("-").replace("-", "_")

    def given(self, args: argparse.Namespace) -> Any:
        """Its value; None where it was not given, also for `auto`, which leaves it open."""
        value = getattr(args, self.dest, None)
        return None if value is False or value == "auto" else value


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: `train`.
        help: what it does, a phrase.
        options: in the order of its help.
        example: a line that runs it.
    """

    name: str
    help: str
    options: tuple[Option, ...]
    example: str


class OneOrMore(argparse.Action):
    """Of `nargs="+"`: one value by itself, several as a list."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None
    ) -> None:
        """Keep what was given."""
        setattr(namespace, self.dest, values[0] if len(values) == 1 else values)


class Parser(argparse.ArgumentParser):
    """Says in a sentence what is wrong with the words, and how to go on, without pages of usage."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse unknown words here: the parser above knows no option of a command."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            near = (self._near(word) for word in unknown)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{''.join(near)}")
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """End with it and exit code 2."""
        self.exit(2, f"{self.prog}: error: {message}\nsee {self.prog} --help\n")

    def _near(self, word: str) -> str:
        """`; --minutes?` of `--minuts`."""
        word = word.partition("=")[0]
        return "".join(f"; {name}?" for name in difflib.get_close_matches(word, self._names(), 1))

    def _names(self) -> list[str]:
        return [name for action in self._actions for name in action.option_strings]


def option(name: str, help: str, **facts: Any) -> Option:
    """An option; facts that are no fields of `Option` are `argparse`'s."""
    own = {key: facts.pop(key) for key in [*facts] if key in Option.__dataclass_fields__}
    return Option(name, help, **own, keywords=facts)


def build_parser(table: Sequence[Command]) -> argparse.ArgumentParser:
    """The parser of a table of commands."""
    parser = Parser(
        prog="unet-med",
        description="The 2015 U-Net for microscopy and medical images, as a MONAI bundle.",
        epilog=BEGIN,
    )
    parser.add_argument("--version", action="version", version=f"unet-med {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in table:
        own = commands.add_parser(
            command.name,
            help=command.help,
            description=sentence(command.help),
            epilog=f"example:\n  {command.example}\n\nexit code: {EXITS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _fill(own, command)
    return parser


def sentence(phrase: str) -> str:
    """`What it does.` of `what it does`."""
    return f"{phrase[:1].upper()}{phrase[1:]}."


def help_of(option: Option) -> str:
    """Its help, with the names of the bundle's override files where it lists them."""
    if "{overrides}" not in option.help:
        return option.help
    return option.help.replace("{overrides}", ", ".join(override_names()))


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    """Add the options of a command to its parser, in their order and groups."""
    groups: dict[str, Any] = {}
    for option in command.options:
        place: Any = parser
        if option.group:
            if option.group not in groups:
                groups[option.group] = parser.add_argument_group(option.group)
            place = groups[option.group]
        if option.exclusive:
            if option.exclusive not in groups:
                groups[option.exclusive] = place.add_mutually_exclusive_group()
            place = groups[option.exclusive]
        place.add_argument(option.name, help=help_of(option), **option.keywords)
