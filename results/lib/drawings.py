"""How the figures are drawn, each from its data and nothing else; see lib/figures.py for these."""

import io
import os
from itertools import pairwise

import numpy as np

from lib.markdown import NOT_RECORDED
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


def band(axes, x, seeds, **style):
    """Mean and range of the values that the seeds have at every x: as many lists as there are x."""
    axes.plot(x, [np.mean(values) for values in seeds], **style)
    fill = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
    axes.fill_between(x, [*map(min, seeds)], [*map(max, seeds)], **fill)


def reference_lines(axes, x, found, side="right"):
    for label, loss in found.items():
        axes.axhline(loss, **REFERENCE)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}  # no line strikes it through
        style = {"fontsize": 10, "color": "#444444", "bbox": box, "zorder": 3}
        axes.annotate(
            label,
            (x, loss),
            xytext=(0, 3),
            textcoords="offset points",
            ha=side,
            va="bottom",
            **style,
        )


def staircase(figure, data):
    """Each step is a stair below the step that it builds on."""
    axes = figure.subplots()
    figure.set_figwidth(8.6)
    steps = {label: found for label, found in data["steps"].items()}
    places = {label: x for x, label in enumerate(steps)}
    recipes = (
        ("published recipe (upper number)", BLUE, "o", 1),
        ("tuned recipe (lower number)", ORANGE, "D", 2),
    )
    for name, colour, marker, place in recipes:
        means = {label: np.mean(found[place]) for label, found in steps.items() if found[place]}
        for label, mean in means.items():
            base, x = steps[label][0], places[label]
            style = {"color": colour, "linewidth": 1.8}
            axes.plot([x - 0.5, x + 0.5], [mean, mean], **style)
            if base in means:  # down from the base, whose level goes on to here
                axes.plot([x - 0.5] * 2, [means[base], mean], **style)
                level = [places[base] + 0.5, x - 0.5]
                axes.plot(level, [means[base]] * 2, color=colour, linestyle=":", linewidth=1.5)
            spots = x + np.linspace(-0.2, 0.2, len(steps[label][place]))
            style = {"ms": 4, "color": colour, "mfc": colour if place == 1 else "white"}
            axes.plot(spots, steps[label][place], marker, label=name, linestyle="", **style)
            name = "_"  # one entry of the legend for all
    reference_lines(axes, -0.5, data["references"], "left")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.06 * (high - low))  # room for a label
    labels = [
        "\n".join([label, *(f"{np.mean(losses):.3f}" for losses in found if losses)])
        for label, (_, *found) in steps.items()
    ]
    axes.set_xticks(range(len(labels)), labels, fontsize=10)
    axes.grid(axis="x", visible=False)
    axes.set(
        title="Mean test loss of each step; dotted lines lead on to a step that builds on it",
        ylabel=LOSS,
    )
    axes.legend(title="each mark is one seed")


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
    axes.set(title="Published losses and ours, with 95% intervals over seeds")
    axes.set(xlabel="test loss from the 2nd letter on (nats per token)")


def legend_below(figure, axes, columns):
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=columns)


def apart(places, distance):
    """The places, moved until they are that far apart; the order is kept."""
    order, found = sorted(range(len(places)), key=places.__getitem__), [*places]
    for _ in range(200):
        for low, high in pairwise(order):
            missing = max(0, distance - (found[high] - found[low]))
            found[low] -= missing / 2
            found[high] += missing / 2
    return found


def loss_curves(figure, data):
    axes = figure.subplots()
    figure.set_size_inches(8.6, 5.4)
    ends, colours = {}, {}
    for i, (label, (steps, losses)) in enumerate(data["lines"].items()):
        colours[label] = COLOURS[i % 8]
        style = {"color": colours[label], "linestyle": "--" if i % 2 else "-"}  # some overlap
        band(axes, steps, np.transpose(losses), **style)
        ends[label] = np.mean([seed[-1] for seed in losses])
    last = max(steps[-1] for steps, _ in data["lines"].values())
    axes.set_xlim(0, last)
    reference_lines(axes, last * 0.98, data["references"])
    low, high = axes.get_ylim()
    for label, y in zip(ends, apart([*ends.values()], (high - low) / 24), strict=True):
        line = {"arrowstyle": "-", "color": colours[label], "shrinkA": 2, "relpos": (0, 0.5)}
        at = {"xytext": (1.05 * last, y), "va": "center", "fontsize": 10, "arrowprops": line}
        axes.annotate(label, (last, ends[label]), annotation_clip=False, **at)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set(title="Test loss during training: mean and range over the seeds")
    axes.set(xlabel="training step", ylabel=LOSS)


def dot(axes, y, found, colour, full):
    """A change with its 95% interval; a dot that is not full has a white face."""
    style = {"fmt": "o", "ms": 5, "color": colour, "mfc": colour if full else "white"}
    axes.errorbar(found[0], y, xerr=found[1], capsize=2, lw=1.2, **style)


def verdict_colour(found):
    return GREY if not found[2] else BLUE if found[0] < 0 else ORANGE


def rows_of_changes(axes, labels):
    """One row per label, the first on top, and a line at no change."""
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks([*labels.values()], labels, fontsize=9.5)
    axes.set_ylim(max(labels.values()) + 0.8, -1.2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", linewidth=0.5)


def ideas(figure, data):
    lines = [x for group, rows in data.items() for x in ("", group, *rows)][1:]
    places = {label: y for y, label in enumerate(lines) if label and label not in data}
    figure.set_size_inches(8.6, 2.2 + 0.21 * len(lines))
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    for i, (axes, recipe) in enumerate(zip(panels, ("published", "tuned"), strict=True)):
        rows_of_changes(axes, places)
        axes.set_title(f"{recipe} recipe", loc="center", pad=26)
        axes.tick_params(axis="x", top=True, labeltop=True, labelsize=9.5)
        axes.locator_params(axis="x", nbins=5)
        for rows in data.values():
            for label, found in rows.items():
                if found[i]:
                    change, full = found[i]
                    dot(axes, places[label], change, verdict_colour(change), full)
    for group in data:
        style = {"weight": "bold", "ha": "right", "va": "center"}
        at = panels[0].get_yaxis_transform()
        panels[0].text(-0.01, lines.index(group), group, transform=at, **style)
    figure.supxlabel(CHANGE, fontsize=11)
    title = "Change in test loss for each idea, with 95% intervals: blue is better, orange worse,\n"
    title += "gray not significant. Filled dots are significant after Holm's correction.\n"
    title += "* is not compared with + GELU, but with what its table says. Empty rows were not run."
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)


def transfer(figure, data):
    figure.set_figheight(1.6 + 0.27 * len(data))
    axes = figure.subplots()
    rows_of_changes(axes, {label: y for y, label in enumerate(data)})
    for y, both in enumerate(data.values()):
        dot(axes, y - 0.17, both[0], "black", both[0][2])
        dot(axes, y + 0.17, both[1], PURPLE, both[1][2])
    for colour, label in ("black", "at + GELU"), (PURPLE, "at 64x4, 4 times the parameters"):
        axes.plot([], [], "o", color=colour, label=label)
    axes.set(xlabel=CHANGE)
    title = "Change in test loss per idea at two sizes, with 95% intervals (filled: significant)"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
    legend_below(figure, axes, 2)


def robust(figure, data):
    figure.set_size_inches(8.6, 6.4)
    panels = figure.subplots(2, -(-len(data) // 2), sharey=True).flat
    conditions = {"seeds": "as in the comparison", "splits": "over six splits"}
    conditions = [conditions.get(x, x) for x in next(iter(data.values()))]
    for (label, changes), axes in zip(data.items(), panels, strict=False):
        axes.axvline(0, color="black", linewidth=0.8)
        for y, found in enumerate(changes.values()):
            if found:
                dot(axes, y, found, verdict_colour(found), True)
        axes.set_title(label, loc="center", fontsize=11)
        axes.locator_params(axis="x", nbins=3)
        axes.tick_params(axis="x", labelsize=9)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(conditions)), conditions, fontsize=9.5)
        axes.set_ylim(len(conditions) - 0.5, -0.5)
    for axes in panels:  # what is left of the grid
        axes.axis("off")
    figure.supxlabel(f"{CHANGE}; each panel has a scale of its own", fontsize=11)
    title = "What each step changes under other conditions, with 95% intervals:\n"
    title += "blue is better, orange worse, gray not significant; an empty row was not run"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)


def norms(figure, data):
    """Validation loss against the peak rate; what has no finite loss is a cross at the top."""
    figure.set_size_inches(8.6, 4.8)
    panels = figure.subplots(1, len(data), sharey=True, squeeze=False)[0]
    means = [x for kinds in data.values() for found in kinds.values() for x in found.values() if x]
    top = min(means) + 0.2
    for (layers, kinds), axes in zip(data.items(), panels, strict=True):
        for i, (kind, found) in enumerate(kinds.items()):
            rates = [float(rate) for rate in found]
            losses = [np.nan if loss is None else loss for loss in found.values()]
            style = {"color": [*COLOURS[:4], PURPLE][i], "marker": "osD^v"[i], "ms": 5}
            axes.plot(rates, losses, label=kind, **style)
            for rate, loss in zip(rates, losses, strict=True):
                if np.isnan(loss):
                    axes.plot(rate, top - 0.012 * i, "x", color=style["color"], ms=8)
                    at = {"textcoords": "offset points", "xytext": (-6, -3), "ha": "right"}
                    axes.annotate(f"{kind}: no run", (rate, top - 0.012 * i), fontsize=9, **at)
        axes.set_xscale("log", base=2)
        axes.set_xticks(rates, [f"{rate:g}" for rate in rates], fontsize=9.5)
        axes.set(title=f"The last step, {layers} layers, by peak rate: means over two seeds")
        axes.set(xlabel="peak learning rate")
    panels[0].set_ylim(min(means) - 0.01, top + 0.01)
    panels[0].set(ylabel="validation loss (nats per token), cut off above")
    legend_below(figure, panels[0], 5)


def amounts(figure, data):
    """Loss above the lowest possible one against the number of names, both logarithmic."""
    axes = figure.subplots()
    styles = ("s:", GREY), ("o-", BLUE), ("D-", ORANGE)
    names = sorted({x for points in data.values() for x, _, _ in points})
    for (model, points), (style, colour) in zip(data.items(), styles, strict=True):
        found = {x: rest for x, *rest in points}  # no line crosses a number without a run
        above, halves = zip(*(found.get(x, [np.nan, np.nan]) for x in names), strict=True)
        style = {"fmt": style, "color": colour, "ms": 5, "capsize": 2, "label": model}
        axes.errorbar(names, above, yerr=halves, **style)
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(names, [f"{x:,}" for x in names])
    ticks = 0.05, 0.1, 0.2, 0.4
    axes.set_yticks(ticks, [f"{x:g}" for x in ticks])
    axes.set_ylim(0.04)
    axes.minorticks_off()
    axes.set(title="Made-up names: loss above the lowest possible one (logarithmic axes)")
    axes.set(xlabel="training names", ylabel="nats per token above the lowest possible")
    axes.legend()


def by_position(figure, data):
    import matplotlib.ticker

    figure.set_figheight(6)
    above, below = figure.subplots(2, sharex=True, height_ratios=(3, 2))
    for i, (label, (positions, losses)) in enumerate(data.items()):
        style = {"color": COLOURS[(5 + i) % 8], "marker": "osD"[i % 3], "markersize": 4}
        band(above, positions, losses, label=label, **style)
    (before, (positions, old)), (after, (_, new)) = [*data.items()][:2]
    change, name = np.array(new) - np.array(old), f"{after} against {before}"
    band(below, positions, change, color=COLOURS[6], label=name, marker="o", markersize=4)
    above.legend()
    below.legend()
    above.set(title="Test loss by position: mean and range over the seeds", ylabel=LOSS)
    below.set(xlabel="position of the predicted character, where at least 100 test names reach")
    below.set(ylabel="change in test loss")
    below.axhline(0, color="black", linewidth=0.8)
    below.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(1))


def frontier(figure, data):
    figure.set_size_inches(11, 6.5)
    panels = figure.subplots(1, 2, sharey=True)
    kinds = {"n-gram": ("s", GREY), "step": ("o", BLUE), "preset": ("P", COLOURS[2])}
    kinds |= {"idea": ("D", ORANGE), "student": ("*", "black")}
    kinds |= {"average": ("^", COLOURS[3]), "mixture": ("v", PURPLE)}
    names = {kind: f"{kind}s" for kind in kinds}
    top = np.quantile([point[4] for point in data], 0.85) + 0.01  # a few are far above
    for axes, cost in zip(panels, (2, 3), strict=True):
        best = edge((point[cost], point[4]) for point in data)
        axes.step(*zip(*best, strict=True), where="post", color="black", linewidth=1, zorder=1)
        labels = []
        for point in data:
            marker, colour = kinds[point[1]]
            size = 10 if marker == "*" else 6
            style = {"color": colour, "ms": size, "label": names.pop(point[1], None)}
            axes.plot(point[cost], point[4], marker, **style)
            if (point[cost], point[4]) in best and point[4] < top:
                labels.append((point[0], point[cost], point[4]))
        shown = [point[cost] for point in data if point[4] < top]
        axes.set_xscale("log")
        left = max(8, (max(shown) / min(shown)) ** 0.45)  # room for the labels
        axes.set_xlim(min(shown) / left, max(shown) * 1.5)
        axes.plot([best[-1][0], axes.get_xlim()[1]], [best[-1][1]] * 2, "k-", lw=1, zorder=1)
        heights = apart([y for _, _, y in labels], 0.0095)
        for (label, x, y), height in zip(labels, heights, strict=True):
            line = {"arrowstyle": "-", "color": "#999999", "lw": 0.7, "shrinkB": 3}
            line["relpos"] = 1, 0.5
            at = {"xytext": (axes.get_xlim()[0] * 1.1, height), "fontsize": 10, "va": "center"}
            axes.annotate(label, (x, y), arrowprops=line, **at).set_in_layout(False)
    low = min(point[4] for point in data)
    panels[0].set_ylim(low - 0.02, top)
    panels[0].set(ylabel=LOSS, xlabel="numbers that the model holds (logarithmic)")
    panels[1].set(xlabel="training time (minutes, logarithmic)")
    title = "Test loss against size and training time: none of these models is below the line;\n"
    title += "the highest losses are cut off"
    figure.suptitle(title, x=0.02, ha="left", fontsize=12)
    legend_below(figure, panels[0], 7)


def not_recorded(figure, data):
    figure.set_figheight(1)
    figure.text(0.5, 0.5, NOT_RECORDED, ha="center", va="center")


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
