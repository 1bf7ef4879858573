"""The pictures: report.py hands over the figures, this turns them into PNG files."""
import io
import matplotlib, matplotlib.ticker
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe palette, with grey for its yellow, which is too pale for a line on white.
COLOURS = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#999999", "#0072B2", "#D55E00", "#CC79A7"]
STYLE = {"font.size": 11, "axes.titlesize": 13, "axes.titlelocation": "left", "axes.spines.top": False,
         "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True,
         "figure.facecolor": "white", "axes.facecolor": "white", "savefig.dpi": 190}

def picture(draw, height, rows=1, columns=1, **shared):
    """The PNG, 1615 pixels wide, of what draw(axes) draws; the same bytes for the same figures."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own settings are
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(8.5, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
        draw(figure.subplots(rows, columns, **shared))
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return file.getvalue()

def apart(heights, gap):
    """Places as near to `heights` (ascending) as they can be with `gap` between neighbours: isotonic regression."""
    pools = []  # (mean, count) of neighbours that touch each other, each taken down by the gaps below it
    for i, height in enumerate(heights):
        mean, count = height - i * gap, 1
        while pools and pools[-1][0] > mean:
            other, n = pools.pop()
            mean, count = (other * n + mean * count) / (n + count), n + count
        pools.append((mean, count))
    return [mean + i * gap for i, mean in enumerate(m for m, count in pools for _ in range(count))]

def loss_curves(curves):
    """Test loss against step. curves: {label: [[(step, test), ...] of each seed]}."""
    def draw(axes):
        lines = {}  # label: steps, and lowest, mean and highest loss at each
        for label, runs in curves.items():
            runs = [dict(run) for run in runs]
            steps = [step for step in runs[0] if step > 0 and all(step in run for run in runs)]
            losses = [[run[step] for run in runs] for step in steps]
            mean = [sum(x) / len(x) for x in losses]
            if steps: lines[label] = steps, [*map(min, losses)], mean, [*map(max, losses)]
        several = any(len(runs) > 1 for runs in curves.values())
        axes.set(title="Test loss during training" + ": mean and range over the seeds" * several,
                 xlabel="training step", ylabel="test loss (nats per character)")
        if not lines: return
        end = max(steps[-1] for steps, *_ in lines.values())
        low, high = min(min(low) for _, low, *_ in lines.values()), max(max(high) for *_, high in lines.values())
        room = high - low or 0.1
        axes.set(xlim=(0, end), ylim=(low - 0.06 * room, high + 0.03 * room))
        axes.xaxis.set_major_formatter("{x:,.0f}")
        ranked = sorted(lines, key=lambda label: lines[label][2][-1])
        places = dict(zip(ranked, apart([lines[label][2][-1] for label in ranked], 0.047 * room)))
        for i, (label, (steps, lowest, mean, highest)) in enumerate(lines.items()):
            style = dict(color=COLOURS[i % 8], linestyle="-" if i < 8 else "--", clip_on=False, zorder=3)
            axes.plot(steps, mean, linewidth=1.8, **style)
            axes.fill_between(steps, lowest, highest, color=style["color"], alpha=0.2, linewidth=0)
            axes.plot([steps[-1], 1.035 * end], [mean[-1], places[label]], linewidth=0.9, **style)  # leads to the label
            axes.text(1.04 * end, places[label], label, va="center")
    return picture(draw, 5.3)

def ablation(points, interval):
    """Final loss of every step. points: {label: (losses of the seeds, published loss, the same evaluated exactly)},
    None where one is lacking;
    interval(losses): their mean, and half the width of its interval, None for a single one."""
    def draw(axes):
        for y, (losses, published, exact) in enumerate(points.values()):
            if published is not None:
                axes.plot(published, y, "D", color="#D55E00", fillstyle="none", zorder=4, label="published")
            if exact is not None:
                axes.plot(exact, y, "d", color="#D55E00", zorder=4, label="published, evaluated exactly")
            mean, half = interval(losses) if losses else (None, None)
            below, marker = (0, "o") if half is None else (0.24, "|")
            axes.plot(losses, [y + below] * len(losses), marker, color="#0072B2", label="one seed", linestyle="none")
            if half is not None:
                axes.errorbar(mean, y, xerr=half, fmt="ko", markersize=4, capsize=4, label="mean, 95% interval")
        axes.set_yticks(range(len(points)), list(points))
        axes.set(title="Final test loss of every step, first letter left out", ylim=(len(points) - 0.4, -0.6),
                 xlabel="test loss from the 2nd letter on (nats per character)")
        handles = dict(zip(*reversed(axes.get_legend_handles_labels())))  # one a label
        axes.legend(handles.values(), handles, framealpha=1)
    return picture(draw, 1.4 + 0.42 * max(len(points), 3))

def scaling(curves):
    """Test loss against training time. curves: {label: [(seconds, test), ...]}, means over the seeds."""
    def draw(axes):
        axes.set(title="Test loss against training time, mean over the seeds", xlabel="training time (minutes)",
                 ylabel="test loss (nats per character)", xscale="log")
        for i, (label, points) in enumerate(curves.items()):
            minutes, losses = [seconds / 60 for seconds, _ in points], [loss for _, loss in points]
            axes.plot(minutes, losses, linewidth=1.8, color=COLOURS[i % 8], label=label, zorder=3)
            axes.plot(minutes[-1], losses[-1], "o", color=COLOURS[i % 8], zorder=4)
        axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axes.xaxis.set_major_formatter("{x:g}")
        if curves: axes.set_ylim(top=min(max(loss for points in curves.values() for _, loss in points), 2.5))
        if curves: axes.legend(framealpha=1)
    return picture(draw, 5.3)

def by_position(lines, changes):
    """Test loss at every position. lines: {label: {position: {seed: loss}}}; below it, changes: the same for how
    much it changes from one step to the next, {"+ RoPE against + LayerNorm": {position: {seed: change}}}."""
    def band(axes, points, **style):
        positions, values = zip(*((at, seeds.values()) for at, seeds in sorted(points.items()) if seeds))
        axes.plot(positions, [sum(x) / len(x) for x in values], "o-", markersize=4, **style)
        axes.fill_between(positions, list(map(min, values)), list(map(max, values)), color=style["color"], alpha=0.25,
                          linewidth=0)

    def draw(panels):
        above, below = panels
        for (label, points), colour in zip(lines.items(), ("#999999", "#E69F00", "#0072B2", "#009E73")):
            band(above, points, color=colour, label=label)
        for (label, points), colour in zip(changes.items(), ("#E69F00", "#0072B2", "#009E73")):
            band(below, points, color=colour, label=label)
        above.set(title="Test loss by position in the name: mean and range over the seeds",
                  ylabel="test loss (nats per character)")
        below.set(xlabel="position of the predicted character (1 is the first letter)", ylabel="change in test loss")
        below.axhline(0, color="black", linewidth=0.8)
        below.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        for axes in panels: axes.legend(framealpha=1)
    return picture(draw, 6.6, 2, sharex=True, height_ratios=(3, 2))

def attention(weights, name, label):
    """Who attends to whom. weights: {(layer, head, query, key): weight}, layers and heads from 1, where it is not 0;
    query and key from 0, which is the boundary, to the last letter of the name."""
    letters, (layers, heads) = ["·", *name], (max(axis) for axis in list(zip(*weights))[:2])
    ticks = dict(xticks=range(len(letters)), yticks=range(len(letters)), xticklabels=letters, yticklabels=letters)
    title = f"Attention of the model {label} on {name}: rows look at columns, · is the boundary"
    def draw(axes):
        for layer, row in enumerate(axes):
            for head, cell in enumerate(row):
                square = [[weights.get((layer + 1, head + 1, query, key), 0) for key in range(len(letters))]
                          for query in range(len(letters))]
                cell.imshow(square, cmap="Blues", vmin=0, vmax=1)
                cell.set(**ticks)
                cell.tick_params(length=0, labelsize=8)
                cell.grid(False)
                if not layer: cell.set_title(f"head {head + 1}", fontsize=11, loc="center")
                if not head: cell.set_ylabel(f"layer {layer + 1}", fontsize=11)
        axes[0][0].figure.suptitle(title, x=0.02, ha="left", fontsize=13)
    return picture(draw, 2.15 * layers + 0.5, layers, heads, squeeze=False)
