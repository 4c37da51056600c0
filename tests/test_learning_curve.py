"""`unet-med train --learning-curve`: what more images would buy."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from folded import line, six_cells, timed_plan
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import least_squares

from unet_med import bundle
from unet_med.bundle.files import FOLDS, SUBSETS
from unet_med.cli import main
from unet_med.data import cross_validation
from unet_med.data.splits import nested_subsets
from unet_med.folds.more_images import Level, curve_of
from unet_med.folds.progress import Progress
from unet_med.folds.scores import Case, table_of
from unet_med.folds.sharing import share_out
from unet_med.metrics.power_law import (
    Gain,
    PowerLaw,
    carried_on,
    expected_gain,
    fit_laws,
    network_scatter,
)
from unet_med.metrics.score import Score
from unet_med.planning import Plan, fingerprint, make_plan
from unet_med.report.more_images import (
    FILE,
    PICTURE,
    LearningCurve,
    Size,
    notes,
    read_curve,
    rows,
    verdict,
    write_curve,
)
from unet_med.report.score_by_images import score_by_images_figure
from unet_med.report.table import POOLED, read_scores
from unet_med.scoring.judging import Judge
from unet_med.scoring.scores import Column
from unet_med.scoring.tables import Classes

# --- the law


@given(
    scale=st.floats(0.01, 1),
    power=st.integers(-10, 20),
    counts=st.sets(st.integers(1, 50), min_size=2, max_size=5),
)
def test_a_known_law_is_found(scale: float, power: int, counts: set[int]) -> None:
    images = sorted(counts)
    law = PowerLaw.fit(images, [scale * n ** -(power / 10) for n in images])
    assert law.scale == pytest.approx(scale)
    assert law.power == pytest.approx(power / 10)


@given(errors=st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_the_law_is_the_one_of_least_squares(errors: list[float]) -> None:
    """Against SciPy, from several starts; whatever the errors, 0 and 1 too, no gain explodes."""
    images = np.array([2.0, 4.0, 8.0])

    def left(law: Any) -> Any:
        return law[0] * images ** -law[1] - errors

    law = PowerLaw.fit(images.tolist(), errors)
    for power in (-0.5, 0.0, 0.5, 1.5):
        found = least_squares(left, [0.5, power], bounds=([0, -1], [np.inf, 2]))
        assert (left(law) ** 2).sum() <= 2 * found.cost + 1e-5
    gain = expected_gain(images.tolist(), errors, [errors, errors], 12, 5)
    assert -1 <= gain.gain <= 1
    assert gain.low == pytest.approx(gain.gain) == gain.high


def test_more_images_by_hand() -> None:
    """Errors 0.4, 0.2 and 0.1 of 1, 4 and 16 images: 0.4 n^-1/2, which is 0.08 with 25."""
    errors = [0.4, 0.2, 0.1]
    flat = [0.2, 0.2, 0.2]
    gain = expected_gain([1, 4, 16], errors, [errors, flat, [0.1, np.nan, 0.1]], 16, 9)
    assert gain.gain == pytest.approx(0.02)
    assert (gain.low, gain.high) == pytest.approx((0.02 * 0.025, 0.02 * 0.975))  # of 0 and 0.02
    assert carried_on([1, 4, 16], [errors], [25, 100]) == pytest.approx(np.array([[0.08, 0.04]]))
    assert gain.is_told
    assert not Gain(5, 0.1, -0.1, 0.2).is_told
    assert expected_gain([1, 4], [0.4, 0.2], [], 4, 5).low is None
    with pytest.raises(ValueError, match="a curve takes two numbers of images or more"):
        fit_laws([3, 3], [[0.1, 0.2]])


def test_nothing_is_left_of_an_error_of_zero() -> None:
    assert PowerLaw.fit([2, 4], [0.0, 0.0])(6) == 0.0
    assert PowerLaw.fit([2, 4], [1.0, 0.0])(8) < 0.25  # a score of 0 with two images, 1 with four
    assert PowerLaw.fit([2, 4], [0.5, 1.0])(40) == 1.0  # no error is larger
    assert carried_on([1, 4], [[0.4, 0.8]], [64]).tolist() == [[1.0]]


def test_how_unlike_networks_are_is_what_folds_and_sizes_do_not_explain() -> None:
    rng = np.random.default_rng(0)
    sizes, hard = np.array([[0.5], [0.3], [0.2]]), rng.normal(0, 0.1, 500)
    assert network_scatter(sizes + hard) == pytest.approx(0, abs=1e-9)
    noise = rng.normal(0, 0.02, (3, 500))
    expected = 0.02 / np.sqrt(500)
    assert network_scatter(sizes + hard + noise) == pytest.approx(expected, rel=0.1)
    assert network_scatter([[0.1, np.nan], [0.2, 0.3]]) == 0.0


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Twelve images in three folds; error 0.7 n^-0.3; images and networks scatter, 24 worlds."""
    judge = Judge("", {"Dice": Column(lambda rows: float(rows.mean()))}, lambda *_: [])
    true, held = 0.7 * 12**-0.3 - 0.7 * 17**-0.3, 0
    for world in range(24):
        rng = np.random.default_rng(world)
        hard, levels = rng.normal(0, 0.1, 12), []
        for images in (2, 4, 8):
            networks = rng.normal(0, 0.05, 3)[np.arange(12) % 3]
            error = 0.7 * images**-0.3 + hard + networks + rng.normal(0, 0.04, 12)
            scores = 1 - np.clip(error, 0, 1)
            levels.append(level(images, {f"{k}": (scores[k], k % 3) for k in range(12)}))
        curve = curve_of(levels, judge, "Dice", total=12, unit="images", seen=0)
        assert curve is not None
        assert [gain.more for gain in curve.gains] == [5, 12]
        held += curve.gains[0].low <= true <= curve.gains[0].high
    assert held >= 21  # of 24: 95 % would be 23; without the networks' scatter it is 19


def level(images: int, scores: dict[str, tuple[float, int]]) -> Level:
    """Networks of three folds, and what was counted in each case: a score as it is."""
    networks = [{"fold": k, "images": images, "minutes": 0.5, "steps": 100} for k in range(3)]
    cases = {n: Case({0: {"Dice": np.array([[s]])}}, k, n) for n, (s, k) in scores.items()}
    return Level(networks, cases)


@pytest.mark.parametrize("patients", [False, True])
def test_few_images_give_a_curve_without_intervals(patients: bool, tmp_path: Path) -> None:
    """Five images, or nine of three patients: the ends would be those of the worst and the best."""
    judge = Judge("", {"Dice": Column(lambda rows: float(rows.mean()))}, lambda *_: [])
    levels = []
    for images in (1, 2, 4):
        scores = {f"{k}": (1 - 0.6 * images**-0.5 + 0.01 * k, k % 3)
                  for k in range(9 if patients else 5)}  # fmt: skip
        one = level(images, scores)
        cases = {n: c._replace(unit=c.fold if patients else n) for n, c in one.cases.items()}
        levels.append(replace(one, cases=cases))
    curve = curve_of(levels, judge, "Dice", total=5, unit="images", seen=0)
    assert curve is not None
    assert [(size.low, size.high) for size in curve.sizes] == [(None, None)] * 3
    assert [(gain.low, gain.high) for gain in curve.gains] == [(None, None)]
    assert curve.gains[0].gain > 0.05
    assert not curve.gains[0].is_told
    assert curve.band == []
    said = " ".join(verdict(curve))
    assert "(no interval). Whether more images help cannot be told, with too few images" in said
    assert "zero" not in said
    assert "that judge them are too few images for an interval: it takes 6" in notes(curve)[0]
    assert [row["interval"] for row in rows(curve)] == ["-"] * 3
    (tmp_path / "models/subsets").mkdir(parents=True)
    write_curve(curve, tmp_path)
    assert "NaN" not in (tmp_path / FILE).read_text()
    assert read_curve(tmp_path) == curve
    assert score_by_images_figure(curve, tmp_path / "curve.png").is_file()


def test_classes_are_summed_up_as_the_table_of_the_folds_does() -> None:
    pool = Score(lambda *_: np.zeros(1), lambda rows: rows[:, 0].sum() / rows[:, 1].sum()).pool
    nothing = {"Dice": np.array([[np.nan, np.nan]])}
    classes = Classes(lambda value: f"class {value}", nothing)
    judge = Judge("clinical", {"Dice": Column(pool)}, lambda *_: [], classes)
    rng, levels = np.random.default_rng(1), []
    for images in (1, 2):
        cases: dict[str, Any] = {}
        for k in range(6):
            hits = rng.integers(1, 10, 2)
            counted = {v: {"Dice": np.array([[hits[v - 1], 10]])} for v in (1, 2)}
            cases[f"{k}"] = Case({1: counted[1]} if k == 4 else counted, k % 3, k)
        levels.append(replace(level(images, {}), cases=cases))
    curve = curve_of(levels, judge, "Dice", total=4, unit="images", seen=0)
    assert curve is not None
    for size, one in zip(curve.sizes, levels, strict=True):
        table = table_of(one.cases, judge)
        [mean] = [row for row in table.of(table.statistic) if not row.label]
        assert size.score == pytest.approx(mean.scores["Dice"])
    assert curve_of(
        [replace(one, cases={"a": Case({1: nothing}, 0, 0)}) for one in levels],
        judge, "Dice", total=4, unit="images", seen=0,
    ) is None  # fmt: skip


def test_images_of_a_patient_are_drawn_together() -> None:
    """Six patients of four equal images each are worth six images: every number is the same."""
    judge = Judge("", {"Dice": Column(lambda rows: float(rows.mean()))}, lambda *_: [])
    rng, each, patients = np.random.default_rng(2), [], []
    for images in (2, 4, 8):
        scores = {f"{k}": (float(1 - 0.7 * images**-0.3 + rng.normal(0, 0.05)), k % 3)
                  for k in range(6)}  # fmt: skip
        one = level(images, scores)
        each.append(one)
        four = {f"{n} {k}": case for n, case in one.cases.items() for k in range(4)}
        patients.append(replace(one, cases=four))
    alone, drawn = (curve_of(lv, judge, "Dice", total=12, unit="images", seen=0)
                    for lv in (each, patients))  # fmt: skip
    assert alone is not None
    assert drawn is not None
    assert (drawn.judged, drawn.groups) == (24, 6)
    for mine, yours in zip(drawn.sizes, alone.sizes, strict=True):
        assert (mine.low, mine.high) == pytest.approx((yours.low, yours.high))
    for gain, other in zip(drawn.gains, alone.gains, strict=True):
        assert (gain.low, gain.high) == pytest.approx((other.low, other.high))
    assert "bootstrap over the 6 groups of 24 images that judge them" in notes(drawn)[0]


# --- in words and as a picture


def made_up(name: str = "SEG", **facts: Any) -> LearningCurve:
    law, sizes = PowerLaw(0.7, 0.3), []
    for n in (2, 4, 8):
        error = float(law(n))
        score = error if name == "pixel error" else 1 - error
        networks = [
            {"fold": k, "images": n, "score": score + d, "minutes": 0.5, "steps": 120}
            for k, d in enumerate((-0.04, 0.01, 0.03))
        ]
        sizes.append(Size(float(n), score, score - 0.08, score + 0.07, networks))
    at = np.linspace(2, 24, 40)
    low, high = (1 - law(at) - 0.08, 1 - law(at) + 0.07)
    band = list(zip(at.tolist(), low.tolist(), high.tolist(), strict=True))
    gains = [Gain(5, 0.033, 0.02, 0.05), Gain(12, 0.062, 0.03, 0.09)]
    return LearningCurve(**{
        "score": name, "unit": "images", "total": 12, "judged": 12, "sizes": sizes, "law": law,
        "gains": gains, "band": band, **facts,
    })  # fmt: skip


def test_the_verdict_in_words() -> None:
    assert verdict(made_up()) == [
        "12 images: SEG about 0.668.",  # 1 - 0.7 * 12 ** -0.3
        "Five more would add about +0.033 (95 %: +0.020 to +0.050).",
        "12 more would add about +0.062 (95 %: +0.030 to +0.090).",
    ]
    falls = verdict(made_up("pixel error"))
    assert falls[0] == "12 images: pixel error about 0.332."
    assert falls[1] == "Five more would change it by about -0.033 (95 %: -0.050 to -0.020)."
    unsure = verdict(made_up(gains=[Gain(5, 0.01, -0.02, 0.05)]))
    assert unsure[-1] == "Whether more images help cannot be told: the interval holds zero."
    worse = verdict(made_up(gains=[Gain(5, -0.03, -0.05, -0.01)], unit="planes"))
    assert worse[-1] == "More planes made it worse: look at them, and at their labels."
    best = made_up(sizes=[*made_up().sizes[:2], replace(made_up().sizes[2], score=0.995)])
    assert verdict(best)[-1] == "There is hardly anything left to gain."


def test_what_a_reader_must_know() -> None:
    first, short = notes(made_up())
    assert "learned from 2, 4 and 8 images, for 0.5 minutes (120 steps) each" in first
    assert "bootstrap over the 12 images that judge them" in first
    assert "steps are what is missing" in short
    assert "planes of one stack" in notes(made_up(unit="planes"))[0]
    assert "may have seen these images" in notes(made_up(seen=None))[-1]
    networks = [[{**n, "minutes": None} for n in size.networks] for size in made_up().sizes]
    sizes = [replace(s, networks=n) for s, n in zip(made_up().sizes, networks, strict=True)]
    assert "learned from 2, 4 and 8 images; from there on" in notes(made_up(sizes=sizes))[0]


def test_the_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(
        "unet_med.report.score_by_images.save", lambda figure, path: kept.append(figure)
    )
    score_by_images_figure(made_up(), tmp_path / "curve.png")
    [axes] = kept[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("images to learn from", "SEG")
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines["a fold"].get_xdata()) == [2, 2, 2, 4, 4, 4, 8, 8, 8]
    beyond = lines["carried on"]
    assert min(beyond.get_xdata()) >= 8
    assert beyond.get_ydata() == pytest.approx(1 - 0.7 * np.array(beyond.get_xdata()) ** -0.3)


# --- what is learned from


@given(
    sizes=st.lists(st.integers(1, 3), min_size=3, max_size=12),
    count=st.integers(2, 5),
    seed=st.integers(0, 9),
)
def test_subsets_are_nested_and_groups_stay_on_one_side(
    sizes: list[int], count: int, seed: int
) -> None:
    items = [{"image": f"{g}_{k}.png", "who": g} for g, n in enumerate(sizes) for k in range(n)]
    splits = cross_validation(items, min(count, len(sizes)), group="who")
    least = min(len({item["who"] for item in training}) for training, _ in splits)
    if least < 2:
        with pytest.raises(ValueError, match="would learn from a single image, or group of them"):
            nested_subsets(splits, group="who", seed=seed)
        return
    found = nested_subsets(splits, group="who", seed=seed)
    assert {part.share for part in found} == ({0.25, 0.5} if least > 2 else {0.5})
    for k, (training, held) in enumerate(splits):
        parts = [[i["image"] for i in part.items] for part in found if part.split == k]
        parts.append([item["image"] for item in training])
        for smaller, larger in pairwise(parts):
            assert set(smaller) < set(larger)
            assert smaller == [name for name in larger if name in smaller]
        for part in found:
            who = {item["who"] for item in part.items}
            if part.split == k:
                assert who.isdisjoint(item["who"] for item in held)
                assert len(part.items) == sum(sizes[g] for g in who)
                groups = len({item["who"] for item in training})
                assert len(who) == max(1, int(groups * part.share + 0.5))


@given(planes=st.integers(4, 40), count=st.integers(2, 4), seed=st.integers(0, 9))
def test_of_a_stack_they_are_planes_that_follow_one_another(
    planes: int, count: int, seed: int
) -> None:
    items = [{"image": "stack.tif", "slice": k} for k in range(planes)]
    splits = cross_validation(items, count)
    for part in nested_subsets(splits, seed=seed):
        training = [item["slice"] for item in splits[part.split][0]]
        chosen = [plane in {item["slice"] for item in part.items} for plane in training]
        turns = sum(a != b for a, b in zip(chosen, [*chosen[1:], chosen[0]], strict=True))
        assert turns == 2  # one block, which may go on around the end


def test_there_are_three_folds_unless_a_list_has_its_own() -> None:
    plain = [{"image": f"{k}.png"} for k in range(8)]
    assert [len(held) for _, held in cross_validation(plain)] == [3, 3, 2]
    assert len(cross_validation([{**each, "fold": k % 4} for k, each in enumerate(plain)])) == 4


def test_a_single_file_of_several_is_no_stack_to_cut() -> None:
    two = [{"image": f"{name}.tif", "slice": k} for name in "ab" for k in range(8)]
    with pytest.raises(ValueError, match="would learn from a single image, or group of them"):
        nested_subsets(cross_validation(two, 2))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return six_cells(tmp_path_factory.mktemp("six"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fold", "0/2"], "--learning-curve holds each image out once, so --fold has no effect"),
        (["--validation", "0.3"], "--learning-curve holds each image out once, so --validation"),
        (["--group", r"cells_00(.)"], None),
        (["--group", r"(cells)_"], "takes at least 3 images, or groups of them, and there is 1"),
        (["--folds", "6"], None),
        (["--split", "two.json"], None),
        (["--split", "few.json"], "takes at least 3 images, or groups of them, and there are 2"),
        (["--split", "apart.json"], None),
    ],
    ids=str,
)
def test_what_goes_with_it(
    words: list[str],
    said: str | None,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [f"cells_{k:03d}" for k in range(6)]
    monkeypatch.chdir(tmp_path)
    two = [{"train": names[:3], "val": names[3:]}, {"train": names[3:], "val": names[:3]}]
    Path("two.json").write_text(json.dumps(two))
    Path("few.json").write_text(json.dumps({"train": names[:2], "val": names[2:]}))
    Path("apart.json").write_text(json.dumps({"train": names[:4], "val": names[4:]}))
    places = line(data, tmp_path)[1:5]
    code = main(["init", "out", *places, "--learning-curve", *words])
    err = capsys.readouterr().err
    assert (code, said is None or said in err) == (2 if said else 0, True)
    if said is None:
        plan = bundle.read_plan(tmp_path / "out")
        whole, subsets = plan["folds"], plan["subsets"]
        assert len(whole) == {"6": 6, "two.json": 2}.get(words[1], 3)
        shares = 1 if words[1] == "apart.json" else 2  # of two images a quarter is the half
        assert len(subsets) == shares * len(whole)
        assert plan["ids"]["folds"]["value"] == len(whole)
        for subset in subsets:
            training = whole[subset["fold"]]["training"]
            assert subset["validation"] == whole[subset["fold"]]["validation"]
            assert [e for e in training if e in subset["training"]] == subset["training"]
        if words[1] == "apart.json":
            files = {entry["image"] for fold in whole for side in fold.values() for entry in side}
            assert files == {f"images/{name}.tif" for name in names[:4]}


def test_half_of_the_minutes_is_for_the_curve(data: Path) -> None:
    found = fingerprint(data / "images", data / "labels")
    plan = make_plan(found, {"learning_curve": True, "minutes": 6.0})
    assert plan.value("minutes") == 3.0
    assert (plan.value("folds"), len(plan.folds), len(plan.subsets)) == (3, 3, 6)
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


def test_all_networks_share_the_other_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 180 s for six networks, 12 s of each to load; four images of 1.25 times 2 s."""
    progress = Progress(tmp_path / "progress.json", 100, 3.0, ["one"], overhead=12.0)
    plan = timed_plan(monkeypatch, [0.0, 2.0], [[9] * 4] * 2, subsets=4)
    share_out(tmp_path, {}, plan, progress)
    assert progress.minutes == pytest.approx((30 - 12 - 10) / 60)
    assert progress.images == 4


# --- end to end


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Seven networks of two steps each: of all images, of two folds, and of two parts of these."""
    folder = tmp_path_factory.mktemp("curve")
    output, log, few = (folder / name for name in ("bundle", "log.txt", "few.json"))
    few.write_text('{"tiles_per_epoch": 8}')
    more = ["--config", str(few), "--log-file", str(log)]
    assert main(line(data, output, "--learning-curve", "--folds", "2", *more)) == 0
    return output, log.read_text(encoding="utf-8")


@pytest.mark.long
def test_the_curve_of_a_training(trained: tuple[Path, str], data: Path, tmp_path: Path) -> None:
    output, said = trained
    curve = read_curve(output)
    assert curve is not None
    assert [size.images for size in curve.sizes] == [1, 2, 3]
    assert (curve.total, curve.judged, curve.unit, curve.score) == (6, 6, "images", "SEG")
    [pooled] = read_scores(output / FOLDS / "scores.json").of(POOLED)
    assert curve.sizes[-1].score == pytest.approx(pooled.scores["SEG"])
    assert [gain.more for gain in curve.gains] == [5]
    assert " ".join(verdict(curve)) in said
    assert said.count("network of fewer images") == 4
    card = (output / "docs/README.md").read_text(encoding="utf-8")
    assert " ".join(verdict(curve)) in card
    assert (output / PICTURE).stat().st_size > 5_000
    assert main(["report", str(output), "--output", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What more images would buy" in page
    assert " ".join(verdict(curve)) in page.replace("&gt;", ">")


@pytest.mark.long
def test_networks_of_fewer_images_are_judged_by_what_they_have_not_seen(
    trained: tuple[Path, str], data: Path
) -> None:
    """The smallest size, anew: predict with each network, score all images together."""
    import torch

    from unet_med import Segmenter, metrics
    from unet_med.data import load_label

    output, _ = trained
    plan, found, truths = bundle.read_plan(output), [], []
    curve = read_curve(output)
    assert curve is not None
    networks = {network["fold"]: network for network in curve.sizes[0].networks}
    for k, subset in enumerate(plan["subsets"]):
        state = torch.load(output / SUBSETS / f"{k}/resume/checkpoint.pt", weights_only=True)
        assert state["settings"]["images"] == len(subset["training"])
        if subset["share"] != 0.25:
            continue
        own = networks[subset["fold"]]
        choice = {id: own[id] for id in ("threshold", "mask_threshold", "min_size")}
        weights = output / SUBSETS / f"{k}/model.pt"
        one = Segmenter(output, checkpoint=weights, device="cpu", **choice)
        for entry in subset["validation"]:
            assert entry not in subset["training"]
            found.append(one(str(data / entry["image"])).instances.T)
            truths.append(np.asarray(load_label(str(data / entry["label"]))))
    assert curve.sizes[0].score == pytest.approx(metrics.seg(found, truths))


@pytest.mark.long
def test_an_interrupted_curve_goes_on(
    trained: tuple[Path, str], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(trained[0], tmp_path / "copy"))
    progress, before = copy / FOLDS / "progress.json", read_curve(copy)
    kept = json.loads(progress.read_text())
    assert kept["done"] == ["one", "0", "1", *(f"subset {k}" for k in range(4))]
    progress.write_text(json.dumps({**kept, "done": kept["done"][:-1]}))
    shutil.rmtree(copy / SUBSETS / "3")
    (copy / FILE).unlink()
    old = (copy / SUBSETS / "2/model.pt").stat().st_mtime_ns
    assert main(line(data, copy, "--resume")) == 0
    said = capsys.readouterr().err
    assert "network of fewer images 4 of 4" in said
    assert "network of fewer images 3 of 4" not in said
    assert (copy / SUBSETS / "2/model.pt").stat().st_mtime_ns == old
    after = read_curve(copy)
    assert before is not None
    assert after is not None
    assert [size.score for size in after.sizes] == [size.score for size in before.sizes]
    assert after.gains == before.gains


@pytest.mark.long
def test_monai_trains_one_of_its_networks(
    trained: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    import torch

    settings = {"dataset_dir": data, "split_file": trained[0] / "configs/subsets.json", "fold": 2}
    workflow = bundle.load_workflow(trained[0], "train", {**settings, "output_dir": tmp_path})
    workflow.run()
    states = [
        torch.load(path, weights_only=True)
        for path in (tmp_path / "model.pt", trained[0] / SUBSETS / "2/model.pt")
    ]
    torch.testing.assert_close(*states, rtol=0, atol=0)
