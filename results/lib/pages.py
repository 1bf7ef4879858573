"""The pages: what stands between `<!-- NAME [words] -->` and `<!-- end -->`, made anew.

A block, on a line of its own, is a table or list, see lib/blocks.py. In a sentence there are three
kinds of marker, see lib/markers.py.
"""

import re

from lib import blocks, idea_blocks
from lib.command import Failure
from lib.markers import FORMS, fill

BLOCKS = blocks.BLOCKS | idea_blocks.BLOCKS


# --- Pages ---
def pages(root):
    """The page of the learner, of the sceptic, and of the experimenter."""
    return [root / folder / "README.md" for folder in ("", "results", "results/ideas")]


def body(m, page, marker, line_before):
    """What belongs between a marker and its end, and the claim that does not hold, or None."""
    name, *words = marker.split() or [""]
    if name in FORMS:
        if re.fullmatch(r"\s*([-*>]|\d+\.)?\s*", line_before):
            raise Failure("a figure begins a line, which ends a paragraph: put a word before it")
        return fill(m, marker)
    if name not in BLOCKS:
        raise Failure(f"no block or figure {name!r}; there are {', '.join([*BLOCKS, *FORMS])}")
    if line_before.strip() or (words and name not in ("group", "tuned_ideas")):
        raise Failure(f"{marker!r} must be a line of its own: <!-- {name} -->")
    return f"\n\n{BLOCKS[name](m, page.parent, *words)}\n\n", None


def rebuild(page, m):
    """The page's text, what it becomes, and the claims of its sentences that do not hold."""
    text = page.read_text(encoding="utf-8")
    new, broken, place, opened, line = [], [], 0, None, 1
    try:
        for match in re.finditer(r"<!--(?: ([^\n]*?) -->)?", text):
            line = text.count("\n", 0, match.start()) + 1
            marker = match[1]
            if marker is None or (marker == "end") != (opened is not None):
                raise Failure(f"{opened or match[0]!r}: markers are <!-- NAME --> ... <!-- end -->")
            if marker == "end":
                opened = None
            else:
                opened = marker
                filled, problem = body(m, page, marker, text[: match.start()].rpartition("\n")[2])
                broken += [f"{page}, line {line}: {problem}"] if problem else []
                new += [text[place : match.end()], filled]
            place = match.start() if marker == "end" else place
        if opened is not None:
            raise Failure(f"{opened!r} has no <!-- end -->")
    except Failure as error:
        raise Failure(f"{page}, line {line}: {error}") from error
    return text, "".join([*new, text[place:]]), broken


def differences(page, old, new):
    """The first line in which the page differs from what it should be; nothing where it is so."""
    before, after = old.split("\n"), new.split("\n")
    pairs = zip([*before, "(the end)"], [*after, "(the end)"], strict=False)
    for line, (was, should) in enumerate(pairs, start=1):
        if was != should:
            return [f"{page}, line {line}:\n  it is:     {was}\n  should be: {should}"]
    return []
