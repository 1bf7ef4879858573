"""results/sample.py: names from a model that was trained before."""

import re
import subprocess
import sys

import pytest
import torch
from common import ROOT, tree
from tools import BASE, edit, miniature

sys.path.insert(0, str(ROOT / "results"))

import sample
from lib.command import Failure
from lib.steps import load

SEED = 3
RUN = f"train-2-baseline-seed{SEED}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A project in which the baseline was trained for a few steps."""
    project = miniature(tmp_path_factory.mktemp("sample") / "project", [BASE])
    load(project.path(BASE)).main(["--device", "cpu", "--seed", str(SEED)])
    return project


@pytest.fixture
def call(trained, capsys):
    """sample.py on the project: the names that it printed, and what it told beside them."""

    def run(*argv, name=RUN, root=trained.root):
        data = ["--data", str(trained.root / "data" / "names.txt")]
        capsys.readouterr()
        sample.main([name, *([] if "--data" in argv else data), *map(str, argv)], root)
        out, told = capsys.readouterr()
        assert out.endswith("\n")
        return out.split("\n")[:-1], told

    return run


def refused(call, *argv, **options):
    """The message with which it refuses."""
    with pytest.raises(Failure) as failure:
        call(*argv, **options)
    assert failure.value.status == 2
    return str(failure.value)


@pytest.fixture(scope="module")
def known(trained):
    """The names on which it was trained and tested."""
    return (trained.root / "data" / "names.txt").read_text().split("\n")


def test_a_seed_gives_its_names_and_that_of_the_run_those_that_it_recorded(trained, call):
    before = tree(trained.root)
    first, told = call("--num", 30)
    seed = re.search(r"seed (\d+)", told)[1]
    assert call("--num", 30, "--seed", seed)[0] == first
    assert call("--num", 30, "--seed", int(seed) + 1)[0] != first
    (row,) = trained.results_rows()
    assert call("--seed", SEED)[0] == row["samples"]
    assert tree(trained.root) == before, "nothing is written"


def test_every_name_begins_with_the_prompt(known, call):
    names, _ = call("--num", 40, "--prompt", "eli")
    assert all(name.startswith("eli") for name in names)
    assert len(set(names)) > 1
    longest = max(map(len, known))  # the longest prompt is a name as long
    assert call("--prompt", "a" * longest)[0] == ["a" * longest] * 10
    assert str(longest) in refused(call, "--prompt", "a" * (longest + 1))
    assert "'Xß'" in refused(call, "--prompt", "aXbß")


def test_a_low_temperature_and_few_characters_to_choose_from_give_likely_names(call):
    cold, warm = (call("--num", 20, "--temperature", t, "--seed", 1)[0] for t in (0.01, 1))
    assert len(set(cold)) < 5 < len(set(warm))
    assert len(set(call("--num", 20, "--top-k", 1)[0])) == 1
    assert call("--num", 20, "--top-k", 999, "--seed", 1)[0] == warm


def test_new_names_are_counted(known, call):
    """Also where more are asked for than are drawn at once; some of them are of the list."""
    names, last = call("--num", 1003, "--seed", 5)
    new = sum(name not in known for name in names)
    assert 0 < new < len(names) == 1003
    assert last.startswith(f"1003 names, {new} of them new;")


def test_a_model_of_ones_own_data(trained, call, tmp_path):
    """With characters of its own, found by the name of its run."""
    towns = tmp_path / "towns.txt"
    towns.write_text("Köln\nUlm\nJena\nÖhr\nRüm\n" * 4, "utf-8")
    words = ["--data", str(towns), "--results-dir", str(tmp_path)]
    load(trained.path(BASE)).main(["--device", "cpu", *words])
    (path,) = (tmp_path / "checkpoints").iterdir()
    names, last = call(*words, "--prompt", "Kö", name=path.stem)
    assert all(name.startswith("Kö") for name in names)
    assert "of them new" in last
    assert "not what this model was trained on" in refused(call, "--data", towns)


@pytest.mark.parametrize(
    "flag", ["--num=0", "--temperature=0", "--temperature=nan", "--top-k=0", "--seed=" + "9" * 20]
)
def test_wrong_use_is_told(call, flag):
    assert flag.partition("=")[0] in refused(call, flag)


def test_a_checkpoint_that_cannot_be_sampled_from_is_told(trained, call, tmp_path):
    assert refused(call, name="train-2-seed9").endswith(RUN), "the closest that there are"
    assert "train a model" in refused(call, "--results-dir", tmp_path)
    whole = trained.results / "checkpoints" / f"{RUN}.pt"
    path = tmp_path / "checkpoints" / f"{RUN}.pt"
    path.parent.mkdir()
    for content in b"", b"no checkpoint", whole.read_bytes()[: whole.stat().st_size // 2]:
        path.write_bytes(content)
        assert "damaged" in refused(call, "--results-dir", tmp_path)
    state = torch.load(whole, weights_only=True)
    state["run"]["block_size"] = 8  # as stream.py notes it
    torch.save(state, path)
    assert "trained on a text by stream.py" in refused(call, "--results-dir", tmp_path)


def test_a_script_that_has_changed_since_is_told(trained, call, tmp_path):
    """It is a note where only the training has: the model is the same."""
    where = "--results-dir", trained.results
    for old, new in ("head_size: int", "size: int"), ("3 * config", "6 * config"):
        project = miniature(tmp_path / new, [BASE])
        edit(project.path(BASE), old, new)
        assert f"{BASE} has changed" in refused(call, *where, root=project.root)
    project = miniature(tmp_path / "noted", [BASE])
    edit(project.path(BASE), "weight_decay, fused=True", "weight_decay, fused=False")
    assert f"note: {BASE}.py has changed" in call(*where, root=project.root)[1]
    assert "note" not in call()[1]


def test_the_reader_of_a_pipe_may_have_enough(trained):
    """The command ends, and quietly: no error, no traceback."""
    words = f"{ROOT / 'results' / 'sample.py'} {RUN} --num 100000000 --results-dir"
    line = f"{sys.executable} {words} {trained.results} | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=60)
    assert len(done.stdout.splitlines()) == 1
    assert all(told.startswith("note: ") for told in done.stderr.splitlines())
