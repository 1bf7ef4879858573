"""The pages: what stands between markers, `<!-- NAME ... -->` and `<!-- end -->`, made anew.

A marker names a block (blocks.py) or a figure inside a sentence (figures.py).
"""

import re

from harness.blocks import BLOCKS
from harness.command import Failure
from harness.figures import FIGURES, resolve

MARKED = re.compile(r"<!-- ([^\n]*?) -->(.*?)<!-- end -->", flags=re.DOTALL)


def pages(root):
    return [root / "README.md", root / "results" / "README.md"]


def rebuild(page, evidence):
    """The page's text, what it becomes, and the presumptions of its sentences that do not hold."""
    try:
        text = page.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise Failure(f"{page} is not UTF-8: {error}") from error
    broken = []

    def fill(match):
        marker = match[1]
        name = marker.partition(" ")[0]
        line = text.count("\n", 0, match.start()) + 1
        if name in BLOCKS:
            body = f"\n\n{BLOCKS[name](evidence, page.parent)}\n\n"
        elif name in FIGURES:
            if not text[: match.start()].rpartition("\n")[2].strip():
                raise Failure(
                    f"{page}, line {line}: a figure begins a line, which ends a paragraph"
                )
            try:
                body, problem = resolve(evidence, marker)
            except Failure as error:
                raise Failure(f"{page}, line {line}: {error}") from error
            if problem:
                broken.append(f"{page}, line {line}: {problem}")
        else:
            known = ", ".join([*BLOCKS, *FIGURES])
            raise Failure(f"{page}, line {line}: no block or figure {name!r}; there are {known}")
        return f"<!-- {marker} -->{body}<!-- end -->"

    new, count = MARKED.subn(fill, text)
    if 2 * count != text.count("<!--"):
        raise Failure(f"{page}: a marker has no <!-- end -->, or an <!-- end --> no marker")
    return text, new, broken


def differences(page, old, new):
    """The first line in which the page differs from what it should be; nothing where it is so."""
    before, after = old.split("\n"), new.split("\n")
    pairs = zip([*before, "(the end)"], [*after, "(the end)"], strict=False)
    for number, (was, should) in enumerate(pairs, start=1):
        if was != should:
            return [f"{page}, line {number}:\n  it is:     {was}\n  should be: {should}"]
    return []
