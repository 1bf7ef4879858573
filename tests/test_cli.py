"""The command line: a script's settings are its flags; what users see when something is wrong."""

import dataclasses
import io
import json
import re
import shutil
import sys

import common
import pytest
import torch
from common import ROOT, edit, load
from torch.utils._python_dispatch import TorchDispatchMode

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
    assert "--no-validate" in options
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
        "--learning-rate 4e-3 --no-validate": "learning_rate=0.004",
        "--validate --no-validate --weight-decay 0": "",
        "--validate": "validate=True",
    }.items():
        assert load(LAST).parse(argv.split())[2] == expected


FIELDS = {  # what an experimenter adds to Config, a flag, what it makes of it, the way back
    "extra: int = 4": ("--extra=7", 7, "--extra=4"),
    'extra: str = "a"': ("--extra=b", "b", "--extra=a"),
    "extra: bool = False": ("--extra", True, "--no-extra"),
    'extra: bool = option(True, "what it is")': ("--no-extra", False, "--extra"),
}


@pytest.mark.parametrize("line", FIELDS)
def test_a_new_field_is_a_flag(line, go, tmp_path):
    """However it is written; what differs from its default is an override."""
    script = shutil.copy(ROOT / BASE, tmp_path / "train-2-mine.py")
    edit(script, "    steps: int", f"    {line}\n    steps: int")
    module, (flag, value, back) = load(script), FIELDS[line]
    assert "--extra" in go(module, "--help").out
    done = go(module, flag)
    assert (done.status, done.err) == (0, "")
    (row,) = common.read_table(done.table)
    assert json.loads(row["settings"])["extra"] == value
    assert f"extra={value}" in row["overrides"].split()
    _, config, overrides = module.parse([flag, back])
    assert (config, overrides) == (module.Config(), "")


def test_a_path_may_begin_with_the_home_folder(go, names, tmp_path, monkeypatch):
    """A shell leaves `~` alone where it stands behind a flag's `=`, or in quotes."""
    home = tmp_path / "home"
    home.mkdir()
    names.rename(home / "x")
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    monkeypatch.chdir(tmp_path)
    assert go(BASE, "--results-dir=~/r", "--data=~/x").status == 0
    (row,) = common.read_table(home / "r" / "results.csv")
    assert row["data"] == "x" and [path.name for path in tmp_path.iterdir()] == ["home"]


WRONG = {  # flags with a wrong value, and words of the message
    "--device=tpu": "--device",
    "--preset=fina": "--preset",
    "--data=": "empty path",
    "--n-embd=0": "--n-embd must be",
    "--steps=1.5": "--steps",
    "--learning-rate=nan": "--learning-rate must be",
    "--step=4": "--step",  # no flag can be abbreviated
}


@pytest.mark.parametrize("flag", WRONG)
def test_a_wrong_value_or_flag_is_refused(flag, go, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where a path that is taken literally does no harm
    done = go(LAST, flag)
    *_, message = done.err.splitlines()
    assert (done.status, done.out) == (2, "") and not done.results.exists()
    assert done.err.startswith("usage: ") and " error: " in message and WRONG[flag] in message


@pytest.mark.parametrize("there", ["cuda", "mps"])
def test_the_device_is_one_that_is_there_and_a_gpu_only_when_asked_for(there, monkeypatch):
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "is_available", lambda has=name == there: has)
    parse = load(LAST).parse
    assert parse([])[0].device == "cpu"
    assert parse(["--device", there])[0].device == there
    with pytest.raises(SystemExit):
        parse(["--device", "mps" if there == "cuda" else "cuda"])


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


def test_a_bug_keeps_its_traceback(go, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", fail)
    with pytest.raises(RuntimeError):
        go(BASE, shell=True)


class Unsupported(TorchDispatchMode):
    """A device that this PyTorch has no code for: whatever is to be computed fails."""

    def __torch_dispatch__(self, *args, **options):
        raise RuntimeError("CUDA error: no kernel image is available\nCUDA kernel errors might ...")


def test_a_device_that_cannot_compute_is_found_before_training(go):
    with Unsupported():
        done = go(BASE)
    message = common.one_error(done.err)
    assert (done.status, done.out) == (1, "") and not done.results.exists()
    assert "--device cpu" in message and "no kernel image" in message


NO_STREAMS = {  # a notebook's stdout has no reconfigure(), IDLE may have none
    "notebook": io.StringIO,
    "closed": lambda: None,
    "ascii": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii"),
}


@pytest.mark.parametrize("kind", NO_STREAMS)
def test_output_works_wherever_it_goes(kind, go, names, monkeypatch):
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    monkeypatch.setattr(sys, "stdout", NO_STREAMS[kind]())
    done = go(BASE, shell=True)
    monkeypatch.undo()
    assert (done.status, done.err) == (0, "") and len(common.read_table(done.table)) == 1
