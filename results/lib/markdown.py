"""Markdown, and how numbers are written."""

import math
import os
import urllib.parse

import numpy as np

NONE = "–"
NOT_RECORDED = "(not recorded)"


def cell(value):
    return " ".join(str(value).split()).replace("|", "\\|")


def table(header, rows):
    """A table; the first column is text, the others are figures."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    lines = [" | ".join(map(cell, line)) for line in [header, rule, *rows]]
    return "\n".join(f"| {line} |" for line in lines) if rows else "No run is recorded yet."


def link(step, folder):
    """The step's label, linked to its script or patch, or to the list of settings."""
    target = os.path.relpath(step.file, folder).replace(os.sep, "/")
    return f"[{step.label}]({urllib.parse.quote(target)})"


def number(value, digits=4):
    return NONE if value is None else f"{value:,.{digits}f}"


def signed(value, digits=4):
    """+0.1234 or −0.1234, with a minus sign of the width of the plus."""
    value = round(value, digits) + 0.0  # no -0.0
    return f"{value:+.{digits}f}".replace("-", "−")


def average(values):
    """The mean of {seed: value}."""
    return number(np.mean([*values.values()]) if values else None)


def plus_minus(found, write=signed, digits=3):
    """−0.137 ± 0.007: a mean and half its 95% interval."""
    if found is None:
        return NOT_RECORDED
    if math.isnan(found.half):
        return f"{write(found.mean, digits)} (one seed)"
    if 0 < found.half < 0.5 * 0.1**digits:
        digits += 1  # a half-width that is not zero does not look like zero
    half = f" ± {found.half:.{digits}f}" if found.n else ""
    return write(found.mean, digits) + half


def change(found, digits=4):
    """A change in a cell of a table: −0.1371 ± 0.0072, or +0.0010 ± 0.0041 n.s."""
    if found is None:
        return NONE
    doubt = "" if found.significant or math.isnan(found.half) else " n.s."
    return plus_minus(found, digits=digits) + doubt
