"""The way of an experimenter: copy a script, change it, run, compare, share it as a patch."""

import re

import compare
import pytest
import renew
import report
import reproduce
import sample
from lib.command import Failure
from lib.patches import applied
from lib.scripts import load
from tools import BASE, LAST, edit, miniature

OWN = "train-2-narrow-mlp"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The script that the README makes, in a project; no figures."""
    monkeypatch.setattr(report, "draw", lambda m: {})
    monkeypatch.setattr(report, "stale", lambda m: {})
    project = miniature(tmp_path / "project")
    text = project.path(LAST).read_text("utf-8")
    text = re.sub("^.*", '"""narrow MLP: half the width.', text, count=1)
    text = re.sub("^BUILDS_ON = .*", f'BUILDS_ON = "{LAST}"', text, flags=re.M)
    text = text.replace("4 * config.n_embd", "2 * config.n_embd")
    project.path(OWN).write_text(text, "utf-8")
    return project


def test_the_way_from_a_copy_to_a_patch(project, capsys):
    """A run by hand counts like one of reproduce.py."""
    for name, seed in (OWN, "1"), (LAST, "0"), (LAST, "1"):
        load(project.path(name)).main(["--device", "cpu", "--seed", seed])
    reproduce.main(["--seeds", "2", f"{OWN}.py", LAST], project.root)
    assert len(project.results_rows()) == 4
    capsys.readouterr()
    compare.main([OWN, f"{LAST}.py"], project.root)
    said = capsys.readouterr().out.replace("−", "-")
    losses = {(row["script"], row["seed"]): row["test"] for row in project.results_rows()}
    first, second = (losses[OWN, seed] - losses[LAST, seed] for seed in (0, 1))
    half = 12.7062 * abs(first - second) / 2  # Student's t at df 1
    words = f"{(first + second) / 2:+.4f} ± {half:.4f}"
    assert f"change in test:  {words}" in said and f"{first:+.4f}" in said
    assert "p = " in said and "80% power" in said

    script = project.path(OWN).read_text("utf-8")
    renew.main([OWN], project.root)
    project.path(OWN).unlink()
    with applied(project.root) as folder:
        assert (folder / f"{OWN}.py").read_text("utf-8") == script
    present = {path.name for path in project.root.iterdir()}
    project.page.write_text("<!-- group own steps -->\n<!-- end -->\n")
    capsys.readouterr()
    reproduce.main(["--seeds", "2", OWN], project.root)
    assert len(project.results_rows()) == 4, "as an idea it has its rows"
    report.main([], project.root)
    patch = f"results/ideas/{OWN.removeprefix('train-2-')}.patch"
    (line,) = re.findall(r"^\| \[narrow MLP\].*", project.page.read_text("utf-8"), re.M)
    assert line.startswith(f"| [narrow MLP]({patch}) | + GELU | ") and words in line.replace(
        "−", "-"
    )
    capsys.readouterr()
    sample.main([f"{OWN}-seed0", "--num", "3"], project.root)
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3 and "has changed" not in captured.err
    assert {path.name for path in project.root.iterdir()} == present, "nothing is left behind"


def test_what_cannot_be_compared_is_reported_with_what_to_run(project):
    with pytest.raises(Failure, match=f"reproduce.py --seeds 5 {OWN} {LAST} -- --steps 9$"):
        compare.main([OWN, LAST, "--", "--steps", "9"], project.root)
    project.add_row(BASE)
    edit(project.path(BASE), "optimizer.step()", "optimizer.step()\n        pass")
    with pytest.raises(Failure, match=f"; {BASE} has 1 run made by another source$"):
        compare.main([BASE, LAST], project.root)
