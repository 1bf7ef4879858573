"""The pictures of the ideas: what each is worth, at two sizes and at several learning rates."""

import math

import matplotlib.ticker

from harness.canvas import COLOURS, LOSS, apart, band, picture
from harness.effects import at_two_sizes, by_group, family
from harness.stats import signed

EDGE = 0.12  # effects beyond it are written out, so that the others can be distinguished


def draw_effect(axes, y, change, survives):
    """One effect with its interval: a full dot if it survives Holm's correction."""
    colour = COLOURS[5] if change.mean < 0 else COLOURS[6]
    if change.may_be_zero:
        colour = "#777777"
    face = colour if survives else "white"
    if abs(change.mean) > EDGE:
        side = math.copysign(EDGE, change.mean)
        axes.plot(side, y, "<" if side < 0 else ">", color=colour, mfc=face, clip_on=False)
        near = {"ha": "left" if side < 0 else "right", "va": "center", "fontsize": 9}
        axes.text(side * 0.95, y, f"{signed(change.mean, 3)} ± {change.half:.3f}", **near)
        return
    style = {"fmt": "o", "ms": 5, "color": colour, "mfc": face, "capsize": 2, "lw": 1.2}
    axes.errorbar(change.mean, y, xerr=change.half, **style)


def all_effects(evidence):
    """Every idea's effect on the test loss, by group, the zero line between better and worse."""
    found, surviving = family(evidence)
    groups = {}
    for group, steps in by_group(evidence).items():
        groups[group] = [step for step in steps if step.key in found]
    lines = sum(len(steps) + 1.6 for steps in groups.values() if steps)

    def plot(axes):
        y, places, labels = 0.0, [], []
        for group, steps in groups.items():
            if not steps:
                continue
            style = {"weight": "bold", "ha": "right", "va": "center"}
            axes.text(-0.01, y, group, transform=axes.get_yaxis_transform(), **style)
            y += 1
            for step in steps:
                draw_effect(axes, y, found[step.key], step.key in surviving)
                places.append(y)
                labels.append(step.label)
                y += 1
            y += 0.6
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_yticks(places, labels)
        axes.tick_params(axis="y", length=0)
        axes.set(
            xlabel="change in test loss (nats per character)",
            xlim=(-EDGE, EDGE),
            ylim=(y, -1),
        )
        axes.grid(axis="y", visible=False)
        title = "What each idea changes against what it builds on, with 95% intervals: blue is\n"
        title += "better, orange worse, grey may be either. Full dots survive Holm's correction."
        axes.figure.suptitle(title, x=0.02, ha="left", fontsize=12)

    return picture(plot, 1.2 + 0.21 * lines)


def label_beside(axes, pairs, edge, **style):
    """The labels of the pairs in a column at an edge, with lines to where they belong."""
    pairs = sorted(pairs, key=lambda pair: pair[2].mean)
    low, high = axes.get_ylim()
    places = apart([wide.mean for _, _, wide in pairs], 0.04 * (high - low))
    for (step, small, wide), place in zip(pairs, places, strict=True):
        axes.plot([small.mean, edge], [wide.mean, place], color="#999999", linewidth=0.6, zorder=0)
        axes.text(edge, place, step.label, va="center", fontsize=9, backgroundcolor="w", **style)


def transfer(pairs):
    """Effects at two sizes against each other, [(step, interval, interval at 64x4)]."""

    def plot(axes):
        for _, small, wide in pairs:
            bars = {"xerr": small.half, "yerr": wide.half, "lw": 0.8}
            axes.errorbar(small.mean, wide.mean, fmt="o", ms=4, color=COLOURS[5], **bars)
        left, right = axes.get_xlim()
        room = 0.25 * (right - left)
        axes.set_xlim(left - room, right + room)
        far = [x for x in pairs if max(abs(x[1].mean), abs(x[2].mean)) > 0.01]
        label_beside(axes, [x for x in far if x[1].mean < 0.005], left, ha="right")
        label_beside(axes, [x for x in far if x[1].mean >= 0.005], right, ha="left")
        axes.axline((0, 0), slope=1, color="#666666", linestyle=":", linewidth=1.2)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(
            title="An idea's effect at two sizes, with 95% intervals (dotted: the same)",
            xlabel="change in test loss of train-2 (nats per character)",
            ylabel="change with preset 64x4",
        )

    return picture(plot, 6.5)


def learning_rates(lines):
    """Validation loss against the learning rate, {label: {rate: losses of the seeds}}."""

    def plot(axes):
        for i, (label, tried) in enumerate(lines.items()):
            style = {"color": COLOURS[i % 8], "linestyle": "--" if i % 2 else "-"}  # some overlap
            style |= {"label": label, "marker": "o", "markersize": 4}
            band(axes, tried.keys(), tried.values(), **style)
        axes.set(
            title="Validation loss at other learning rates: mean and range over the seeds",
            xlabel="learning rate",
            ylabel=LOSS.replace("test", "validation"),
            xscale="log",
        )
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator([*next(iter(lines.values()))]))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return picture(plot, 5.3)


def draw(evidence):
    """All of them, {name of the file: its bytes}, as far as there are runs."""
    pictures = {}
    found, _ = family(evidence)
    if found:
        pictures["ideas.png"] = all_effects(evidence)
    pairs = at_two_sizes(evidence)
    if pairs:
        pictures["transfer.png"] = transfer(pairs)
    found = evidence.at_rates
    losses = {
        step.label: {rate: at.values("test") for rate, at in found[step.key].items()}
        for step in evidence.chain
        if step.key in found
    }
    if losses:
        pictures["learning-rates.png"] = learning_rates(losses)
    return pictures
