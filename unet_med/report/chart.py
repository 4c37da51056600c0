"""Learning curves as SVG that takes its colours from the page, light or dark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

History = Sequence[Mapping[str, float]]
Point = tuple[float, float]
Place = Callable[[Point], Point]

WIDTH, HEIGHT = 480, 270  # units of the drawing
LEFT, RIGHT, TOP, BOTTOM = 50, 24, 14, 44  # room for the axes' labels


def curve_svg(history: History, names: Sequence[str]) -> str:
    """One line a name over the minutes, through the rows that have it.

    Args:
        history: one mapping an epoch, as `learning_curve_figure` takes it.
        names: what to draw; each has its CSS class, `line0`, `line1` and so on.

    Returns:
        An `<svg>` element.
    """
    lines = {
        name: [(row["minutes"], row[name]) for row in history if name in row] for name in names
    }
    points = [point for line in lines.values() for point in line]
    across, up = _ticks([p[0] for p in points]), _ticks([p[1] for p in points])

    def place(point: Point) -> Point:
        share = (point[0] - across[0]) / (across[-1] - across[0])
        height = (point[1] - up[0]) / (up[-1] - up[0])
        return (
            round(LEFT + share * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - height * (HEIGHT - TOP - BOTTOM), 1),
        )

    parts = [_axes(across, up, place)]
    for number, line in enumerate(lines.values()):  # a single point is drawn by its caps
        path = " ".join(f"{a},{b}" for a, b in map(place, line * 2 if len(line) == 1 else line))
        parts.append(f'<polyline class="line{number}" points="{path}"/>')
    label = escape(f"{', '.join(names)} over minutes", quote=True)
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{inside}</svg>'


def _axes(across: Sequence[float], up: Sequence[float], place: Place) -> str:
    parts = []
    for value in up:
        a, b = place((across[0], value))
        parts.append(f'<line class="grid" x1="{a}" y1="{b}" x2="{WIDTH - RIGHT}" y2="{b}"/>')
        parts.append(f'<text class="end" x="{a - 7}" y="{b + 4}">{value:g}</text>')
    for value in across:
        a, b = place((value, up[0]))
        parts.append(f'<text class="middle" x="{a}" y="{b + 17}">{value:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="middle" x="{middle}" y="{HEIGHT - 5}">minutes</text>')
    return "".join(parts)


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers that enclose the values, about five."""
    from matplotlib.ticker import MaxNLocator

    low, high = min(values), max(values)
    margin = 0 if high > low else max(abs(high), 1) / 10
    found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low - margin, high + margin)
    return [round(float(tick), 10) for tick in found]
