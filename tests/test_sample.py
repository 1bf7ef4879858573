"""results/sample.py: names from a model that was trained before."""

import csv
import json
import re
import subprocess
import sys

import pytest
from common import ROOT, tree
from tools import BASE, edit, miniature

sys.path.insert(0, str(ROOT / "results"))

import sample
import stream
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


def all_names(project):
    return (project.root / "data" / "names.txt").read_text().split("\n")


def test_with_the_seed_of_the_run_come_the_names_that_it_recorded(trained, call):
    with open(trained.table, newline="") as file:
        (row,) = csv.DictReader(file)
    names, last = call("--seed", SEED)
    assert names == json.loads(row["samples"])


def test_the_same_seed_gives_the_same_names(trained, call):
    before = tree(trained.root)
    first, told = call("--num", 30)
    seed = re.search(r"seed (\d+)", told)[1]
    assert call("--num", 30, "--seed", seed)[0] == first
    assert call("--num", 30, "--seed", int(seed) + 1)[0] != first
    assert tree(trained.root) == before, "nothing is written"


def test_every_name_begins_with_the_prompt(trained, call):
    names, _ = call("--num", 40, "--prompt", "eli")
    assert all(name.startswith("eli") for name in names)
    assert len(set(names)) > 1
    longest = max(map(len, all_names(trained)))  # the longest prompt is a name as long
    assert call("--prompt", "a" * longest)[0] == ["a" * longest] * 10
    assert str(longest) in refused(call, "--prompt", "a" * (longest + 1))


def test_a_low_temperature_draws_likely_names(call):
    cold, warm = (call("--num", 20, "--temperature", t, "--seed", 1)[0] for t in (0.01, 1))
    assert len(set(cold)) < 5 < len(set(warm))


def test_top_k_1_draws_the_likeliest_name(call):
    assert len(set(call("--num", 20, "--top-k", 1)[0])) == 1
    every, all_of_them = (call("--seed", 1, *words)[0] for words in ([], ["--top-k", 999]))
    assert every == all_of_them


def test_new_names_are_counted(trained, call):
    """Also where more are asked for than are drawn at once; some of them are of the list."""
    names, last = call("--num", 1003, "--seed", 5)
    new = sum(name not in all_names(trained) for name in names)
    assert 0 < new < len(names) == 1003
    assert last.startswith(f"1003 names, {new} of them new;")


def test_a_model_of_ones_own_data(trained, call, tmp_path):
    """With characters of its own, found by the name of its run."""
    towns = tmp_path / "towns.txt"
    towns.write_text("Köln\nUlm\nJena\nÖhr\nRüm\n" * 4, "utf-8")
    folder = tmp_path / "results"
    words = ["--device", "cpu", "--data", str(towns), "--results-dir", str(folder)]
    load(trained.path(BASE)).main(words)
    (path,) = (folder / "checkpoints").iterdir()
    where = ["--results-dir", folder, "--data", towns]
    names, last = call(*where, "--prompt", "Kö", name=path.stem)
    assert all(name.startswith("Kö") for name in names)
    assert "of them new" in last
    assert "not what this model was trained on" in refused(call, "--data", towns)
    assert "'zß'" in refused(call, *where, "--prompt", "zaß", name=path.stem)


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--num", "0"], "--num"),
        (["--temperature", "0"], "--temperature"),
        (["--top-k", "0"], "--top-k"),
        (["--temperature", "nan"], "--temperature"),
        (["--prompt", "aXby"], "'Xy'"),
        (["--seed", str(2**63)], "--seed"),
    ],
)
def test_wrong_use_is_told(call, argv, told):
    assert told in refused(call, *argv)


def test_a_run_without_a_checkpoint_is_told_with_those_there_are(call, tmp_path):
    assert refused(call, name="train-2-seed9").endswith(RUN)
    assert "train a model" in refused(call, "--results-dir", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", "half"])
def test_a_damaged_checkpoint_is_told(trained, call, tmp_path, content):
    whole = (trained.results / "checkpoints" / f"{RUN}.pt").read_bytes()
    path = tmp_path / "checkpoints" / f"{RUN}.pt"
    path.parent.mkdir()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    assert "damaged" in refused(call, "--results-dir", tmp_path)


@pytest.mark.parametrize(
    "old, new", [("head_size: int", "size: int"), ("3 * config", "6 * config")]
)
def test_a_script_that_has_changed_since_is_told(trained, call, tmp_path, old, new):
    project = miniature(tmp_path / "project", [BASE])
    edit(project.path(BASE), old, new)
    told = refused(call, "--results-dir", trained.results, root=project.root)
    assert f"{BASE} has changed" in told


def test_a_script_that_trains_otherwise_is_noted(trained, call, tmp_path):
    project = miniature(tmp_path / "project", [BASE])
    edit(project.path(BASE), "weight_decay, fused=True", "weight_decay, fused=False")
    note = f"note: {BASE}.py has changed"
    assert note in call("--results-dir", trained.results, root=project.root)[1]
    assert "note" not in call()[1]


def test_a_model_of_a_text_is_not_for_names(call, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("a text is no list of names " * 20)
    words = "--steps 1 --block-size 8 --device cpu --results-dir".split()
    stream.main([BASE, "--text", str(text), *words, str(tmp_path)])
    (path,) = (tmp_path / "checkpoints").iterdir()
    assert "stream.py" in refused(call, "--results-dir", tmp_path, name=path.stem)


def test_the_reader_of_a_pipe_may_have_enough(trained):
    """`sample.py ... --num 100000000 | head -1` ends, and quietly."""
    words = [sys.executable, str(ROOT / "results" / "sample.py"), RUN, "--num", "100000000"]
    words += ["--results-dir", str(trained.results)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(words, **pipes) as process:
        assert process.stdout.readline().endswith(b"\n")
        process.stdout.close()
        told = process.stderr.read().decode().splitlines()
        assert process.wait(timeout=60) == 1
    assert all(line.startswith("note: ") for line in told), "no error, no traceback"
