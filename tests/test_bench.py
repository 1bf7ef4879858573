"""results/bench.py: one table of what a step costs. Times are not tested, what they are made of is."""

import math, re, shutil, sys

import pytest, torch

from common import ROOT, one_error

sys.path.insert(0, str(ROOT / "results"))
import bench, scripts as tools


@pytest.fixture
def module(names, monkeypatch):
    """train-2.py, whose data is a small file; nothing is found but it and a script that has a variant, too."""
    root, load = names.parent / "project", tools.load
    root.mkdir()
    for name in ("train-2.py", tools.BIGRAM):
        shutil.copy(ROOT / name, root)

    def load_small(script):
        module = load(script)
        load_data = module.load_data

        def small(file, config, device, save):
            assert not save, "it writes no file"
            return load_data(str(names), config, device)

        module.load_data = small
        return module

    monkeypatch.setattr(tools, "load", load_small)
    monkeypatch.setattr(tools, "ROOT", root)
    return tools.load("train-2.py")


def subject(module, preset=None):
    config = module.Config()
    target = tools.Target("x", module, preset, module.PRESETS[preset]["knobs"] if preset else {})
    return bench.Subject(target, 1, module.load_data(None, config, "cpu", save=False))


def test_one_table_of_every_script_and_preset_at_every_number_of_threads(
    module, capsys, monkeypatch
):
    """And of no variant: train-2.py without padding, or the other script without layers."""
    assert len(tools.targets()) == len(tools.targets(variants=False)) + 2
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    bench.main(["--turns", "2", "--steps", "2", "--threads", "1", "2"])
    assert set(asked) == {1, 2}
    out, err = capsys.readouterr()
    header, *lines, last = out.splitlines()
    assert (
        err == ""
        and header.split()[:3] == ["script", "threads", "ms/step"]
        and "GFLOP/s at 2 threads" in last
    )
    names = [
        tools.BIGRAM,
        "train-2.py",
        *(f"train-2.py --preset {preset}" for preset in module.PRESETS),
    ]
    assert [re.split("  +", line)[:2] for line in lines] == [
        [name, threads] for name in names for threads in "12"
    ]
    for line in lines:
        ms, *shares, per_name, per_token, floor, ratio = re.split("  +", line)[2:]
        assert len(shares) == 4 and all(re.fullmatch(r"\d+%", share) for share in shares)
        assert float(ms) > 0 and float(ratio) > 0 and len(line) == len(header)


def test_only(module, capsys):
    bench.main(
        ["--turns", "1", "--steps", "1", "--threads", "1", "--only", "train-2.py --preset 64x4"]
    )
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("preset", (None, "dropout"))
def test_the_operations_are_those_of_the_matrix_products(module, preset):
    """Counted by hand: twice the multiplications of every Linear and of attention's two products."""
    one = subject(module, preset)
    B, T, C, V = 5, 7, one.config.n_embd, len(one.data.chars) + 2
    by_hand = (
        2 * B * T * (one.config.n_layer * (4 + 8) * C * C + C * V)
        + one.config.n_layer * 2 * 2 * B * T * T * C
    )
    assert one.forward_flops(torch.ones(B, T, dtype=torch.long)) == by_hand


def test_a_turn_is_taken_at_the_subjects_threads(module, monkeypatch):
    one, asked = subject(module), []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    one.threads = 3
    one.turn(1)
    assert asked == [3]


def test_a_turn_sums_what_its_steps_did(module):
    one, other = subject(module), subject(module)
    one.turn(3)
    batches = [other.one_step()[1:] for _ in range(4)][1:]  # the first of a turn is not counted
    (turn,) = one.turns
    assert turn["names"] == 3 * 32
    assert turn["tokens"] == sum((targets != 0).sum().item() for _, targets in batches)
    assert turn["flops"] == 3 * sum(one.forward_flops(inputs) for inputs, _ in batches)


def test_a_step_trains_as_the_script_does(module):
    """After as many steps, the weights are those of train() to the bit, dropout and clipping included."""
    knobs = module.PRESETS["final"]["knobs"]
    module.PRESETS["few"] = dict(knobs=dict(knobs, steps=3, warmup_steps=1))
    one = subject(module, "few")
    config, data = one.config, one.data
    for _ in range(3):
        one.one_step()
    torch.manual_seed(config.seed)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len)
    for _ in module.train(model, data, config, {}, []):
        pass
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), one.model.parameters(), strict=True)
    )
    one.one_step()  # after its last step it begins the batches again
    assert one.step == 1


def test_the_table_is_made_of_medians(module):
    one = subject(module)
    parts = dict(batch=0.0, forward=0.25, backward=0.5, optimizer=0.25)
    for factor in (1, 2, 100):
        turn = {phase: seconds * factor for phase, seconds in parts.items()}
        one.turns.append(turn | dict(flops=8e9, names=640, tokens=4000))
    cells = bench.row(one, 16e9, 20)  # 2 s a turn of 20 steps; the floor is half a second
    assert cells == ["x", "1", "100.00", "0%", "25%", "50%", "25%", "320", "2,000", "25.00", "4.00"]


def test_the_rate_is_a_number():
    assert 0 < bench.matmul_rate(1, size=64) < math.inf


@pytest.mark.parametrize(
    "argv",
    (
        ["--turns", "0"],
        ["--steps", "x"],
        ["--threads", "0"],
        ["--threads", "5000"],
        ["--only", "train-9.py"],
        ["--only", "results/stream.py"],
        ["--only", "train-2-2head-4layer.py --n-layer 0"],
    ),
)
def test_wrong_use_is_one_line(module, capsys, argv):
    with pytest.raises(SystemExit) as stop:
        bench.main(argv)
    assert stop.value.code == 2
    one_error(capsys.readouterr().err)
