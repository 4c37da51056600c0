"""Dockerfile and apptainer.def install what the Makefile and constraints.txt do.

`make containers` runs the same lines for real.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[1]
STUB = 'python() { printf "%s\\0" "$@"; printf "\\n"; }\n'


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def docker_lines() -> list[str]:
    return re.findall(r"^RUN (.*)$", text_of("Dockerfile"), re.MULTILINE)


def apptainer_lines() -> list[str]:
    post = text_of("apptainer.def").split("\n%post\n")[1].split("\n%")[0]
    return [line.strip() for line in post.splitlines() if line.strip().startswith("python")]


def installs(lines: list[str], index: str = "") -> list[list[str]]:
    """What bash gives to `python`, line by line, without the options that choose no packages."""
    script = STUB + f"TORCH_INDEX='{index}'\n" + "\n".join(lines)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    calls = [line.split("\0")[:-1] for line in done.stdout.splitlines()]
    assert all(call[:3] == ["-m", "pip", "install"] for call in calls)
    plain = ("--no-cache-dir", "--quiet", "--editable")
    return [[word for word in call[3:] if word not in plain] for call in calls]


def make_lines() -> list[str]:
    rule = text_of("Makefile").split("\n$(VENV)/installed:")[1].split("\n\n")[0]
    return [line.strip().replace("$(BIN)/", "") for line in rule.splitlines() if "pip" in line]


def test_they_install_what_make_does() -> None:
    docker, by_make = installs(docker_lines()), installs(make_lines())
    assert docker == installs(apptainer_lines())
    assert len(docker) == 3
    assert docker[:2] == by_make[:2]  # pip, torch
    *options, package = docker[2]
    assert options == by_make[2][:-1] == ["--constraint", "constraints.txt"]
    extras = [set(re.fullmatch(r"\.\[(.*)\]", p)[1].split(",")) for p in (package, by_make[2][-1])]
    assert extras[0] >= extras[1]
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert extras[0] <= set(project["optional-dependencies"])


def test_one_argument_chooses_the_build_of_torch() -> None:
    for lines in (docker_lines(), apptainer_lines()):
        plain, chosen = installs(lines), installs(lines, "https://example.org/cu")
        assert [len(b) - len(a) for a, b in zip(plain, chosen, strict=True)] == [0, 2, 0]
        assert chosen[1][2:] == ["--index-url", "https://example.org/cu", *plain[1][2:]]
    assert re.search(r"^ARG TORCH_INDEX=$", text_of("Dockerfile"), re.MULTILINE)
    assert "%arguments\n    TORCH_INDEX=\n" in text_of("apptainer.def")


def test_versions_are_those_that_were_tested() -> None:
    constraints = text_of("constraints.txt")
    torch = re.search(r"^torch==\S+$", constraints, re.MULTILINE)[0]
    python = re.search(r"tested with \(Python ([\d.]+)\)", constraints)[1]
    assert installs(docker_lines())[1][-1] == torch
    assert (
        re.search(r"^FROM (.*)$", text_of("Dockerfile"), re.MULTILINE)[1]
        == (re.search(r"^From: (.*)$", text_of("apptainer.def"), re.MULTILINE)[1])
    )
    assert f"FROM python:{python}-slim" in text_of("Dockerfile")


def test_apptainer_copies_what_a_wheel_is_made_of_and_no_more() -> None:
    """As the folder may hold an environment, trainings and all history."""
    section = text_of("apptainer.def").split("\n%files\n")[1].split("\n\n")[0]
    pairs = [line.split() for line in section.splitlines()]
    assert all(place == f"/opt/unet-med/{source}" for source, place in pairs)
    copied = {source for source, _ in pairs}
    assert all((ROOT / source).exists() for source in copied)
    project = tomllib.loads(text_of("pyproject.toml"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], project["project"]["readme"]}
    needed |= {*project["project"]["license-files"], "pyproject.toml", "constraints.txt"}
    assert {each.partition("/")[0] if each.startswith("workflows") else each
            for each in needed} == copied  # fmt: skip


def test_what_is_built_is_in_the_context() -> None:
    ignored = text_of(".dockerignore").splitlines()
    for part in ("unet_med", "configs", "workflows", "docs", "LICENSE", "constraints.txt"):
        assert part not in ignored
        assert (ROOT / part).exists()


UNKNOWN = """
import getpass, os, pwd

def unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")

pwd.getpwuid = unknown
import unet_med
assert getpass.getuser() == f"uid_{os.getuid()}"
import monai.config
"""


@pytest.mark.skipif(sys.platform == "win32", reason="users have names there")
def test_a_user_without_a_name_can_import_monai() -> None:
    """As `docker run --user` makes of everybody; MONAI asks for the name when it is imported."""
    names = ("LOGNAME", "USER", "LNAME", "USERNAME")
    env = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run([sys.executable, "-c", UNKNOWN], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_monai_alone_knows_the_user_in_a_container() -> None:
    """`--entrypoint python ... -m monai.bundle run` imports nothing of ours before it."""
    assert re.search(r"^ENV .*\bUSER=\w+", text_of("Dockerfile"), re.MULTILINE)
