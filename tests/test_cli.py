"""The command line: a script's settings are its flags; what users see when something is wrong."""

import dataclasses
import io
import re
import sys

import common
import pytest
import torch
from common import load

BASE, LAST = "train-2-baseline.py", "train-2.py"  # Main is the same in all eight
BESIDES = {"--device", "--data", "--results-dir", "--no-record", "--resume", "--debug", "--help"}


def flag(entry):
    return "--" + entry.name.replace("_", "-")


@pytest.mark.parametrize("script", [BASE, LAST])
def test_help(script, go):
    """What the script is, every setting with its default, and nothing that it does not have."""
    module = load(script)
    done = go(module, "--help")
    assert (done.status, done.err) == (0, "")
    description, options = done.out.split("options:")
    assert module.__doc__.strip() in description
    entries = dataclasses.fields(module.Config)
    presets = {"--preset"} if module.PRESETS else set()
    offered = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", options, re.M))
    assert offered == {flag(entry) for entry in entries} | BESIDES | presets
    words = " ".join(options.split())
    for entry in entries:
        assert f"{entry.metadata['help']} (default: {entry.default})" in words
    assert all(name in words for name in module.PRESETS)


def test_a_flag_sets_its_field_and_no_other():
    """Each is an override but seed and threads, which make no other kind of run."""
    module = load(LAST)
    for entry in dataclasses.fields(module.Config):
        value = {bool: True, int: 7, float: 0.75}[entry.type]
        argv = [flag(entry)] if value is True else [flag(entry), str(value)]
        _, config, overrides = module.parse(argv)
        assert config == dataclasses.replace(module.Config(), **{entry.name: value})
        free = entry.name in ("seed", "threads")
        assert overrides == ("" if free else f"{entry.name}={value}")


def test_overrides_are_what_departs_from_the_defaults_or_the_preset_sorted():
    for argv, expected in {
        "--steps 2 --batch-size 8 --n-embd 32 --dropout 0": "batch_size=8 steps=2",
        "--seed 7 --threads 2 --device cpu --data x --results-dir y --no-record": "",
        "--n-embd 32 --preset dropout --dropout 0.2": "n_embd=32",
    }.items():
        assert load(LAST).parse(argv.split())[2] == expected


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
    "--step": ["4"],  # no flag can be shortened
    "--no-rec": ["1"],
    "--bogus": ["1"],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_or_flag_is_refused(name, go):
    """And it is said of which flag it is; an empty path is not "none given"."""
    for value in WRONG[name]:
        done = go(LAST, f"{name}={value}")
        *_, message = done.err.splitlines()
        assert (done.status, done.out) == (2, "") and not done.results.exists()
        assert done.err.startswith("usage: ") and " error: " in message
        assert "empty path" in message if name in ("--data", "--results-dir") else name in message


@pytest.mark.parametrize("machine", [{"cuda", "mps"}, {"mps"}, set()])
def test_the_device_is_one_that_is_there_and_mps_only_when_asked_for(machine, monkeypatch):
    for name in ("cuda", "mps"):
        has = name in machine
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda has=has: has)
    parse = load(LAST).parse
    assert parse([])[0].device == ("cuda" if "cuda" in machine else "cpu")
    for name in machine:
        assert parse(["--device", name])[0].device == name
    for name in {"cuda", "mps"} - machine:
        with pytest.raises(SystemExit):
            parse(["--device", name])


def test_threads_and_debug_are_set_while_it_trains(go, monkeypatch):
    module, seen = load(BASE), []
    train = module.train

    def watched(*args):
        seen.append((torch.get_num_threads(), torch.is_anomaly_enabled()))
        return train(*args)

    monkeypatch.setattr(module, "train", watched)
    for flag in ("--threads=2", "--debug", "--validate"):
        go(module, flag, "--steps=1")
    assert seen == [(2, False), (1, True), (1, False)]


def test_no_record_writes_nothing_at_all(go, tmp_path, monkeypatch):
    """Neither among the results, nor beside the script, nor in the current folder."""
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy" / BASE
    copy.parent.mkdir()
    copy.write_bytes((common.ROOT / BASE).read_bytes())
    go(load(copy))  # there are results to be left alone
    before = common.tree(tmp_path)
    for results in ("results", "new"):
        done = go(load(copy), "--no-record", "--resume", results=results)
        assert (done.status, done.err) == (0, "") and "ten samples" in done.out
    assert common.tree(tmp_path) == before


def test_data_or_a_table_that_cannot_be_had_is_one_line(go, tmp_path, names):
    for path in (tmp_path / "nothing.txt", tmp_path, names / "below.txt"):
        done = go(BASE, data=path, shell=True)
        assert done.status == 1 and str(path) in common.one_error(done.err)
        assert not done.results.exists()
    done = go(BASE, results="small.txt", shell=True)
    assert done.status == 1 and "small.txt" in common.one_error(done.err)


@pytest.mark.parametrize(
    "error", [MemoryError, torch.OutOfMemoryError, KeyboardInterrupt, KeyError]
)
def test_what_is_no_bug_is_one_line_that_says_what_to_try(error, go, monkeypatch):
    """A bug keeps its traceback."""

    def fail(*args, **options):
        raise error("tried to allocate 20 GiB\nof memory")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", fail)
    if error is KeyError:
        with pytest.raises(KeyError):
            go(BASE, shell=True)
        return
    done = go(BASE, shell=True)
    (message,) = done.err.splitlines()
    advice = "--resume" if error is KeyboardInterrupt else "--batch-size"
    assert done.status == 1 and advice in message
    assert common.read_table(done.table) == []


@pytest.mark.parametrize("kind", ["notebook", "closed", "ascii"])
def test_output_works_wherever_it_goes(kind, go, names, monkeypatch):
    """A notebook's has no reconfigure(), IDLE has none at all, a terminal may lack characters."""
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    stream = {"notebook": io.StringIO(), "closed": None, "ascii": ascii}[kind]
    monkeypatch.setattr(sys, "stdout", stream)
    done = go(BASE, shell=True)
    monkeypatch.undo()
    assert (done.status, done.err) == (0, "") and len(common.read_table(done.table)) == 1
    assert kind != "notebook" or "ten samples" in stream.getvalue()
    assert kind != "ascii" or b"ten samples" in ascii.buffer.getvalue()
