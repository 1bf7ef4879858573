"""README.md, "Add a step": its commands and its diff, walked through as an experimenter does."""

import re
import shlex
import sys

from common import CHAIN, ROOT, read_table, violation
from tools import LAST, edit, miniature, signed

sys.path.insert(0, str(ROOT / "results"))

import report
import reproduce
from harness import pictures
from harness.scripts import load

SECTION = (ROOT / "README.md").read_text("utf-8").split("\n## Add a step\n")[1].split("\n## ")[0]
OWN = "train-2-narrow-mlp"


def code(kind):
    """The code blocks of the section of one kind, a language or none."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", SECTION, flags=re.M | re.S)
    return [body for language, body in blocks if language == kind]


def hunks():
    """(what to replace, by what) of every change in the README's diff."""
    (diff,) = code("diff")
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        yield tuple("".join(x[1:] for x in lines if x.startswith(sign)) for sign in "-+")


def add_step(root):
    """The script that the README makes, in a project."""
    copy, run = [shlex.split(line) for line in "".join(code("")).strip().splitlines()]
    assert copy == ["cp", f"{LAST}.py", f"{OWN}.py"]
    path = root / copy[2]
    text = (root / copy[1]).read_text("utf-8")
    for old, new in hunks():
        assert text.count(old) == 1, f"the diff does not apply: {old}"
        text = text.replace(old, new)
    assert "PRESETS = {}" in SECTION
    text, count = re.subn(r"^PRESETS = \{.*?^\}$", "PRESETS = {}", text, flags=re.M | re.S)
    assert count == 1
    path.write_text(text, "utf-8")
    return path, run


def test_the_walk_through_the_readme(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "draw", lambda evidence: {})
    project = miniature(tmp_path / "project", [*CHAIN])
    path, run = add_step(project.root)
    page = project.root / "README.md"
    page.write_text("<!-- comparison --><!-- end -->\n\n<!-- chain --><!-- end -->\n")

    assert run[1:] == ["results/reproduce.py", "--seeds", "5", "--jobs", "2", OWN]
    reproduce.main(["--seeds", "1", *run[4:]], project.root)
    for script, seed in (LAST, "0"), (LAST, "1"), (OWN, "1"):
        load(project.path(script)).main(["--device", "cpu", "--seed", seed])
    assert "`report.py`" in SECTION
    report.main([], project.root)
    report.main(["--check"], project.root)

    rows = {(row["script"], row["seed"]): row for row in read_table(project.table)}
    assert len(rows) == 4
    first, second = (float(rows[OWN, s]["test"]) - float(rows[LAST, s]["test"]) for s in "01")
    mean, half = (first + second) / 2, 12.7062 * abs(first - second) / 2  # Student's t at df 1
    assert half > 0
    text = page.read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith("| [")]
    assert lines[-2].startswith(f"| [+ GELU]({LAST}.py) |")
    assert lines[-1].startswith(f"| [narrow MLP]({OWN}.py) | {int(rows[OWN, '0']['params']):,} |")
    assert f"| {signed(mean)}<br>{signed(mean - half)} to {signed(mean + half)}" in lines[-1]

    own = text.split("<details>")[-1]
    (_, title), *changes = hunks()
    assert f"<b>narrow MLP</b>: {title.split(': ')[1].strip()}</summary>" in own
    for old, new in changes:
        assert all(f"\n-{line}" in own for line in old.splitlines())
        assert all(f"\n+{line}" in own for line in new.splitlines())


def test_the_step_has_half_the_mlp_and_keeps_the_identity_rule(tmp_path):
    project = miniature(tmp_path / "project", [*CHAIN])
    path, _ = add_step(project.root)
    project.look_again()
    step, base = project.steps[OWN], project.steps[LAST]
    models = [x.module.Transformer(x.config, 28, 16) for x in (step, base)]
    own, its = (model.layers[0].mlp.fc.out_features for model in models)
    assert its == 2 * own
    assert step.builds_on == LAST
    assert violation(path, base.path) is None
    edit(path, "torch.optim.AdamW", "torch.optim.Adam")
    assert f"{OWN}.py line" in violation(path, base.path)
