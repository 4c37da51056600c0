"""What the documentation says is run, followed and compared."""

from __future__ import annotations

import doctest
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

import unet_med
from unet_med import bundle

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "models" / "README.md"])
FENCE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
WITH_EXAMPLES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "unet_med").rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """docs/make_reference.py, which is no package."""
    spec = importlib.util.spec_from_file_location(
        "make_reference", ROOT / "docs" / "make_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=str)
def test_doctests(path: Path) -> None:
    """Each example of the source is one that `doctest` finds, and holds."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    failed, run = doctest.testmod(importlib.import_module(name))
    written = (ROOT / path).read_text(encoding="utf-8").count(">>> ")
    assert (failed, run) == (0, written)


def test_there_are_doctests_to_run() -> None:
    assert len(WITH_EXAMPLES) > 20


@pytest.mark.parametrize(
    "page", [p for p in PAGES if FENCE.search(p.read_text(encoding="utf-8"))], ids=name_of
)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"__name__": page.stem}
    for block in FENCE.finditer(text):
        lines_before = text[: block.start(1)].count("\n")
        exec(compile("\n" * lines_before + block[1], str(page), "exec"), namespace)


def test_the_how_to_pages_have_blocks_to_run() -> None:
    assert sum(len(FENCE.findall(page.read_text(encoding="utf-8"))) for page in PAGES) >= 5


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(ANY_FENCE.sub("", page.read_text(encoding="utf-8")))
    local = [link for link in links if not re.match(r"[a-z]+:|#", link)]
    missing = [link for link in local if not (page.parent / link.split("#")[0]).exists()]
    assert missing == []
    lost = [link for link in local if ".md#" in link and not has_anchor(page.parent, link)]
    assert lost == []


def has_anchor(folder: Path, link: str) -> bool:
    """Whether `PAGE.md#ANCHOR` names a heading or an `<a id="ANCHOR">` of that page."""
    name, anchor = link.split("#")
    text = (folder / name).read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return anchor in slugs or f'<a id="{anchor}">' in text


def test_model_card_links_only_to_what_travels_with_a_bundle() -> None:
    card = ROOT / "docs" / "README.md"
    for link in LINK.findall(ANY_FENCE.sub("", card.read_text(encoding="utf-8"))):
        target = (card.parent / link).resolve().relative_to(ROOT)
        assert any(target.is_relative_to(part) for part in bundle.files.PARTS), link


@pytest.fixture(scope="module")
def generated(generator: ModuleType) -> dict[str, str]:
    return generator.pages()


@pytest.mark.parametrize("name", ["api.md", "configs.md", "cli.md", "decisions.md"])
def test_generated_reference_is_current(
    generator: ModuleType, generated: dict[str, str], name: str
) -> None:
    page = ROOT / "docs" / "reference" / name
    current = page.is_file() and page.read_text(encoding="utf-8") == generated[name]
    assert current, f"docs/reference/{name} is not current; renew it with: {generator.COMMAND}"


def test_config_ids_without_a_meaning_are_refused(
    generator: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train.json").write_text('{"unheard_of": 1}')
    monkeypatch.setattr(generator, "CONFIGS", tmp_path)
    with pytest.raises(ValueError, match=r"'unheard_of' has no meaning yet: add a sentence to"):
        generator.configs_page()


def test_every_public_name_is_documented(
    generator: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = generator.api_page()
    found = [name for m in generator.modules() for name, _, _ in generator.public_names(m)]
    assert len(found) > 100
    assert [name for name in found if f'<a id="{name}"></a>`{name}`' not in page] == []
    assert "`IGNORED`: 255, among classes: nobody annotated this pixel" in page
    assert re.findall(r": An? \w+\.$", page, re.MULTILINE) == []
    memory = importlib.import_module("unet_med.memory")
    with pytest.raises(ValueError, match="BYTES_A_PIXEL is public: say in a line below it what"):
        generator.entry(memory, "BYTES_A_PIXEL", 48, [])
    monkeypatch.setattr(unet_med.geometry.margin, "__doc__", None)
    with pytest.raises(ValueError, match="margin is public and has no docstring: say in a line"):
        generator.api_page()


def test_every_override_file_is_listed() -> None:
    page = (ROOT / "docs" / "how-to" / "change-the-recipe.md").read_text(encoding="utf-8")
    table = page.split("| name | what it changes |")[1].split("\n\n")[0]
    assert [name for name in bundle.override_names() if f"`{name}`" not in table] == []


def test_the_layers_are_those_of_import_linter() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = project["tool"]["importlinter"]["contracts"][0]
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## Layers")[1].split("\n## ")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ")][1:]
    layers = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    assert layers == [set(re.findall(r"\w+", layer)) for layer in contract["layers"]][1:]


def test_the_readme_links_each_how_to_page_once() -> None:
    table = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## More\n")[1]
    linked = re.findall(r"\]\(docs/(how-to/[^)]+)\)", table)  # the order of the site
    assert sorted(linked) == [f"how-to/{p.name}" for p in sorted((ROOT / "docs/how-to").glob("*"))]


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 100
