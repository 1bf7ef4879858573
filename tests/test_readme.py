"""The three pages: what they name exists, and no figure is typed by hand."""

import contextlib
import importlib
import io
import re
import sys

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "results"))

from lib.command import run
from lib.pages import BLOCKS
from lib.patches import applied, patches
from lib.scripts import load
from lib.tables import RESULTS, read_csv

PAGES = [ROOT / folder / "README.md" for folder in ("", "results", "results/ideas")]
OWN = {"train-2-narrow-mlp.py", "train-2-mine.py"}  # the reader makes them
IDEAS = patches(ROOT)


@pytest.fixture(params=PAGES, ids=["README", "results", "ideas"])
def page(request):
    return request.param


FENCE = re.compile(r"^```\w*\n(.*?)^```$", flags=re.M | re.S)


def by_hand(page):
    """The text of a page without what report.py makes."""
    return re.sub(r"<!-- .*?<!-- end -->", "", page.read_text("utf-8"), flags=re.S)


def test_no_line_begins_with_a_figure(page):
    """GitHub would end the paragraph there."""
    for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
        if marker := re.match(r"\s*<!-- (\S+)", line):
            assert marker[1] in ("end", *BLOCKS), f"line {number}: {line}"


def test_no_figure_is_typed_by_hand(page):
    """No number with two decimals, apart from code, links and versions."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", FENCE.sub("", by_hand(page)))
    text = re.sub(r"(Python|torch|PyTorch) \d+(\.\d+)+", "", text)
    assert re.findall(r"\d+\.\d{2,}", text) == []


def test_links_lead_to_files(page):
    text = page.read_text("utf-8")
    targets = [x for x in re.findall(r"\]\(([^)\s]+)\)", text) if not x.startswith("https://")]
    assert targets
    for target in targets:
        file, _, heading = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), flags=re.M)
            anchors = [re.sub(r"[^\w -]", "", x).lower().replace(" ", "-") for x in headings]
            assert heading in anchors, target


def test_scripts_that_the_pages_name_exist(page):
    named = set(re.findall(r"[\w./-]+\.py\b", by_hand(page))) - OWN - IDEAS.keys()
    assert named
    for name in named:
        assert any((place / name).exists() for place in (ROOT, ROOT / "results")), name


def test_the_columns_of_the_table_are_explained_and_it_is_loaded_as_the_page_says(monkeypatch):
    """With the csv module; pandas is not among the requirements."""
    text = PAGES[1].read_text("utf-8").partition("## How do I read results.csv?")[2]
    assert re.findall(r"^\| `(\w+)` \|", text, flags=re.M) == RESULTS
    (code,) = [x for x in FENCE.findall(text) if "import csv" in x]
    monkeypatch.chdir(ROOT)
    loaded = {}
    exec(code, loaded)
    recorded = read_csv(ROOT / "results" / "results.csv", RESULTS)
    assert [row["source"] for row in loaded["rows"]] == [row["source"] for row in recorded]
    assert [[*map(tuple, x)] for x in loaded["curves"]] == [row["curve"] for row in recorded]


def command_lines():
    """Every command line that calls one of ours, in code blocks and within the text."""
    found = []
    for page in PAGES:
        text = by_hand(page)
        code = "".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
        for line in [*code, *re.findall(r"`([^`]+)`", FENCE.sub("", text))]:
            words = line.replace('"', "").split()
            words = [word for word in words if not re.fullmatch(r"(.*/)?python3?|uv|run", word)]
            if words and re.fullmatch(r"(results/)?[\w-]+\.py", words[0]) and words[0] not in OWN:
                found.append(words)
    return found


def help_of(name):
    """What --help of a script, an idea or a command prints."""
    path = ROOT / name
    path = path if path.exists() else ROOT / "results" / name
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        if name in IDEAS:
            with applied(ROOT) as folder:
                load(folder / name).main(["--help"])
        elif path.parent == ROOT:
            load(path).main(["--help"])
        else:
            run(lambda: importlib.import_module(path.stem).main(["--help"]))
    return out.getvalue()


def test_the_commands_of_the_pages_take_their_flags():
    lines = command_lines()
    assert len(lines) > 10
    for name, *words in lines:
        told = help_of(name)
        if "stream" in name and words:  # the flags of the step go with its own
            told += help_of(f"{words[0]}.py")
        if "--" in words:  # what follows is for the scripts
            words.remove("--")
            told += help_of("train-2.py")
        for word in words:
            if word.startswith("--"):
                assert re.search(rf"{word}\b(?!-)", told), f"{name} has no {word}"
