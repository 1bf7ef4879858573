"""results/sample.py: names from a model that was trained before."""

import re
import shutil
import unicodedata

import pytest
import sample
import torch
from lib.command import Failure
from lib.scripts import load
from lib.steps import LISTED
from tools import BASE, edit, miniature, write_table

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
    """sample.py on the project: the names that it printed, and its last line."""

    def run(*argv, name=RUN, root=trained.root):
        data = ["--data", str(trained.root / "data" / "names.txt")]
        capsys.readouterr()
        sample.main([name, *([] if "--data" in argv else data), *map(str, argv)], root)
        out, err = capsys.readouterr()
        return out.split("\n")[:-1], err

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
    first, last = call("--num", 30)
    seed = re.search(r"seed (\d+)", last)[1]
    assert call("--num", 30, "--seed", seed)[0] == first
    assert call("--num", 30, "--seed", int(seed) + 1)[0] != first
    (row,) = trained.results_rows()
    assert call("--seed", SEED)[0] == row["samples"]


def test_a_step_is_called_by_any_of_its_names_for_seed_0(trained, call, tmp_path):
    """Also by a short one."""
    row = dict.fromkeys(LISTED, "") | {"name": f"{BASE},n_embd=8", "short": f"{BASE}@small"}
    write_table(trained.root / "results" / "ideas" / "settings.csv", [row])
    (tmp_path / "checkpoints").mkdir()
    plain, small = f"{BASE}-seed0", f"{BASE},n_embd=8-seed0"
    for file in plain, small:
        path = trained.results / "checkpoints" / f"{RUN}.pt"
        shutil.copy(path, tmp_path / "checkpoints" / f"{file}.pt")
    names = {BASE: plain, f"{BASE}.py,n_embd=08": small, f"{BASE}@small": small}
    for name, file in names.items():
        assert call("--results-dir", tmp_path, name=name)[1].endswith(f"{file}.pt\n")
    assert plain in refused(call, "--results-dir", tmp_path, name=f"{BASE},n_embd=9")


def test_every_name_begins_with_the_prompt(known, call):
    names, _ = call("--num", 40, "--prompt", "eli")
    assert all(name.startswith("eli") for name in names)
    assert len(set(names)) > 1
    longest = max(map(len, known))  # the longest prompt is a name as long
    assert call("--prompt", "a" * longest)[0] == ["a" * longest] * 10
    assert str(longest) in refused(call, "--prompt", "a" * (longest + 1))
    assert "'Xß'" in refused(call, "--prompt", "aXbß")


def test_new_names_are_counted(known, call):
    """Also where there are more than are drawn at once."""
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
    typed = unicodedata.normalize("NFD", "Kö")  # as some keyboards have it
    names, last = call(*words, "--prompt", typed, name=path.stem)
    assert all(name.startswith("Kö") for name in names)
    assert "of them new" in last
    assert "not what this model was trained on" in refused(call, "--data", towns)


@pytest.mark.parametrize("flag", ["--num=0", "--temperature=nan", "--top-k=0", "--seed=-1"])
def test_wrong_use_is_refused(call, flag):
    assert flag.partition("=")[0] in refused(call, flag)


def test_a_checkpoint_that_cannot_be_sampled_from_is_refused(trained, call, tmp_path):
    assert refused(call, name="train-2-seed9").endswith(RUN), "the closest that there is"
    assert "train a model" in refused(call, "--results-dir", tmp_path)
    path = tmp_path / "checkpoints" / f"{RUN}.pt"
    path.parent.mkdir()
    path.write_bytes(b"no checkpoint")
    assert "damaged" in refused(call, "--results-dir", tmp_path)
    state = torch.load(trained.results / "checkpoints" / f"{RUN}.pt", weights_only=True)
    state["run"]["block_size"] = 8  # as stream.py has it
    torch.save(state, path)
    assert "trained on a text by stream.py" in refused(call, "--results-dir", tmp_path)


def test_a_script_that_has_changed_since(trained, call, tmp_path):
    """Another model is an error; where only the training has changed, a note says so."""
    where = "--results-dir", trained.results
    project = miniature(tmp_path / "other", [BASE])
    edit(project.path(BASE), "3 * config", "6 * config")
    assert f"{BASE} has changed" in refused(call, *where, root=project.root)
    project = miniature(tmp_path / "noted", [BASE])
    edit(project.path(BASE), "weight_decay, fused=True", "weight_decay, fused=False")
    assert f"note: {BASE}.py has changed" in call(*where, root=project.root)[1]
    assert "note" not in call()[1]
