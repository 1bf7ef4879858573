"""The command line: a script's settings are its flags; what users see when something is wrong."""

import dataclasses
import io
import re
import sys

import common
import pytest
import torch
from common import load

BESIDES = {"--device", "--data", "--results-dir", "--no-record", "--resume", "--debug", "--help"}


def flag(entry):
    return "--" + entry.name.replace("_", "-")


def usage(done):
    """The message of wrong use: argparse's usage, then one line, and nothing was done."""
    assert (done.status, done.out) == (2, "") and not done.results.exists()
    assert done.err.startswith("usage: ")
    *_, message = done.err.splitlines()
    assert " error: " in message
    return message


def test_help(step, go):
    """What the script is, every setting with its default, and nothing that it does not have."""
    module = load(step)
    done = go(module, "--help")
    assert (done.status, done.err) == (0, "")
    description, options = done.out.split("options:")
    assert module.__doc__.strip() in description
    entries = dataclasses.fields(module.Config)
    offered = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", options, re.M))
    presets = {"--preset"} if module.PRESETS else set()
    assert offered == {flag(entry) for entry in entries} | BESIDES | presets
    words = " ".join(options.split())
    for entry in entries:
        assert f"{entry.metadata['help']} (default: {entry.default})" in words
    assert all(name in words for name in module.PRESETS)


VALUES = {"n_embd": 48, "n_head": 4, "n_layer": 3, "dropout": 0.25, "steps": 7, "batch_size": 9}
VALUES |= {"learning_rate": 0.01, "lr_decay_to": 0.5, "warmup_steps": 3, "weight_decay": 0.1}
VALUES |= {"grad_clip": 0.75, "eval_interval": 4, "split_seed": 8, "validate": True}
VALUES |= {"seed": 5, "threads": 2}


def test_a_flag_sets_its_field_and_no_other():
    """Each is an override but seed and threads, which make no other kind of run."""
    module = load("train-2.py")
    for entry in dataclasses.fields(module.Config):
        value = VALUES[entry.name]
        argv = [flag(entry)] if value is True else [flag(entry), str(value)]
        _, config, overrides = module.parse(argv)
        assert config == dataclasses.replace(module.Config(), **{entry.name: value})
        free = entry.name in ("seed", "threads")
        assert overrides == ("" if free else f"{entry.name}={value}")


@pytest.mark.parametrize(
    "argv, expected",
    [
        ("--steps 2 --batch-size 8", "batch_size=8 steps=2"),
        ("--steps 2 --batch-size 32 --n-embd 32 --dropout 0", "steps=2"),
        ("--seed 7 --threads 2 --device cpu --data x --results-dir y --no-record", ""),
        ("--validate --lr-decay-to .5 --steps 1", "lr_decay_to=0.5 steps=1 validate=True"),
        ("--preset dropout --dropout 0 --n-embd 64", "dropout=0.0"),
        ("--n-embd 32 --preset dropout", "n_embd=32"),
    ],
)
def test_overrides_are_what_departs_from_the_defaults_sorted(argv, expected):
    assert load("train-2.py").parse(argv.split())[2] == expected


@pytest.mark.parametrize("argv", ["--step 4", "--no-rec", "--res", "--learning 0.1", "-s 4", "4"])
def test_no_abbreviations_and_no_strangers(argv, go):
    assert argv.split()[0] in usage(go("train-2.py", *argv.split()))


WRONG = {
    "--device": ["tpu", "CPU", "cuda:99", ""],
    "--preset": ["tiny", "fina", ""],
    "--data": [""],
    "--results-dir": [""],
    "--n-embd": ["0", "-32", "2147483648", "nan"],
    "--n-head": ["0", "x"],
    "--steps": ["0", "-1", "1.5", "1e3", "", "99999999999999999999"],
    "--batch-size": ["0"],
    "--eval-interval": ["0"],
    "--warmup-steps": ["-1"],
    "--threads": ["0", "1025"],
    "--seed": ["-1", "9223372036854775808"],
    "--dropout": ["1", "-0.1", "nan"],
    "--learning-rate": ["-1", "nan", "inf", "-inf", "1e30", "fast"],
    "--lr-decay-to": ["-0.1", "1.1", "nan"],
    "--weight-decay": ["-1", "inf", "nan"],
    "--grad-clip": ["-1", "nan", "inf"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused(name, go):
    """And it is said of which flag it is; an empty path is not "none given"."""
    for value in WRONG[name]:
        message = usage(go("train-2.py", f"{name}={value}"))
        assert "empty path" in message if name in ("--data", "--results-dir") else name in message
    assert name in usage(go("train-2.py", name))  # without a value


@pytest.mark.parametrize("machine", [{"cuda"}, {"mps"}, {"cuda", "mps"}, set()])
def test_the_device_is_one_that_is_there_and_mps_only_when_asked_for(machine, monkeypatch):
    for name in ("cuda", "mps"):
        has = name in machine
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda has=has: has)
    parse = load("train-2.py").parse
    assert parse([])[0].device == ("cuda" if "cuda" in machine else "cpu")
    for name in ("cuda", "mps"):
        if name in machine:
            assert parse(["--device", name])[0].device == name
        else:
            with pytest.raises(SystemExit):
                parse(["--device", name])


def test_threads_and_debug_are_set_while_it_trains(go, monkeypatch):
    module, seen = load("train-2-baseline.py"), []
    loss = module.masked_loss

    def watched(*args, **options):
        seen.append(torch.is_anomaly_enabled())
        return loss(*args, **options)

    monkeypatch.setattr(module, "masked_loss", watched)
    monkeypatch.setattr(torch, "set_num_threads", seen.append)
    for flag in ("--threads=2", "--debug", "--validate"):
        go(module, flag, "--steps=1")
    changes = [value for i, value in enumerate(seen) if i == 0 or value is not seen[i - 1]]
    assert changes == [2, False, 1, True, 1, False]


def test_no_record_writes_nothing_at_all(go, tmp_path, monkeypatch):
    """Neither among the results, nor beside the script, nor in the current folder."""
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy" / "train-2.py"
    copy.parent.mkdir()
    copy.write_bytes((common.ROOT / copy.name).read_bytes())
    go("train-2.py")  # there are results to be left alone
    before = common.tree(tmp_path)
    for flags, results in ((["--resume"], "results"), (["--seed=1"], "new")):
        done = go(load(copy), "--no-record", *flags, results=results)
        assert (done.status, done.err) == (0, "") and "ten samples" in done.out
    assert common.tree(tmp_path) == before


def test_data_or_a_table_that_cannot_be_had_is_one_line(go, tmp_path, names):
    for path in (tmp_path / "nothing.txt", tmp_path, names / "below.txt"):
        done = go("train-2-baseline.py", data=path, shell=True)
        assert done.status == 1 and str(path) in common.one_error(done.err)
        assert not done.results.exists()
    done = go("train-2-baseline.py", results="small.txt", shell=True)
    assert done.status == 1 and "small.txt" in common.one_error(done.err)


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError, KeyboardInterrupt])
def test_what_is_no_bug_is_one_line_that_says_what_to_try(error, go, monkeypatch):
    def fail(*args, **options):
        raise error("tried to allocate 20 GiB\nof memory")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", fail)
    done = go("train-2-baseline.py", shell=True)
    (message,) = done.err.splitlines()
    advice = "--resume" if error is KeyboardInterrupt else "--batch-size"
    assert done.status == 1 and advice in message
    assert common.read_table(done.table) == []


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), KeyError("not finite")])
def test_a_bug_keeps_its_traceback(error, go, monkeypatch):
    """Whatever words are in its message."""

    def fail(*args, **options):
        raise error

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", fail)
    with pytest.raises(type(error)) as caught:
        go("train-2-baseline.py", shell=True)
    assert caught.value is error


@pytest.mark.parametrize("kind", ["notebook", "closed", "ascii"])
def test_output_works_wherever_it_goes(kind, go, names, monkeypatch):
    """A notebook's has no reconfigure(), IDLE has none at all, a terminal may lack characters."""
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = {"notebook": io.StringIO(), "closed": None, "ascii": ascii}[kind]
    monkeypatch.setattr(sys, "stdout", stream)
    done = go("train-2-baseline.py", shell=True)
    monkeypatch.undo()
    assert (done.status, done.err) == (0, "") and len(common.read_table(done.table)) == 1
    if kind == "notebook":
        assert "ten samples" in stream.getvalue()
    if kind == "ascii":
        ascii.flush()
        assert b"ten samples" in ascii.buffer.getvalue()
