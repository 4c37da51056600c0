"""Whatever bytes come: an image or a tree of names, or one sentence. What fuzzing found, and more.

`make fuzz` searches on, guided by coverage; see `fuzz.py`.
"""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fuzz import read_config, read_tiff
from hostile import ifd, tags, tiff
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_med.bundle import targets_of
from unet_med.data.protection.limits import check_xml
from unet_med.data.protection.tiff_directories import check_ifds

CORPUS = Path(__file__).parent / "fuzz_corpus"
FOUND = sorted(CORPUS.iterdir()) if CORPUS.is_dir() else []


@pytest.mark.parametrize("path", FOUND, ids=lambda path: path.name)
def test_what_fuzzing_found(path: Path) -> None:
    (read_config if path.suffix == ".json" else read_tiff)(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@cache
def sound_files() -> list[bytes]:
    """Small TIFFs of several dialects, to be damaged."""
    stack = np.arange(4 * 9 * 8, dtype=np.uint16).reshape(4, 9, 8)
    files = []
    for options in (
        {"imagej": True, "metadata": {"axes": "ZYX", "unit": "um"}},
        {"bigtiff": True, "byteorder": ">", "photometric": "minisblack"},
        {"tile": (16, 16), "compression": "zlib", "photometric": "minisblack"},
        {"ome": True, "metadata": {"axes": "ZYX"}, "photometric": "minisblack"},
    ):
        file = io.BytesIO()
        tifffile.imwrite(file, stack, **options)
        files.append(file.getvalue())
    return files


@settings(max_examples=100)
@given(st.data())
def test_damaged_tiffs_are_read_or_refused_in_a_sentence(place: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(sound_files())))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + 4] = data.draw(st.binary(min_size=1, max_size=8))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    (place / "a.tif").write_bytes(content)
    read_tiff(place / "a.tif")


numbers = st.one_of(st.integers(0, 20), st.sampled_from([255, 65535, 1 << 20, (1 << 32) - 1]))


@settings(max_examples=100)
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*("width", "length", "bits", "compression", "photometric", "rows"),
                             *("offsets", "counts", "samples", "tile_width", "sub")]),
            st.one_of(numbers, st.none()), max_size=4,
        ), min_size=1, max_size=3,
    ),
    st.one_of(st.none(), st.just(0)),
    st.sampled_from([b"", b"ImageJ=1.53\nimages=7\n", b'{"shape": [9, 16, 16]}', b"<OME></OME>"]),
)  # fmt: skip
def test_odd_directories_are_read_or_refused_in_a_sentence(
    place: Path, pages: list[dict[str, int | None]], loop: int | None, description: bytes
) -> None:
    entries = [tags(**page, description=description + b"\0") for page in pages]
    (place / "b.tif").write_bytes(tiff(entries, loop_to=loop))
    read_tiff(place / "b.tif")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=6),
              st.sampled_from(["$open('x')", "@a::b", "%x.json::y", "os.system"])),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["_target_", "reader", "a", "a::b"]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=100)
@given(json_values)
def test_every_name_of_a_config_is_listed(place: Path, content: object) -> None:
    (place / "c.json").write_text(json.dumps(content), encoding="utf-8")
    listed = [use.text for use in targets_of([place / "c.json"])]
    text = json.dumps(content)
    for name in ("$open('x')", "%x.json::y"):
        assert listed.count(name) == text.count(json.dumps(name))


@settings(max_examples=100)
@given(st.binary(max_size=60))
def test_configs_of_any_bytes(place: Path, content: bytes) -> None:
    (place / "d.json").write_bytes(content)
    read_config(place / "d.json")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("deep.json", "[" * 100_000, "cannot be read as a config"),
        ("levels.json", "[" * 150 + "]" * 150, "100 levels"),
        ("many.json", "[" + "0," * 1_000_000 + "0]", "1000000 entries"),
        ("long.json", '"' + "x" * (17 << 20) + '"', "a config at most"),
        ("endless.yaml", "a: &a [*a]", "100 levels"),
        ("laughs.yaml", "a0: &a0 [x, x]\n"
         + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40)), "entries"),
        ("tagged.yaml", "!!python/object/apply:os.system [x]", "cannot be read as a config"),
    ],
)  # fmt: skip
def test_configs_that_never_end(tmp_path: Path, name: str, content: str, match: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=match) as caught:
        targets_of([tmp_path / name])
    assert name in str(caught.value)
    assert len(str(caught.value)) < 700


# --- the walk through directories, against tifffile's own


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}, {"subifds": 2}])
def test_the_walk_counts_what_tifffile_counts(tmp_path: Path, options: dict[str, object]) -> None:
    path = tmp_path / "a.tif"
    options = dict(options)
    inner = int(str(options.pop("subifds", 0)))
    with tifffile.TiffWriter(path, **options) as file:  # type: ignore[arg-type]
        for side in (40, 30, 20):
            file.write(np.zeros((side, 2 * side), np.uint8), subifds=inner, metadata=None)
            for _ in range(inner):
                file.write(np.zeros((5, 6), np.uint8), subfiletype=1, metadata=None)
    chain = check_ifds(path)
    with tifffile.TiffFile(path) as file:
        assert chain.length == len(file.pages) * (1 + inner) == 3 * (1 + inner)
    assert chain.smallest == (30 if inner else 800)


@pytest.mark.parametrize("length", [1, 2, 99, 101, 300])
def test_loops_of_any_length(tmp_path: Path, length: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff([tags()[:2]] * length, loop_to=0))
    with pytest.raises(ValueError, match="its chain of images is a loop: back to byte 264"):
        check_ifds(tmp_path / "a.tif")
    (tmp_path / "b.tif").write_bytes(tiff([tags()[:2]] * length))
    assert check_ifds(tmp_path / "b.tif").length == length


def test_an_ifd_has_the_layout_that_tifffile_reads() -> None:
    entries = tags(description=b"12345678\0")
    content = ifd(264, entries)
    assert len(content) == 2 + 12 * len(entries) + 4 + 9


# --- XML


def test_xml_is_counted_as_it_comes() -> None:
    seen = []
    check_xml('<a:b x="1"><c/></a:b>', lambda name, attributes: seen.append((name, attributes)))
    assert seen == [("b", {"x": "1"}), ("c", {})]
    check_xml("<broken")  # its reader says so
    check_xml("no XML at all")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<a>" + " " * (33 << 20) + "</a>", "characters, the limit is"),
        ("<a>" + "<b/>" * 500_001 + "</a>", "more than 500000 elements"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "declares entities"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>', "declares entities"),
    ],
)
def test_xml_that_grows(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        check_xml(text)
