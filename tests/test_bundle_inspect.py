"""What a bundle's configs would run is listed, and none of it runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from unet_med import bundle
from unet_med.bundle import ConfigUse, targets_of
from unet_med.cli import main

ROOT = Path(__file__).resolve().parents[1]


def test_every_kind_of_use_is_found_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_text(
        json.dumps(
            {
                "plain": "text with a $ inside, 5 % and an @id",
                "number": 3,
                "net": {"_target_": "os.system", "command": "$1 + 1", "deep": [["%other.json::x"]]},
                "net::_target_": "subprocess.getoutput",
                "train#handlers#0#_target_": "builtins.eval",
                "called": {"_target_": "$@net.run", "_disabled_": "$True"},
            }
        )
    )
    name = path.as_posix()
    assert targets_of([path]) == [
        ConfigUse(name, "net::_target_", "target", "os.system"),
        ConfigUse(name, "net::command", "expression", "$1 + 1"),
        ConfigUse(name, "net::deep::0::0", "macro", "%other.json::x"),
        ConfigUse(name, "net::_target_", "target", "subprocess.getoutput"),
        ConfigUse(name, "train#handlers#0#_target_", "target", "builtins.eval"),
        ConfigUse(name, "called::_target_", "expression", "$@net.run"),
        ConfigUse(name, "called::_disabled_", "expression", "$True"),
    ]


def test_a_key_that_stands_twice_hides_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"x": {"_target_": "os.system", "_target_": "torch.nn.Identity"}}')
    assert [use.text for use in targets_of([path])] == ["os.system", "torch.nn.Identity"]


def test_nothing_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    proof = tmp_path / "ran"
    (tmp_path / "configs").mkdir()
    config = {"a": f"$open({str(proof)!r}, 'w')", "b": {"_target_": "os.mkdir", "path": str(proof)}}
    (tmp_path / "configs" / "train.json").write_text(json.dumps(config))
    assert main(["inspect", str(tmp_path)]) == 0
    assert not proof.exists()
    said = capsys.readouterr().out
    assert "1 x os.mkdir" in said
    assert "evaluated as Python ($): 1" in said


def test_yaml_is_read_too(tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    path = tmp_path / "a.yaml"
    path.write_text("net:\n  _target_: torch.nn.Identity\n")
    assert targets_of([path]) == [
        ConfigUse(path.as_posix(), "net::_target_", "target", "torch.nn.Identity")
    ]


def test_json_lists_all_of_our_configs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(ROOT), "--json"]) == 0
    uses = json.loads(capsys.readouterr().out)
    files = {Path(use["file"]).name for use in uses}
    assert {"train.json", "inference.json", "evaluate.json", "modern.json"} <= files
    assert {use["kind"] for use in uses} == {"target", "expression"}
    text = (ROOT / "configs" / "train.json").read_text(encoding="utf-8")
    of_train = [use for use in uses if use["file"].endswith("/train.json")]
    assert sum(use["kind"] == "target" for use in of_train) == text.count('"_target_"')
    assert sum(use["kind"] == "expression" for use in of_train) == text.count('"$')


def test_a_folder_without_configs_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(tmp_path)]) == 2
    assert "holds no config: give the folder that `configs` is in" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_monai() -> None:
    code = (
        "import sys; from unet_med.bundle import config_files, targets_of;"
        f"assert targets_of(config_files({str(ROOT)!r}));"
        "assert not {'torch', 'monai', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_file_list_is_sorted_and_complete() -> None:
    names = [path.name for path in bundle.config_files(ROOT)]
    assert names == sorted(names)
    assert {path.name for path in (ROOT / "configs").glob("*.json")} == set(names)
