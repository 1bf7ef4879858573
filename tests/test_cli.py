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


WRONG = {  # flags with a wrong value, and words of the message
    "--device=tpu": "--device",
    "--preset=fina": "--preset",
    "--data=": "empty path",
    "--results-dir=": "empty path",
    "--n-embd=0": "--n-embd must be",
    "--steps=1.5": "--steps",
    "--threads=1025": "--threads must be",
    "--seed=-1": "--seed must be",
    "--dropout=1": "--dropout must be",
    "--learning-rate=nan": "--learning-rate must be",
    "--lr-decay-to=1.1": "--lr-decay-to must be",
    "--step=4": "--step",  # no flag can be abbreviated
    "--bogus=1": "--bogus",
}


@pytest.mark.parametrize("flag", WRONG)
def test_a_wrong_value_or_flag_is_refused(flag, go):
    done = go(LAST, flag)
    *_, message = done.err.splitlines()
    assert (done.status, done.out) == (2, "") and not done.results.exists()
    assert done.err.startswith("usage: ") and " error: " in message and WRONG[flag] in message


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
    for flag in ("--threads=2", "--debug"):
        go(module, flag, "--steps=1")
    assert seen == [(2, False), (1, True)]


def test_no_record_writes_nothing_at_all(go, tmp_path):
    """Neither in an existing results folder nor in a new one."""
    go(BASE)
    before = common.tree(tmp_path)
    for results in ("results", "new"):
        done = go(BASE, "--no-record", "--resume", results=results)
        assert (done.status, done.err) == (0, "") and "ten samples" in done.out
    assert common.tree(tmp_path) == before


def test_data_that_cannot_be_read_is_reported_in_one_line(go, tmp_path):
    for path in (tmp_path / "nothing.txt", tmp_path):
        done = go(BASE, data=path, shell=True)
        assert done.status == 1 and str(path) in common.one_error(done.err)
        assert not done.results.exists()


@pytest.fixture
def failing(go, monkeypatch):
    """A run that ends with this error in its first step."""

    def run(error):
        def fail(*args, **options):
            raise error("tried to allocate 20 GiB\nof memory")

        monkeypatch.setattr(torch.nn.functional, "cross_entropy", fail)
        return go(BASE, shell=True)

    return run


@pytest.mark.parametrize(
    "error, advice",
    [
        (MemoryError, "--batch-size"),
        (torch.OutOfMemoryError, "--batch-size"),
        (KeyboardInterrupt, "--resume"),
    ],
)
def test_an_expected_error_is_one_line_that_says_what_to_try(error, advice, failing):
    done = failing(error)
    (message,) = done.err.splitlines()
    assert done.status == 1 and advice in message
    assert common.read_table(done.table) == []


def test_a_bug_keeps_its_traceback(failing):
    with pytest.raises(KeyError):
        failing(KeyError)


@pytest.mark.parametrize("kind", ["notebook", "closed", "ascii"])
def test_output_works_wherever_it_goes(kind, go, names, monkeypatch):
    """A notebook's stdout has no reconfigure(), IDLE may have none, a terminal may be ASCII."""
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    ascii = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    stream = {"notebook": io.StringIO(), "closed": None, "ascii": ascii}[kind]
    monkeypatch.setattr(sys, "stdout", stream)
    done = go(BASE, shell=True)
    monkeypatch.undo()
    assert (done.status, done.err) == (0, "") and len(common.read_table(done.table)) == 1
    assert kind != "notebook" or "ten samples" in stream.getvalue()
    assert kind != "ascii" or b"ten samples" in ascii.buffer.getvalue()
