"""The table of `benchmarks.quality`: ours, the peers beside it, and what converged ones reach."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.quality_methods import METHODS
from benchmarks.quality_sets import SETS
from benchmarks.rows import Row, markdown, words

# The page says whose these are, and how they differ from ours.
PUBLISHED: Mapping[tuple[str, str], str] = {
    ("isbi", "V_Rand"): "0.988 the best, 0.973 U-Net of 2015",
    ("isbi", "V_Info"): "0.992 the best, 0.987 U-Net of 2015",
    ("nuclei", "AP50"): "0.864 StarDist, 0.806 U-Net with a border class, 0.674 U-Net",
    ("nuclei", "AP75"): "0.586 StarDist, 0.578 U-Net with a border class, 0.482 U-Net",
    ("hippocampus", "Dice"): "0.895 nnU-Net, 0.868 from 20 small patches",
}


def table(found: Sequence[Row]) -> str:
    """Markdown: a row for each score of a set in a budget on a CPU, a column for each method."""
    methods = [name for name in METHODS if any(row["method"] == name for row in found)]
    head = ["data", "score", "minutes", "CPU", *methods, "converged, as published"]
    lines = []
    for name in SETS:
        mine = [row for row in found if row["set"] == name]
        for minutes, threads, cpu in sorted({_budget(row) for row in mine}):
            budget = [row for row in mine if _budget(row) == (minutes, threads, cpu)]
            cores = "core" if threads == 1 else "cores"
            for score, cells in _scores(budget, methods):
                cell = PUBLISHED.get((name, score), "")
                lines.append([name, score, f"{minutes:g}, {threads} {cores}", cpu, *cells, cell])
    return markdown(head, lines)


def _budget(row: Row) -> tuple[float, int, str]:
    """What two rows have to have alike to stand side by side."""
    return row["minutes"], row["threads"], row["cpu"]


def _scores(rows: Sequence[Row], methods: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each score, with a cell for each method: the mean over seeds, the best one in bold."""
    for score in rows[0]["scores"]:
        values = {
            method: [row["scores"][score] for row in rows if row["method"] == method]
            for method in methods
        }
        means = {method: sum(each) / len(each) for method, each in values.items() if each}
        best = max(means, key=lambda method: means[method])
        cells = [words(each) if each else "" for each in values.values()]
        if len(means) > 1:
            cells[methods.index(best)] = f"**{cells[methods.index(best)]}**"
        yield score, cells
