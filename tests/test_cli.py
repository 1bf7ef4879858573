"""The command line: a script's knobs are its flags, and what they become in the table."""

import dataclasses
import json
import os
import re
import subprocess

import common
import pytest
import torch
from common import CHAIN, SMALL, load

BESIDES = {"--device", "--data", "--results-dir", "--no-record", "--resume", "--debug"}
TRAINING = {"steps": 5000, "batch_size": 32, "learning_rate": 1e-3, "lr_decay_to": 1.0}
TRAINING |= {"warmup_steps": 0, "weight_decay": 0.0, "grad_clip": 0.0, "eval_interval": 500}
TRAINING |= {"seed": 0, "threads": 1, "validate": False}  # DESIGN.md, section 7


def flag(knob):
    return "--" + knob.name.replace("_", "-")


def test_help(script, go):
    """Every knob with what it is and its default, and nothing that the script does not have."""
    module = load(script)
    done = go(module, "--help")
    assert (done.status, done.err) == (0, "")
    description, options = done.out.split("options:")
    assert module.__doc__.splitlines()[0] in description
    knobs = dataclasses.fields(module.Config)
    offered = set(re.findall(r"^  (?:-h, )?(--[\w-]+)", options, re.M))
    presets = {"--preset"} if module.PRESETS else set()
    assert offered == {flag(knob) for knob in knobs} | BESIDES | presets | {"--help"}
    words = " ".join(options.split())
    for knob in knobs:
        assert f"{knob.metadata['help']} (default: {knob.default})" in words
    for name in module.PRESETS:
        assert name in words


def test_help_without_docstrings(tmp_path):
    command = common.command("train-2.py", "--help")
    command.insert(1, "-OO")
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "--learning-rate" in done.stdout


def test_the_training_knobs_are_the_same_in_all(step):
    knobs = {knob.name: knob.default for knob in dataclasses.fields(load(step).Config)}
    assert {name: knobs.get(name) for name in TRAINING} == TRAINING


def test_a_script_has_no_knob_that_it_does_not_use(step, go):
    _, _, _, n_head, n_layer, *_ = CHAIN[step.name]
    knobs = {knob.name for knob in dataclasses.fields(load(step).Config)} - set(TRAINING)
    expected = {"n_embd", "head_size" if n_head == 1 else "n_head"}
    expected |= {"n_layer"} if n_layer > 1 else set()
    expected |= {"dropout"} if step.name == "train-2.py" else set()
    assert knobs == expected
    for name in {"n_head", "head_size", "n_layer", "dropout"} - expected:
        strange = "--" + name.replace("_", "-")
        done = go(step, strange, "1")
        assert done.status == 2 and strange in common.one_error(done.err)


VALUES = {"n_embd": 48, "head_size": 8, "n_head": 4, "n_layer": 3, "dropout": 0.25}
VALUES |= {"steps": 7, "batch_size": 9, "learning_rate": 0.01, "lr_decay_to": 0.5}
VALUES |= {"warmup_steps": 3, "weight_decay": 0.1, "grad_clip": 0.75, "eval_interval": 4}
VALUES |= {"seed": 5, "threads": 2, "validate": True}


def test_a_flag_sets_its_field_and_no_other(script):
    module = load(script)
    for knob in dataclasses.fields(module.Config):
        if knob.name in VALUES:
            value = VALUES[knob.name]
            argv = [flag(knob)] if value is True else [flag(knob), str(value)]
            _, config, overrides = module.parse(argv)
            assert config == dataclasses.replace(module.Config(), **{knob.name: value})
            free = knob.name in ("seed", "threads")  # they make no other kind of run
            assert overrides == ("" if free else f"{knob.name}={value}")


@pytest.mark.parametrize(
    "argv, expected",
    [
        ("", ""),
        ("--steps 2 --batch-size 8", "batch_size=8 steps=2"),
        ("--steps 2 --batch-size 32 --n-embd 32 --dropout 0", "steps=2"),
        ("--seed 7 --threads 2 --device cpu --data x --results-dir y --no-record", ""),
        ("--validate --lr-decay-to .5 --steps 1", "lr_decay_to=0.5 steps=1 validate=True"),
        ("--preset dropout", ""),
        ("--preset dropout --dropout 0 --n-embd 64", "dropout=0.0"),
        ("--n-embd 32 --preset dropout", "n_embd=32"),
    ],
)
def test_overrides_are_what_departs_from_the_defaults_sorted(argv, expected):
    _, _, overrides = load("train-2.py").parse(argv.split())
    assert overrides == expected


@pytest.mark.parametrize(
    "argv",
    ["--step 4", "--eval 2", "--no-rec", "--deb", "--res", "--lr 1", "--learning 0.1", "-s 4", "4"],
)
def test_no_abbreviations_and_no_strangers(argv, go):
    done = go("train-2.py", *argv.split())
    assert done.status == 2 and argv.split()[0] in common.one_error(done.err)
    assert done.out == "" and not done.results.exists()
    common.one_error(go("train-2.py", "--two\nlines").err)  # one, even then


WRONG = {
    "--device": ["tpu", "CPU", "cuda:99", "a\nb", ""],
    "--preset": ["tiny", "fina", ""],
    "--n-embd": ["0", "-32", "2147483648", "nan"],
    "--n-head": ["0", "-1", "x"],
    "--n-layer": ["0", "-1"],
    "--steps": ["0", "-1", "1.5", "1e3", "many", "", "99999999999999999999"],
    "--batch-size": ["0", "-5"],
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
def test_a_wrong_value_is_refused_in_one_line_that_names_the_flag(name, go):
    for value in WRONG[name]:
        done = go("train-2.py", f"{name}={value}")
        assert done.status == 2 and name in common.one_error(done.err), value
        assert done.out == "" and not done.results.exists()
    done = go("train-2.py", name)  # and without a value
    assert done.status == 2 and name in common.one_error(done.err)


def test_sizes_that_do_not_fit_together(go):
    """The message names the flags, and 15 as the head_size that RoPE cannot turn in pairs."""
    for argv, word in (("--n-embd 32 --n-head 3", "--n-embd 32"), ("--n-embd 30 --n-head 2", "15")):
        done = go("train-2.py", *argv.split())
        assert done.status == 2 and word in common.one_error(done.err)
        assert not done.results.exists()


def test_a_device_that_is_not_there(go, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.mps, "is_available", lambda: False)
    for device in ("cuda", "mps"):
        done = go("train-2.py", "--device", device)
        assert done.status == 2 and f"--device {device}" in common.one_error(done.err)
    assert go("train-2.py", "--device", "auto").status == 0  # that is the CPU then


def test_auto_never_takes_mps(monkeypatch):
    """DESIGN.md, section 7: open reports of NaN; it is opt-in."""
    monkeypatch.setattr(torch.mps, "is_available", lambda: True)
    for cuda, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        assert load("train-2.py").pick_device("auto") == expected


def test_threads_and_debug_are_set_while_it_trains(go, monkeypatch):
    module, seen = load("train-2-baseline.py"), []
    rate = module.learning_rate

    def watched(step, config):
        seen.append((torch.get_num_threads(), torch.is_anomaly_enabled()))
        return rate(step, config)

    monkeypatch.setattr(module, "learning_rate", watched)
    assert go(module, "--threads", 2, "--steps", 1).status == 0
    assert go(module, "--debug", "--steps", 1).status == 0
    assert go(module, "--steps", 1).status == 0
    assert seen == [(2, False), (1, True), (1, False)]


def test_no_record_writes_nothing_at_all(script, go, tmp_path, monkeypatch):
    """Neither among the results, nor beside the script, nor in the current folder."""
    monkeypatch.chdir(tmp_path)
    copy = tmp_path / "copy" / script.name
    copy.parent.mkdir()
    copy.write_bytes(script.read_bytes())
    go(script)  # there are results to be left alone
    before = common.tree(tmp_path)
    done = go(load(copy), "--no-record")
    assert (done.status, done.err) == (0, "") and "ten names" in done.out
    assert common.tree(tmp_path) == before


def test_data_elsewhere_is_recorded_under_its_own_name(go, tmp_path, names):
    other = tmp_path / "towns é.txt"
    other.write_bytes(names.read_bytes())
    done = go("train-2-baseline.py", data=other)
    (row,) = common.read_table(done.table)
    assert row["data"] == "towns é.txt"
    (note,) = (line for line in done.out.splitlines() if line.startswith("note: "))
    assert "towns é.txt" in note and "comparison" in note
    (curve,) = done.results.glob("curves/*.csv")
    assert f"towns é.txt-{row['data_hash']}" in curve.name


def test_the_command_as_users_type_it(tmp_path, names):
    """From another folder, with a terminal that speaks ASCII only."""
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    env = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}
    argv = [*SMALL, "--data", names.name, "--results-dir", "out"]
    process = common.start("train-2-2head.py", *argv, cwd=tmp_path, env=env)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "small.txt" in out.splitlines()[0] and out.count("\nstep ") == 2
    (row,) = common.read_table(tmp_path / "out" / "results.csv")
    assert set("".join(json.loads(row["samples"]))) <= set("zoëåsa🦊núñezb")
