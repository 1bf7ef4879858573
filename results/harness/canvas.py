"""What the pictures share: their style, and how they become a file."""

import io

import matplotlib
import numpy as np
from matplotlib.figure import Figure

# Okabe and Ito's colour-blind-safe palette, with grey for its yellow, too pale for a line on white.
COLOURS = "#000000 #E69F00 #56B4E9 #009E73 #999999 #0072B2 #D55E00 #CC79A7".split()
STYLE = {
    "font.size": 11,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "legend.framealpha": 1,
    "lines.linewidth": 1.8,
    "savefig.dpi": 190,
}
REFERENCE = {"color": "#666666", "linestyle": ":", "linewidth": 1.5}
LOSS = "test loss (nats per character)"


def picture(plot, height, rows=1, columns=1, **shared):
    """The PNG, 1615 pixels wide, of what plot(axes) draws."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's own settings are
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(8.5, height), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)  # inches
        plot(figure.subplots(rows, columns, **shared))
        file = io.BytesIO()
        options = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
        figure.savefig(file, format="png", **options)
    return file.getvalue()


def apart(heights, gap):
    """Places as near to the heights, which ascend, as a gap between neighbours lets them be."""
    places = np.array(heights, dtype=float)
    for _ in range(1000):  # push what is too close apart, a little at a time
        overlap = gap - np.diff(places)
        if (overlap <= 1e-6).all():
            break
        push = np.where(overlap > 0, overlap / 2, 0)
        places[:-1] -= push
        places[1:] += push
    return places


def band(axes, x, seeds, **style):
    """Mean and range of the values that the seeds have at every x: as many lists as there are x."""
    axes.plot(x, [np.mean(values) for values in seeds], **style)
    fill = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
    axes.fill_between(x, [*map(min, seeds)], [*map(max, seeds)], **fill)
