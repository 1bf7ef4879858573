"""The command line: the knobs of a script are its flags, and what they become in the table."""

import dataclasses, json, os, re, subprocess, sys

import pytest, torch

import common
from common import CHAIN, ROOT, SMALL, load

COMMON = "--device --data --results-dir --no-record --resume --debug --help".split()


def flags(module):
    return ["--" + f.name.replace("_", "-") for f in dataclasses.fields(module.Config)]


def help_text(module, capsys):
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    out, err = capsys.readouterr()
    assert stop.value.code == 0 and err == ""
    return out


def test_help(script, capsys):
    """Every knob with its default and what it is, and nothing that the script does not have."""
    module = load(script)
    text = help_text(module, capsys)
    offered = set(re.findall(r"(?<!\S)--[a-z][\w-]*", text.split("options:")[1]))
    expected = set(flags(module)) | set(COMMON) | ({"--preset"} if module.PRESETS else set())
    assert {flag for flag in offered if f"diff {flag}" not in text} == expected
    for f in dataclasses.fields(module.Config):
        assert f.metadata["help"] in re.sub(r"\s+", " ", text)
        if f.type is not bool:
            assert f"(default: {f.default})" in text
    for name in module.PRESETS:
        assert name in text
    assert module.__doc__.splitlines()[0] in text
    assert max(map(len, text.splitlines())) <= 130


def test_the_training_knobs_are_the_same_in_all(step):
    module = load(step)
    knobs = {f.name: f.default for f in dataclasses.fields(module.Config)}
    expected = dict(
        steps=5000,
        batch_size=32,
        learning_rate=1e-3,
        lr_decay_to=1.0,
        warmup_steps=0,
        weight_decay=0.0,
        grad_clip=0.0,
        eval_interval=500,
        seed=0,
        threads=1,
        compile=False,
        validate=False,
    )
    assert list(knobs)[-len(expected) :] == list(expected)
    assert {key: knobs[key] for key in expected} == expected


def test_a_script_has_no_knob_that_it_does_not_use(step, go):
    shape = {flag for flag in flags(load(step))[:-12]}
    n_layer = CHAIN[step.name][4]
    assert "--n-embd" in shape
    assert ("--n-head" in shape) == (CHAIN[step.name][3] > 1) != ("--head-size" in shape)
    assert ("--n-layer" in shape) == (n_layer > 1)
    assert ("--dropout" in shape) == (step.name == "train-2.py")
    for flag in {"--n-head", "--head-size", "--n-layer", "--dropout"} - shape:
        done = go(step, flag, "1")
        assert done.status == 2 and flag in common.one_error(done.err)
    if step.name != "train-2.py":
        done = go(step, "--preset", "final")
        assert done.status == 2 and "--preset" in common.one_error(done.err)


@pytest.mark.parametrize("flag", ["--n-embd 48", "--n-head 4", "--n-layer 2"])
def test_the_knobs_of_the_shape(flag, go):
    done = go("train-2.py", *flag.split())
    (row,) = common.read_table(done.table)
    shape = dict(n_embd="32", n_head="2", n_layer="4", head_size="16")
    name, value = flag[2:].replace("-", "_").split()
    shape[name] = value
    shape["head_size"] = str(int(shape["n_embd"]) // int(shape["n_head"]))
    assert {key: row[key] for key in shape} == shape
    model = common.checkpoint(done.results)["model"]
    assert model["tok_emb.weight"].size(1) == int(shape["n_embd"])
    assert sum(value.numel() for value in model.values()) == int(row["params"])


def test_overrides(go, monkeypatch):
    """What differs from the defaults, by name, sorted; not the seed, the threads, the device or paths."""
    monkeypatch.setattr(
        torch, "set_num_threads", lambda n: None
    )  # two would be slow where others work as well

    def overrides(*argv):
        return common.read_table(go("train-2.py", *argv, small=False).table)[-1]["overrides"]

    small = ["--batch-size", 8, "--steps", 2]
    assert overrides(*small) == "batch_size=8 steps=2"
    assert (
        overrides(
            *small, "--seed", 7, "--threads", 2, "--device", "cpu", "--n-embd", 32, "--dropout", 0
        )
        == "batch_size=8 steps=2"
    )
    assert (
        overrides(
            "--steps", 2, "--learning-rate", "3e-3", "--n-layer", 1, "--batch-size", 8, "--validate"
        )
        == "batch_size=8 learning_rate=0.003 n_layer=1 steps=2 validate=True"
    )


def test_presets(go):
    module = load("train-2.py")
    for name, preset in module.PRESETS.items():
        args, config, default = module.parse(["--preset", name, "--n-layer", "1", "--steps", "2"])
        assert default == module.Config(**preset["knobs"])
        assert config == dataclasses.replace(
            default, n_layer=1, steps=2
        )  # a flag counts more than the preset
        done = go(module, "--preset", name, "--n-layer", 1, "--steps", 2)
        row = common.read_table(done.table)[-1]
        assert (row["preset"], row["config"], row["builds_on"]) == (
            name,
            preset["label"],
            preset["builds_on"],
        )
        settings = json.loads(row["settings"])
        expected = vars(module.Config(**preset["knobs"])) | dict(
            n_layer=1, steps=2, batch_size=8, eval_interval=2
        )
        assert settings == expected
        assert row["overrides"] == "batch_size=8 eval_interval=2 n_layer=1 steps=2"
        assert preset["label"] in done.out
    assert len(list(done.results.glob("curves/*"))) == len(
        module.PRESETS
    )  # and each has files of its own
    again = go(module, "--preset", "dropout", "--dropout", 0, "--n-layer", 1)
    assert (
        common.read_table(again.table)[-1]["overrides"]
        == "batch_size=8 dropout=0.0 eval_interval=2 n_layer=1 steps=4"
    )


def test_runs_do_not_overwrite_one_another(go, names):
    """Seed, preset, overrides and data have files of their own, the same command has the same."""
    other = names.with_name("other.txt")
    other.write_bytes(names.read_bytes())
    for argv in (
        [],
        ["--seed", 1],
        ["--learning-rate", 0.01],
        ["--preset", "64x4", "--n-layer", 1],
        ["--n-layer", 1],
        ["--preset", "dropout", "--n-layer", 1],
        ["--validate"],
    ):
        done = go("train-2.py", *argv)
        assert done.status == 0
    go("train-2.py", data=other)
    go("train-2-2head.py")
    assert (
        len(list(done.results.glob("curves/*")))
        == len(list(done.results.glob("checkpoints/*")))
        == 9
    )
    go("train-2.py")
    assert (
        len(list(done.results.glob("curves/*"))) == 9 and len(common.read_table(done.table)) == 10
    )


@pytest.mark.parametrize(
    "argv",
    [
        "--step 4",
        "--eval 2",
        "--no-rec",
        "--deb",
        "--lr 1",
        "--learning 0.1",
        "--res",
        "--n-emb 32",
        "--bogus",
        "4",
        "--steps=4 --5",
        "-s 4",
    ],
)
def test_no_abbreviations_and_no_strangers(argv, go):
    done = go("train-2.py", *argv.split())
    assert done.status == 2
    assert (
        argv.split()[0].split("=")[0].lstrip("-") in common.one_error(done.err) or "--5" in done.err
    )
    assert not done.results.exists()


def test_the_device(go):
    done = go("train-2-baseline.py", "--device", "cpu")
    (row,) = common.read_table(done.table)
    assert (
        row["device"].startswith("cpu (")
        and " on small.txt" in done.out
        and "cpu (" in done.out.splitlines()[0]
    )


def test_threads_and_anomaly_detection_are_set(go, monkeypatch):
    module, seen, threads = load("train-2-baseline.py"), [], []
    rate = module.learning_rate
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr(
        module,
        "learning_rate",
        lambda step, config: (
            seen.append((*threads, torch.is_anomaly_enabled())),
            threads.clear(),
            rate(step, config),
        )[-1],
    )
    done = go(module, "--threads", 2)
    go(module, "--debug")
    assert seen == [(2, False)] + [(False,)] * 3 + [(1, True)] + [(True,)] * 3
    assert common.read_table(done.table)[0]["threads"] == "2"


def test_the_command_as_users_type_it(tmp_path, names):
    """From another folder, as a process: status 0, nothing on stderr, UTF-8 whatever the terminal speaks."""
    names.write_text("zoë\nåsa\n🦊\nnúñez\nb\n" * 6, "utf-8")
    env = os.environ | {
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "LC_ALL": "C",
        "PYTHONWARNINGS": "error::ResourceWarning",
    }
    process = common.start(
        "train-2-2head.py",
        *SMALL,
        "--data",
        names.name,
        "--results-dir",
        "out",
        cwd=tmp_path,
        env=env,
    )
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    assert "small.txt" in out.splitlines()[0] and out.count("\nstep ") == 2
    (row,) = common.read_table(tmp_path / "out" / "results.csv")
    assert set("".join(json.loads(row["samples"]))) <= set("zoëåsa🦊núñezb")
