"""results/sample.py: names from a checkpoint, what it says of them, and what it refuses."""

import os, re, shutil, sys, types

import pytest, torch

from common import ROOT, checkpoint, load, one_error

sys.path.insert(0, str(ROOT / "results"))
import sample, scripts as tools

SCRIPT = "train-2-2head-4layer-mlp-ln-rope.py"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of a few steps on a few names; its checkpoint and the data."""
    folder = tmp_path_factory.mktemp("trained")
    data = folder / "names.txt"
    data.write_text(
        "".join(
            f"{name}\n"
            for name in "ana bea cid dora edda finn gaia hugo ida jan kai lea".split() * 3
        )
    )
    load(SCRIPT).main(
        [
            "--steps",
            "60",
            "--batch-size",
            "8",
            "--learning-rate",
            "0.01",
            "--data",
            str(data),
            "--device",
            "cpu",
            "--results-dir",
            str(folder),
        ]
    )
    (path,) = (folder / "checkpoints").iterdir()
    return types.SimpleNamespace(path=path, data=data, state=checkpoint(folder), folder=folder)


@pytest.fixture
def ask(trained, capsys):
    """sample.py on that checkpoint: the names it printed, the summary under them, what it failed with."""

    def run(*argv, script=SCRIPT, checkpoint=trained.path, data=trained.data):
        flags = [f"--checkpoint={checkpoint}"] * bool(checkpoint) + [f"--data={data}"] * bool(data)
        capsys.readouterr()
        status = 0
        try:
            sample.main([script, *flags, *map(str, argv)])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        names, _, summary = out.rpartition("\n\n")  # a name can be empty
        return types.SimpleNamespace(
            status=status, names=names.split("\n") if out else [], summary=summary, err=err
        )

    return run


def count(summary, what):
    return int(re.search(rf"(\d+) {what}", summary).group(1))


def model_of(trained):
    return sample.restore(sample.load(SCRIPT), trained.state, trained.path)


def test_num_names_and_the_same_ones_for_the_same_seed(ask):
    first, again, other = (
        ask("--num", 30, "--seed", 1),
        ask("--num", 30, "--seed", 1),
        ask("--num", 30, "--seed", 2),
    )
    assert first.status == 0 and first.err == "" and len(first.names) == 30
    assert first.names == again.names != other.names
    assert "30 names" in first.summary and "seed 1" in first.summary
    drawn = ask("--num", 30)  # a seed of its own, which the summary names
    assert (
        drawn.names
        == ask("--num", 30, "--seed", re.search(r"seed (\d+),", drawn.summary).group(1)).names
    )


def test_at_temperature_1_the_names_are_those_that_the_script_generates(trained, ask):
    script = load(SCRIPT)
    data = types.SimpleNamespace(chars=trained.state["chars"], max_len=trained.state["max_len"])
    names = script.generate(model_of(trained), data, 40, torch.Generator().manual_seed(5))
    assert ask("--num", 40, "--seed", 5).names == names and len(set(map(len, names))) > 1


def test_the_counts_are_those_of_the_names(trained, ask):
    answer = ask("--num", 200, "--seed", 0, "--temperature", 2)
    known = set(trained.data.read_text().split())
    assert (
        0
        < count(answer.summary, "new")
        == sum(bool(name) and name not in known for name in answer.names)
        < 200
    )
    assert 0 < count(answer.summary, "repeated") == 200 - len(set(answer.names))


def test_cut_are_the_names_that_had_not_ended(trained):
    """A model that never ends a name, one that always does, and one that does where the longest name must."""

    def drawn(end_at):
        def model(tokens):
            logits = torch.zeros(*tokens.shape, len(trained.state["chars"]) + 2)
            logits[:, -1, 1] = 99 if tokens.size(1) > end_at else -99
            return logits

        return [
            sample.decode(row, trained.state)
            for row in sample.draw(model, trained.state, 3, torch.Generator())
        ]

    longest = trained.state["max_len"] - 1
    assert longest == 4
    assert [(len(name), cut) for name, cut in drawn(99)] == [(4, True)] * 3
    assert [(len(name), cut) for name, cut in drawn(4)] == [(4, False)] * 3
    assert [(len(name), cut) for name, cut in drawn(2)] == [(2, False)] * 3
    assert drawn(0) == [("", False)] * 3


def test_neither_pad_nor_a_second_beginning_is_drawn(trained):
    """Though this model thinks PAD the likeliest by far."""

    def model(tokens):
        logits = torch.zeros(*tokens.shape, len(trained.state["chars"]) + 2)
        logits[..., 0] = 1000
        return logits

    for top_k in (None, 1, 3, 100):
        rows = sample.draw(model, trained.state, 50, torch.Generator(), top_k=top_k)
        assert all(token != 0 for row in rows for token in row)


def test_a_prompt_begins_every_name(ask):
    answer = ask("--prompt", "fi", "--num", 12)
    assert len(answer.names) == 12 and all(name.startswith("fi") for name in answer.names)
    answer = ask("--prompt", "nono")  # as long as the longest: it ends there, or is cut
    assert set(answer.names) == {"nono"} and answer.status == 0


def test_temperature_and_top_k_sharpen(trained, ask):
    greedy = ask("--top-k", 1, "--num", 5).names
    assert len(set(greedy)) == 1
    assert ask("--temperature", "1e-320", "--num", 5).names == greedy
    assert ask("--top-k", 1000, "--seed", 3).names == ask("--seed", 3).names
    wild, tame = (
        ask("--temperature", temperature, "--num", 50, "--seed", 0).names
        for temperature in ("1e300", 0.3)
    )
    assert len(set(wild)) > len(set(tame))
    model = model_of(trained)
    with torch.no_grad():
        best = model(torch.tensor([[1]]))[0, -1, 1:].topk(3).indices + 1
    firsts = {row[0] for row in sample.draw(model, trained.state, 300, torch.Generator(), top_k=3)}
    assert firsts == set(best.tolist())


def test_without_the_data_what_is_new_is_not_said(ask, tmp_path, monkeypatch):
    (tmp_path / "other.txt").write_text("anton\nberta\ncaesar\n")
    monkeypatch.setattr(sample, "ROOT", tmp_path)
    for answer, why in (
        (ask(data=None), "sample-names.txt"),
        (ask(data=tmp_path / "other.txt"), "other data"),
    ):
        assert answer.status == 0 and len(answer.names) == 10
        assert (
            "new is not known" in answer.summary
            and why in answer.summary
            and "0 new" not in answer.summary
        )


def test_the_newest_checkpoint_of_the_script_is_found(trained, ask, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "ROOT", tmp_path)
    folder = tmp_path / "results" / "checkpoints"
    folder.mkdir(parents=True)
    stem = SCRIPT.removesuffix(".py")
    for age, name, change in (
        (3, f"{stem}-seed1.pt", {}),
        (2, f"{stem}-seed0.pt", {}),
        (1, f"{stem}-text-seed0.pt", {"script": f"stream.py {SCRIPT}"}),
        (0, f"{stem}-gelu-seed0.pt", {"script": f"{stem}-gelu.py"}),
    ):
        torch.save(trained.state | change, folder / name)
        os.utime(folder / name, (10**9 - age,) * 2)
    assert f"{stem}-seed0.pt" in ask(checkpoint=None).summary
    (folder / f"{stem}-seed0.pt").unlink()
    assert f"{stem}-seed1.pt" in ask(checkpoint=None).summary


def test_a_damaged_checkpoint_is_not_the_newest(trained, ask, tmp_path, monkeypatch):
    """Nobody can tell whose it was; the one before it will do."""
    folder = tmp_path / "results" / "checkpoints"
    folder.mkdir(parents=True)
    stem = SCRIPT.removesuffix(".py")
    shutil.copy(trained.path, folder / f"{stem}-seed0.pt")
    (folder / f"{stem}-seed1.pt").write_bytes(b"half a file")
    os.utime(folder / f"{stem}-seed0.pt", (1, 1))
    monkeypatch.setattr(sample, "ROOT", tmp_path)
    answer = ask("--num", 3, checkpoint=None)
    assert answer.status == 0 and len(answer.names) == 3


def test_ctrl_c_ends_a_tool_in_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        tools.guarded(interrupted)
    assert stop.value.code == 130 and "stopped" in one_error(capsys.readouterr().err)
    for name in "report", "sample", "bench", "dissect":
        assert (
            "    guarded(main)\n"
            in (ROOT / "results" / f"{name}.py").read_text("utf-8").split("__main__")[1]
        )


def test_a_changed_source_is_said_where_the_weights_still_fit(trained, ask, tmp_path):
    assert "changed" not in ask().summary
    torch.save(trained.state | {"source": "0" * 12}, tmp_path / "old.pt")
    assert "has changed since" in ask(checkpoint=tmp_path / "old.pt").summary


@pytest.mark.parametrize(
    "argv, named",
    (
        (["--temperature", "0"], "--temperature"),
        (["--temperature", "-1"], "--temperature"),
        (["--temperature", "nan"], "--temperature"),
        (["--temperature", "inf"], "--temperature"),
        (["--num", "0"], "--num"),
        (["--num", "x"], "--num"),
        (["--top-k", "0"], "--top-k"),
        (["--seed", "-1"], "--seed"),
        (["--prompt", "a!Zb"], "'!', 'Z'"),
        (["--prompt", "banana"], "longest"),
        (["--tempera", "1"], "--tempera"),
    ),
)
def test_wrong_use_is_one_line(ask, argv, named):
    answer = ask(*argv)
    assert answer.status == 2 and answer.names == [] and named in one_error(answer.err)


def test_what_is_no_fitting_checkpoint_is_one_line(trained, ask, tmp_path):
    def refused(content, script=SCRIPT):
        path = tmp_path / "x.pt"
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        answer = ask(checkpoint=path, script=script)
        assert answer.status == 2 and answer.names == [], answer
        return one_error(answer.err)

    assert "damaged" in refused(b"") and "damaged" in refused(b"nonsense")
    assert "damaged" in refused(trained.path.read_bytes()[:-1000])
    assert "damaged" in refused(
        {"script": SCRIPT, "code": types.SimpleNamespace()}
    )  # would run code
    assert "no checkpoint" in refused([1, 2]) and "no checkpoint" in refused({})
    assert "of " + SCRIPT in refused(trained.state, "train-2-baseline.py")
    assert "does not fit" in refused(
        {key: trained.state[key] for key in trained.state if key != "n_head"}
    )
    assert "does not fit" in refused(trained.state | {"n_embd": 64})
    assert "does not fit" in refused(trained.state | {"model": {}})
    model = {key: weight * float("nan") for key, weight in trained.state["model"].items()}
    assert "diverged" in refused(trained.state | {"model": model})


def test_no_checkpoint_no_data_no_script(ask, tmp_path, monkeypatch):
    monkeypatch.setattr(sample, "ROOT", tmp_path)
    for answer, named in (
        (ask(checkpoint=None), "train it first"),
        (ask(checkpoint=tmp_path / "x.pt"), "x.pt"),
        (ask(data=tmp_path / "x.txt"), "x.txt"),
        (ask(script="train-9.py"), "train-9.py"),
        (ask(script=str(ROOT / "tests" / "common.py")), "no training script"),
    ):
        assert answer.status == 2 and answer.names == [] and named in one_error(answer.err)
