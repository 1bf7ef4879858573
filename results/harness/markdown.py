"""Markdown that the tables of the pages share."""

import os
import urllib.parse

import numpy as np

NONE = "–"


def cell(value):
    return " ".join(str(value).split()).replace("|", "\\|")


def table(header, rows):
    """Markdown; the first column is text, the others are figures."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [" | ".join(map(cell, line)) for line in [header, rule, *rows]]
    return "\n".join(f"| {line} |" for line in lines)


def link(step, folder):
    """The step's label, linked to its script or patch."""
    target = os.path.relpath(step.patch or step.path, folder).replace(os.sep, "/")
    return f"[{step.label}]({urllib.parse.quote(target)})"


def parameters(step):
    return f"{step.values('params')[-1]:,}" if step.rows else NONE


def mean(values):
    return f"{np.mean(values):.4f}" if values else NONE


def spread(values):
    """The mean, and the standard deviation over the seeds."""
    return f"{mean(values)}<br>±{np.std(values, ddof=1):.4f}" if len(values) > 1 else mean(values)
