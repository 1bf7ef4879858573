"""README.md: what is written by hand holds no figure that a run could make untrue."""

import re

from common import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def by_hand(text):
    """What was typed: without generated blocks, code fences and the targets of links, the lines where they were."""

    def blank(found):
        return "\n" * found[0].count("\n")

    text = re.sub(r"<!-- (\S+):begin -->.*?<!-- \1:end -->", blank, text, flags=re.S)
    text = re.sub(r"^( *)(```+|~~~+).*?^ *\2 *$", blank, text, flags=re.M | re.S)
    return re.sub(r"\]\([^)\s]*\)|<https?:[^>]*>", "]", text)


def typed_figures(text):
    """(line, figure) of every number with two decimals or more that is no version of Python or torch."""
    lines = [
        re.sub(r"(Python |torch ?(==)?)\d+(\.\d+)+", "", line) for line in by_hand(text).split("\n")
    ]
    return [
        (number, figure)
        for number, line in enumerate(lines, start=1)
        for figure in re.findall(r"\d+\.\d{2,}", line)
    ]


def test_no_figure_is_typed_by_hand():
    """A loss in the prose would stay when the runs change; those in blocks are made by results/report.py."""
    assert typed_figures(README) == []


def test_a_figure_typed_by_hand_is_found():
    for text in (
        "It ends at 1.94.",
        "> 2.0731 in `x`",
        "| a | −0.0312 |",
        "Python 3.10 gives 1.85",
        "exp(-1.942)",
    ):
        assert len(typed_figures(README + text)) == 1, text
        assert typed_figures(README + text)[0][0] == README.count("\n") + 1
    for text in (
        "Python 3.10",
        "torch==2.13.0",
        "torch 2.13.0",
        "1,000 names",
        "a factor of 1.5",
        "[x](http://y/1.234)",
        "```\n1.234\n```",
        "<!-- comparison:begin -->\n1.234\n<!-- comparison:end -->",
    ):
        assert typed_figures(text) == [], text
    assert (
        len(
            typed_figures(
                "<!-- a:begin -->\n<!-- a:end -->\n1.23\n<!-- b:begin -->\n<!-- b:end -->"
            )
        )
        == 1
    )
    assert len(typed_figures("```\nx\n```\n1.23\n```\ny\n```")) == 1
