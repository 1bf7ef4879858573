"""The figures: for each its data, which is hashed, and how it is drawn from nothing else.

A file holds the hash of its data and of this code: that it is stale shows without drawing, and
without matplotlib.
"""

import functools
import hashlib
import io
import json
import os
import re
from pathlib import Path

import numpy as np

from lib.known import LAST
from lib.look import attention_data, draw_attention
from lib.markdown import NOT_RECORDED
from lib.measured import ngram_label
from lib.stats import edge

# Okabe and Ito's color-blind-safe palette, with gray for its yellow, too pale for a line on white.
COLOURS = "#000000 #E69F00 #56B4E9 #009E73 #999999 #0072B2 #D55E00 #CC79A7".split()
BLUE, ORANGE, PURPLE, GREY = *COLOURS[5:], "#777777"
STYLE = {
    "figure.figsize": (7.2, 4.6),
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.framealpha": 1,
    "lines.linewidth": 1.8,
    "savefig.dpi": 200,
}
REFERENCE = {"color": "#666666", "linestyle": ":", "linewidth": 1.5}
LOSS = "test loss (nats per token)"
CHANGE = "change in test loss (nats per token)"


# --- Data: empty where there is nothing to draw ---
def pair(found):
    """An interval as data; None where there is none."""
    return found and [found.mean, 0 if np.isnan(found.half) else found.half, found.significant]


def references(m):
    return {ngram_label(row): row["test"] for row in m.ngrams().values()}


def seeds_of(m):
    """The test losses of all seeds, from the first step to the last."""
    found = {step.label: [*m.beside_change(step).values()] for step in m.chain}
    found = {label: losses for label, losses in found.items() if losses}
    return found and {"steps": found, "references": references(m)}


def published_of(m):
    """From the 2nd letter on: the published figure, its reimplementation, ours."""
    rows = {}
    for step in m.compared:
        row = m.published.get(step.key, {})
        if m.runs(step) and row.get("rebuilt"):
            found = [pair(m.mean(x, "test_from_2nd")) for x in (row["rebuilt"], step.key)]
            rows[step.label] = [row["exact"], *found]
    return rows


def curves_of(m, step):
    """[steps of the evaluations, test losses there, one list per seed]; empty without runs."""
    curves = [row["curve"] for row in m.runs(step).values() if row["curve"]]
    if not curves:
        return []
    return [[x for x, _, _ in curves[0]], [[test for _, _, test in points] for points in curves]]


def curves_of_chain(m):
    lines = {step.label: curves_of(m, step) for step in m.chain}
    lines = {label: line for label, line in lines.items() if line}
    return lines and {"lines": lines, "references": references(m)}


def ideas_of(m):
    """{group: {idea: [change, half its interval, whether significant, and after Holm]}}."""

    def name(step):
        return step.label + (f" (vs {m.label(step.builds_on)})" if step.builds_on != LAST else "")

    groups = {}
    for group in m.groups:
        for step in m.group(group):
            if step.key in m.family:
                found = [*pair(m.family[step.key]), step.key in m.surviving]
                groups.setdefault(group, {})[name(step)] = found
    return groups


def transfer_of(m):
    return {m.label(key): [*map(pair, both)] for key, both in m.transfer.items()}


def robust_of(m):
    """{step: {condition: the change that the step makes there}}."""
    rows = {
        step.label: {name: pair(found.get(step.key)) for name, found in m.by_condition.items()}
        for step in m.chain
        if step.builds_on
    }
    return rows if any(any(found.values()) for found in rows.values()) else {}


def frontier_of(m):
    """[label, kind, numbers that it holds, minutes of training, test loss] of every model."""
    return [[x.label, x.kind, x.numbers, x.seconds / 60, x.test] for x in m.frontier]


def positions_of(m):
    """{step: [positions, losses there of the seeds]}, where at least 100 test names reach."""
    found = {}
    for row in m.current("by-position.csv"):
        if row["targets"] >= 100:
            at = found.setdefault(m.label(row["step"]), {}).setdefault(row["position"], [])
            at.append(row["loss"])
    lines = {label: [[*at], [*at.values()]] for label, at in found.items()}
    return lines if len(lines) > 1 else {}


def look_of(m):
    """The attention weights of the last step for one name."""
    return attention_data(m.current("look.csv"))


# --- Drawing ---
def band(axes, x, seeds, **style):
    """Mean and range of the values that the seeds have at every x: as many lists as there are x."""
    axes.plot(x, [np.mean(values) for values in seeds], **style)
    fill = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
    axes.fill_between(x, [*map(min, seeds)], [*map(max, seeds)], **fill)


def reference_lines(axes, x, found):
    for label, loss in found.items():
        axes.axhline(loss, **REFERENCE)
        axes.text(x, loss, label, ha="right", va="bottom", fontsize=10, color="#444444", zorder=3)


def staircase(figure, data):
    axes = figure.subplots()
    steps = data["steps"]
    means = [np.mean(losses) for losses in steps.values()]
    axes.stairs(means, np.arange(len(means) + 1) - 0.5, baseline=None, color="black", linewidth=1.8)
    for x, losses in enumerate(steps.values()):
        spots = x + np.linspace(-0.2, 0.2, len(losses))
        axes.plot(spots, losses, "o", ms=4, color=BLUE, label="" if x else "one seed")
    reference_lines(axes, len(means) - 0.5, data["references"])
    labels = [f"{label}\n{value:.3f}" for label, value in zip(steps, means, strict=True)]
    axes.set_xticks(range(len(means)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.grid(axis="x", visible=False)
    axes.set(title="From the baseline to + GELU: mean test loss of each step", ylabel=LOSS)
    axes.legend()


def published(figure, data):
    axes = figure.subplots()
    markers = ("D", ORANGE), ("s", COLOURS[3]), ("o", BLUE)
    names = "published code, full test set", "published code, reimplemented", "ours"
    for y, found in enumerate(data.values()):
        values = [[found[0], 0], *found[1:]]
        for i, (value, (marker, colour)) in enumerate(zip(values, markers, strict=True)):
            if value and value[0] is not None:
                style = {"fmt": marker, "ms": 5, "capsize": 2, "color": colour}
                at = y + 0.22 * (i - 1)
                axes.errorbar(value[0], at, xerr=value[1] or None, label=names[i], **style)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))  # one entry per kind, not per row
    axes.legend(unique.values(), unique.keys())
    axes.set_yticks(range(len(data)), data)
    axes.invert_yaxis()
    axes.set(title="Published and our losses, with 95% intervals over seeds")
    axes.set(xlabel="test loss from the 2nd letter on (nats per token)")


def legend_below(figure, axes, columns):
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def loss_curves(figure, data):
    axes = figure.subplots()
    figure.set_figheight(5)
    for i, (label, (steps, losses)) in enumerate(data["lines"].items()):
        style = {"color": COLOURS[i % 8], "linestyle": "--" if i % 2 else "-"}  # some overlap
        band(axes, steps, np.transpose(losses), label=label, **style)
    reference_lines(axes, max(steps[-1] for steps, _ in data["lines"].values()), data["references"])
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(title="Test loss during training: mean and range over the seeds")
    axes.set(xlabel="training step", ylabel=LOSS)
    legend_below(figure, axes, 4)


def dot(axes, y, found, colour, full):
    """A change with its 95% interval; a dot that is not full has a white face."""
    style = {"fmt": "o", "ms": 5, "color": colour, "mfc": colour if full else "white"}
    axes.errorbar(found[0], y, xerr=found[1], capsize=2, lw=1.2, **style)


def verdict_colour(found):
    return GREY if not found[2] else BLUE if found[0] < 0 else ORANGE


def rows_of_changes(figure, labels, title):
    """Axes with one row per label, the first on top, and a line at no change."""
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([*labels.values()], labels, fontsize=9.5)
    axes.set_ylim(max(labels.values()) + 0.8, -1.2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", linewidth=0.5)
    axes.set(xlabel=CHANGE)
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    return axes


def ideas(figure, data):
    lines = [x for group, rows in data.items() for x in (group, *rows)]
    places = {label: y for y, label in enumerate(lines) if label not in data}
    figure.set_figheight(1.3 + 0.21 * len(lines))
    title = "Change in test loss for each idea, with 95% intervals: blue is better, orange worse,\n"
    title += "gray not significant. Filled dots are significant after Holm's correction."
    axes = rows_of_changes(figure, places, title)
    for group, rows in data.items():
        style = {"weight": "bold", "ha": "right", "va": "center"}
        axes.text(-0.01, lines.index(group), group, transform=axes.get_yaxis_transform(), **style)
        for label, (*found, full) in rows.items():
            dot(axes, places[label], found, verdict_colour(found), full)


def transfer(figure, data):
    figure.set_figheight(1.6 + 0.27 * len(data))
    title = "Change in test loss per idea at two sizes, with 95% intervals (filled: significant)"
    axes = rows_of_changes(figure, {label: y for y, label in enumerate(data)}, title)
    for y, both in enumerate(data.values()):
        dot(axes, y - 0.17, both[0], "black", both[0][2])
        dot(axes, y + 0.17, both[1], PURPLE, both[1][2])
    for colour, label in ("black", "at + GELU"), (PURPLE, "at 64x4, 4 times the parameters"):
        axes.plot([], [], "o", color=colour, label=label)
    legend_below(figure, axes, 2)


def robust(figure, data):
    figure.set_figheight(6.4)
    panels = figure.subplots(2, -(-len(data) // 2), sharex=True, sharey=True).flat
    conditions = [*next(iter(data.values()))]
    for (label, changes), axes in zip(data.items(), panels, strict=False):
        axes.axvline(0, color="black", linewidth=0.8)
        for y, found in enumerate(changes.values()):
            if found:
                dot(axes, y, found, verdict_colour(found), True)
        axes.set_title(label, loc="center", fontsize=11)
        # Logarithmic on both sides of zero: changes of 0.005 and of 0.2 are to be seen.
        axes.set_xscale("symlog", linthresh=0.01, linscale=0.7)
        axes.set_xlim(-0.7, 0.2)
        axes.set_xticks([-0.1, -0.01, 0, 0.01, 0.1], ["−.1", "−.01", "0", ".01", ".1"], fontsize=8)
        axes.set_xticks([], minor=True)
        axes.tick_params(axis="x", labelbottom=True)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(conditions)), conditions, fontsize=9.5)
        axes.set_ylim(len(conditions) - 0.5, -0.5)
    for axes in panels:  # what is left of the grid
        axes.axis("off")
    label = "change in test loss, logarithmic on both sides of 0"
    figure.supxlabel(label, fontsize=11)
    title = "What each step changes under other conditions, with 95% intervals:\n"
    title += "blue is better, orange worse, gray not significant"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)


def by_position(figure, data):
    import matplotlib.ticker

    figure.set_figheight(6)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    dots = {"marker": "o", "markersize": 4}
    for i, (label, (positions, losses)) in enumerate(data.items(), start=5):
        band(above, positions, losses, color=COLOURS[i % 8], label=label, **dots)
    (before, (positions, old)), (after, (_, new)) = [*data.items()][:2]
    change, name = np.array(new) - np.array(old), f"{after} against {before}"
    band(below, positions, change, color=COLOURS[6], label=name, **dots)
    above.legend()
    below.legend()
    above.set(title="Test loss by position: mean and range over the seeds", ylabel=LOSS)
    below.set(xlabel="position of the predicted character (1 is the first letter)")
    below.set(ylabel="change in test loss")
    below.axhline(0, color="black", linewidth=0.8)
    below.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(1))


def frontier(figure, data):
    figure.set_size_inches(11, 6.5)
    panels = figure.subplots(1, 2, sharey=True)
    kinds = {"n-gram": ("s", GREY), "step": ("o", BLUE), "preset": ("o", COLOURS[2])}
    kinds |= {"idea": ("D", ORANGE), "average": ("^", COLOURS[3]), "mixture": ("v", PURPLE)}
    names = {kind: f"{kind}s" for kind in kinds}
    for axes, cost in zip(panels, (2, 3), strict=True):
        best = edge((point[cost], point[4]) for point in data)
        axes.step(*zip(*best, strict=True), where="post", color="black", linewidth=1, zorder=1)
        for point in data:
            marker, colour = kinds[point[1]]
            axes.plot(point[cost], point[4], marker, color=colour, label=names.pop(point[1], None))
            if (point[cost], point[4]) in best and point[1] not in ("average", "mixture"):
                at = {"xytext": (-6, -3), "ha": "right", "va": "top"}  # below the line is room
                at = {"xytext": (7, 3)} if point[1] == "n-gram" else at  # not left of the axis
                at |= {"textcoords": "offset points", "fontsize": 9}
                axes.annotate(point[0], (point[cost], point[4]), **at).set_in_layout(False)
        axes.set_xscale("log")
        axes.plot([best[-1][0], axes.get_xlim()[1]], [best[-1][1]] * 2, "k-", lw=1, zorder=1)
        axes.margins(x=0)
    panels[0].set_ylim(None, np.quantile([point[4] for point in data], 0.9))  # a few are far above
    panels[0].set(ylabel=LOSS, xlabel="numbers that the model holds (logarithmic)")
    panels[1].set(xlabel="training time (minutes, logarithmic)")
    title = "Test loss against size and training time: no model shown is below the line"
    figure.suptitle(title, x=0.02, ha="left", fontsize=12)
    legend_below(figure, panels[0], 6)


FIGURES = {
    "staircase.png": (seeds_of, staircase),
    "published.png": (published_of, published),
    "loss-curves.png": (curves_of_chain, loss_curves),
    "ideas.png": (ideas_of, ideas),
    "transfer.png": (transfer_of, transfer),
    "robust.png": (robust_of, robust),
    "by-position.png": (positions_of, by_position),
    "frontier.png": (frontier_of, frontier),
    "look.png": (look_of, draw_attention),
}


def not_recorded(figure, data):
    figure.set_figheight(1)
    figure.text(0.5, 0.5, NOT_RECORDED, ha="center", va="center")


# --- Files ---
def data_of(m):
    """{name of the file: its data as text}."""

    def rounded(text):  # another machine may differ in the last digits
        return round(float(text), 5)

    found = {name: json.dumps(data(m)) for name, (data, _) in FIGURES.items()}
    found = {name: json.loads(text, parse_float=rounded) for name, text in found.items()}
    return {name: json.dumps(data) for name, data in found.items()}


@functools.cache
def code():
    """The code that draws, without which a figure could be of other data or of an earlier form."""
    return b"".join(Path(__file__).with_name(f"{x}.py").read_bytes() for x in ("figures", "look"))


def digest(text):
    """What a file holds of what it was drawn from: its data and the code."""
    return hashlib.sha256(text.encode() + code().replace(b"\r\n", b"\n")).hexdigest()[:16]


def stale(m):
    """{path: its data as text} of the figures that are missing, or not what would be drawn now."""
    found = {}
    for name, text in data_of(m).items():
        path = m.root / "results" / "plots" / name
        held = re.search(rb"tEXtData\0(\w{16})", path.read_bytes()) if path.exists() else None
        if not held or held[1].decode() != digest(text):
            found[path] = text
    return found


def png(drawing, data, metadata):
    """The bytes of a figure, drawn by drawing(figure, data)."""
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's own would not be found here
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own settings are
        matplotlib.rcParams.update(STYLE)
        figure, file = Figure(layout="constrained"), io.BytesIO()
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
        drawing(figure, data)
        metadata = {"Software": None} | metadata
        figure.savefig(file, format="png", metadata=metadata, pil_kwargs={"optimize": True})
    return file.getvalue()


def draw(m):
    """The stale figures, {path: the bytes of the PNG}, which depend on nothing but their data."""
    files = {}
    for path, text in stale(m).items():
        data, drawing = json.loads(text), FIGURES[path.name][1]
        files[path] = png(drawing if data else not_recorded, data, {"Data": digest(text)})
    return files
