"""The pictures, as PNG files: the same bytes for the same figures."""

import math

import matplotlib.ticker
import numpy as np

from harness import effect_pictures
from harness.canvas import COLOURS, LOSS, REFERENCE, apart, band, picture
from harness.evidence import counted, of_now, speeds
from harness.rows import key_of
from harness.stats import interval


def curves_of(step):
    """The steps of its evaluations and the test losses there, (runs, evaluations), of all seeds."""
    found = np.array([points for points in step.values("curve") if points])
    return (found[0, :, 0], found[:, :, 2]) if len(found) else None


def loss_curves(lines, references):
    """Test loss against step: {label: (steps, losses of every run)}; references: {label: loss}."""

    def plot(axes):
        axes.set(
            title="Test loss during training: mean and range over the seeds",
            xlabel="training step",
            ylabel=LOSS,
        )
        axes.xaxis.set_major_formatter("{x:,.0f}")
        if not lines:
            return
        last = {label: losses[:, -1].mean() for label, (_, losses) in lines.items()} | references
        end = max(steps[-1] for steps, _ in lines.values())
        low = min([*(losses.min() for _, losses in lines.values()), *references.values()])
        high = max(losses.max() for _, losses in lines.values())
        room = (high - low) or 0.1
        axes.set(xlim=(0, end), ylim=(low - 0.06 * room, high + 0.03 * room))
        ranked = sorted(last, key=last.get)
        places = dict(zip(ranked, apart([last[x] for x in ranked], 0.047 * room), strict=True))
        for i, (label, (steps, losses)) in enumerate(lines.items()):
            style = {"color": COLOURS[i % 8], "linestyle": "--" if i % 2 else "-"}  # some overlap
            band(axes, steps, losses.T, **style)
            lead = [steps[-1], 1.035 * end], [last[label], places[label]]  # from line to label
            axes.plot(*lead, linewidth=0.9, clip_on=False, **style)
        for loss in references.values():
            axes.axhline(loss, **REFERENCE)
        for label, place in places.items():
            axes.text(1.04 * end, place, label, va="center")

    return picture(plot, 5.3)


def comparison(steps, references):
    """The final loss of every step, first letter left out, beside what was published or counted."""

    def plot(axes):
        for label, loss in references.items():
            axes.axvline(loss, label=label, **REFERENCE)
        for y, step in enumerate(steps):
            published, exact = step.published.get("test"), step.published.get("exact")
            losses = step.values("test_from_2nd")
            if published is not None:
                style = {"color": "#D55E00", "fillstyle": "none", "linestyle": "none", "zorder": 3}
                axes.plot(published, y, "D", label="published", **style)
            if exact is not None:
                style = {"color": "#D55E00", "linestyle": "none", "zorder": 3}
                axes.plot(exact, y, "d", label="published, evaluated exactly", **style)
            if losses:
                below = [y + 0.24] * len(losses)
                axes.plot(losses, below, "|", color="#0072B2", label="one seed", linestyle="none")
                mean = interval(losses)
                half = None if math.isnan(mean.half) else mean.half
                label = "mean, 95% interval"
                bar = {"fmt": "ko", "markersize": 4, "capsize": 4, "linewidth": 1.5}
                axes.errorbar(mean.mean, y, xerr=half, label=label, **bar)
        axes.set_yticks(range(len(steps)), [step.label for step in steps])
        axes.set(
            title="Test loss after training of every step, from the 2nd letter on",
            xlabel="test loss from the 2nd letter on (nats per character)",
            ylim=(len(steps) - 0.4, -0.6),
        )
        handles, labels = axes.get_legend_handles_labels()
        unique = dict(zip(labels, handles, strict=True))
        axes.legend(unique.values(), unique.keys())

    return picture(plot, 1.4 + 0.42 * max(len(steps), 3))


def scaling(lines):
    """Test loss against training time. lines: {label: (minutes, mean losses)}."""

    def plot(axes):
        axes.set(
            title="Test loss against training time without evaluations, mean over the seeds",
            xlabel="training time (minutes, logarithmic)",
            ylabel=LOSS,
            xscale="log",
        )
        for i, (label, (minutes, losses)) in enumerate(lines.items()):
            axes.plot(minutes, losses, color=COLOURS[i % 8], label=label)
            axes.plot(minutes[-1], losses[-1], "o", color=COLOURS[i % 8])
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend()

    return picture(plot, 5.3)


def by_position(lines, label, change):
    """Test loss at every position, {label: (positions, losses of runs)}; below, how it changes."""

    def plot(panels):
        above, below = panels
        dots = {"marker": "o", "markersize": 4}
        for i, (name, (positions, losses)) in enumerate(lines.items(), start=5):
            band(above, positions, losses.T, color=COLOURS[i % 8], label=name, **dots)
        band(below, change[0], change[1].T, color=COLOURS[6], label=label, **dots)
        above.legend()
        below.legend()
        above.set(title="Test loss by position: mean and range over the seeds", ylabel=LOSS)
        below.set(xlabel="position of the predicted character (1 is the first letter)")
        below.set(ylabel="change in test loss")
        below.axhline(0, color="black", linewidth=0.8)
        below.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(1))

    return picture(plot, 6.6, 2, sharex=True, height_ratios=(3, 2))


def attention(weights, name, model):
    """Who attends to whom. weights: {(layer, head, query, key): weight}; 0 is the boundary."""
    letters = ["·", *name]
    layers, heads = (max(at[axis] for at in weights) for axis in (0, 1))

    def plot(panels):
        for layer, head in np.ndindex(layers, heads):
            square = np.where(np.tri(len(letters)), 0, np.nan)  # what comes later is out of sight
            for (of_layer, of_head, query, key), weight in weights.items():
                if (of_layer, of_head) == (layer + 1, head + 1):
                    square[query, key] = weight
            axes = panels[layer, head]
            axes.set_facecolor("#eeeeee")
            axes.imshow(square, cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks(range(len(letters)), letters)
            axes.set_yticks(range(len(letters)), letters)
            axes.tick_params(length=0, labelsize=8)
            axes.grid(False)
            if layer == 0:
                axes.set_title(f"head {head + 1}", fontsize=11, loc="center")
            if head == 0:
                axes.set_ylabel(f"layer {layer + 1}", fontsize=11)
        title = f"Attention of {model}, on {name}: rows look at columns, · is the boundary.\n"
        title += "White is a weight of 0, the darkest blue is 1, grey is out of sight."
        panels[0, 0].figure.suptitle(title, x=0.02, ha="left", fontsize=12)

    return picture(plot, 2.15 * layers + 0.5, layers, heads, squeeze=False)


def position_table(evidence):
    """{key: (positions, losses (runs, positions))}, where at least 100 test names reach."""
    found = {}
    for row in of_now(evidence, "by-position.csv"):
        if row["targets"] >= 100:
            positions = found.setdefault(key_of(row), {})
            positions.setdefault(row["position"], {})[row["seed"]] = row["loss"]
    return {
        key: (np.array(list(positions)), np.array([list(x.values()) for x in positions.values()]).T)
        for key, positions in found.items()
    }


def dissections(evidence):
    """The pictures of what dissect.py wrote, as far as it is of the models as they are now."""
    pictures = {}
    before, after = "train-2-2head-4layer-mlp-ln", "train-2-2head-4layer-mlp-ln-rope"
    found = position_table(evidence)
    if {before, after} <= found.keys():
        labels = {key: evidence.steps[key].label for key in found}
        change = found[before][0], found[after][1] - found[before][1]
        lines = {labels[key]: line for key, line in found.items()}
        label = f"{labels[after]} against {labels[before]}"
        pictures["by-position.png"] = by_position(lines, label, change)
    rows = of_now(evidence, "attention.csv")
    if rows:
        axes = ("layer", "head", "query", "key")
        weights = {tuple(row[axis] for axis in axes): row["weight"] for row in rows}
        model = f"{evidence.steps[key_of(rows[0])].label}, seed {rows[0]['seed']}"
        pictures["attention.png"] = attention(weights, rows[0]["name"], model)
    return pictures


def draw(evidence):
    """All pictures, {name of the file: its bytes}."""
    curves = {step.key: curves_of(step) for step in evidence.compared}
    chain = {step.label: curves[step.key] for step in evidence.chain if curves[step.key]}
    measured, timed = speeds(evidence), {}
    for step in [evidence.steps["train-2"], *evidence.presets]:
        if curves[step.key] and step.key in measured:
            at, losses = curves[step.key]
            minutes = at * measured[step.key]["ms_per_step"] / 60_000
            timed[step.label] = minutes, losses.mean(axis=0)
    models = counted(evidence)
    best = {x: row["test_from_2nd"] for x, row in models.items() if row["context"] > 1}
    pictures = {
        "loss-curves.png": loss_curves(chain, {x: row["test"] for x, row in models.items()}),
        "comparison.png": comparison(evidence.chain, best),
        **dissections(evidence),
        **effect_pictures.draw(evidence),
    }
    return pictures | ({"scaling.png": scaling(timed)} if timed else {})
