"""Other lists and splits, fewer names, and the list whose lowest possible loss is known."""

import hashlib
import itertools
import math
import re
import shutil
import sys
import types

import pytest
import torch
from common import CHAIN, ROOT
from tools import BASE, LAST, WIDE, Project, miniature

sys.path.insert(0, str(ROOT / "results"))

import invent
from lib import figures, tables
from lib.checkpoints import trained
from lib.command import Failure
from lib.costs import frontier, milliseconds
from lib.markers import count
from lib.patches import applied
from lib.scripts import load
from lib.stats import edge
from lib.tables import CANONICAL, TABLES, Condition


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path / "project", (BASE, WIDE))


def add_ngrams(project, data, digest):
    row = dict.fromkeys(TABLES["ngram.csv"], 1)
    row |= {"step": "train-2", "data": data, "data_hash": digest, "test": 2, "seconds": 6}
    rows = [row | {"model": model, "counts": 5_000} for model in ("bigram", "Kneser-Ney")]
    tables.write_table(project.root, "ngram.csv", rows)


def test_a_list_counts_by_its_hash_although_it_is_not_at_hand(project):
    add_ngrams(project, "towns.txt", "0123456789ab")
    for key, test in (BASE, 2.0), (WIDE, 1.5):
        project.add_row(key, test=test, data_hash="0123456789ab")
        project.add_row(key, test=9.0, data_hash="ffffffffffff")
        project.add_row(key, test=3.0)
    m = project.measured()
    assert m.effect(WIDE, BASE, condition=m.of_list("towns.txt")).mean == pytest.approx(-0.5)
    assert m.effect(WIDE, BASE, condition=CANONICAL).mean == 0
    assert m.effect(WIDE, "kneser-ney", condition=m.of_list("towns.txt")).mean == pytest.approx(
        -0.5
    )
    assert m.of_list("nowhere.txt") is None
    assert m.effect(WIDE, "kneser-ney") is None  # no n-grams are of names.txt


def test_ngrams_are_compared_on_the_test_set_of_the_default_split_alone(project):
    add_ngrams(project, "names.txt", project.steps[BASE].module.NAMES_SHA256[:12])
    changed = {"validate": True}, {"split_seed": 1}, {"n_embd": 48}
    for settings in changed:
        words = " ".join(f"{key}={value}" for key, value in settings.items())
        project.add_row(BASE, 0, 2.5, settings, overrides=words)
    found = [
        project.measured().effect(BASE, "kneser-ney", condition=Condition(*flags))
        for flags in (["--validate"], ["--split-seed", "1"], ["--n-embd", "48"])
    ]
    assert found[:2] == [None, None]
    assert found[2].mean == pytest.approx(0.5)


def test_runs_on_another_made_up_list_are_not_set_against_this_floor(project):
    """Nor is the page a failure, whatever is recorded of the list."""
    columns = "data,data_hash,made_by,kept,known,train,train_error,test,test_error,entropy"
    row = "sample-names.txt,aaaaaaaaaaaa,a run,0.9,0.3,1.8,0.01,1.9,0.02,1.9"
    other = row.replace("sample-names.txt,aaaaaaaaaaaa", "drawn.txt,cccccccccccc")
    text = f"{columns},entropy_error\n{other},0.003\n{row},0.003\n"
    (project.results / "floor.csv").write_text(text, "utf-8")
    project.add_row(BASE, test=2.0, data="made-up.txt", data_hash="bbbbbbbbbbbb")
    assert "baseline" not in project.block("floor")
    project.add_row(BASE, test=2.0, data="made-up.txt", data_hash="aaaaaaaaaaaa")
    assert "| baseline | 2.000 (one seed) | +0.100 | 92.8% |" in project.block("floor")


def test_the_seeds_of_a_split_are_averaged_and_the_interval_is_over_splits(project):
    for split, changes in (1, (0.1, 0.3)), (2, (0.4,)), (42, (0.0, 0.0)):
        for seed, change in enumerate(changes):
            words = {"overrides": f"split_seed={split}"} if split != 42 else {}
            for key, test in (BASE, 2.0), (WIDE, 2.0 + change):
                project.add_row(key, seed, test, {"split_seed": split}, **words)
    found = project.measured().effect(WIDE, BASE, condition=Condition("--split-seed", "any"))
    assert (found.n, found.mean) == (3, pytest.approx((0.2 + 0.4 + 0.0) / 3))


def test_a_step_holds_under_other_conditions_than_that_of_the_comparison(project):
    """Of which those count that have two runs, or two splits, or more."""
    for split in None, 1, 2:
        text = [] if split is None else count(project.measured(), f"holds:{WIDE}")
        for seed in 0, 1, 2:
            for key, test in (BASE, 2.0), (WIDE, 1.9 + seed / 1000):
                words = {"overrides": f"split_seed={split}"} if split else {}
                project.add_row(key, seed, test, {"split_seed": split or 42}, **words)
        if split == 1:
            assert text == (None, "")  # the comparison alone
    assert count(project.measured(), f"holds:{WIDE}") == (1, "1 of 1")


def test_what_is_taken_away_has_the_sign_of_what_is_added(project):
    """The loss is 2 with the part and 2.5 without: the part makes it fall by 0.5."""
    project.add_row(WIDE, test=2.0)
    project.add_row(BASE, test=2.5)
    assert project.measured().part_effect(BASE, WIDE).mean == -0.5


TUNED = f"""name,short,label,group,builds_on,text
"{BASE},learning_rate=0.004,lr_decay_to=0.0",{BASE}@tuned,baseline tuned,tuned,,A.
"{WIDE},lr_decay_to=0.0",{WIDE}@tuned,wide tuned,tuned,{BASE}@tuned,B.
"{BASE},head_size=32",,head,controls,{BASE},C.
"{BASE},head_size=32,lr_decay_to=0.0",{BASE}@tuned-wide,head tuned,tuned,{BASE}@tuned,D.
"""


def test_a_step_is_compared_with_its_base_when_both_have_the_tuned_recipe(project):
    """Beside the losses of every peak rate, those of the default rate among them."""
    (project.results / "ideas" / "settings.csv").write_text(TUNED, "utf-8")
    for key, chosen, test in (BASE, 0.004, 2.5), (WIDE, 0.001, 2.4):
        project.add_row(key, 0, 3.0)
        for rate in 0.001, 0.004:
            settings = {"lr_decay_to": 0.0, "learning_rate": rate}
            words = " ".join(f"{x}={settings[x]}" for x in sorted(settings) if settings[x] != 1e-3)
            loss = 2.0 if rate == chosen else 2.1
            validate = settings | {"validate": True}, f"{words} validate=True"
            project.add_row(key, 0, loss, validate[0], overrides=validate[1])
            if rate == chosen:
                project.add_row(key, 0, test, settings, overrides=words)
    found = project.cells("tuned", "double embd")
    assert list(found.values())[1:3] == ["**2.0000**", "2.1000"]
    assert [found["test"], found["change in test"], found["as published"]] == [
        "2.4000",
        "−0.1000 (one seed)",
        "+0.0000 (one seed)",
    ]
    assert project.cells("comparison", "double embd")["change, both tuned"] == "−0.1000 (one seed)"
    baseline = project.cells("tuned", "baseline")
    assert list(baseline.values())[1:] == ["2.1000", "**2.0000**", "2.5000", "–", "–"]
    wide = {"lr_decay_to": 0.0, "head_size": 32}
    project.add_row(BASE, 0, 2.3, wide, overrides="head_size=32 lr_decay_to=0.0")
    cells = [*project.cells("tuned_ideas", "head", "controls").values()]
    assert cells[-3:] == ["2.3000", "−0.2000 (one seed)", "–"]
    assert "double embd" not in project.block("tuned_ideas", "controls")
    assert "tuned" not in project.measured().groups


RECIPE = "grad_clip=1.0 lr_decay_to=0.0 warmup_steps=200"


def test_a_kind_of_normalization_has_its_lowest_loss_and_the_rates_that_come_close(tmp_path):
    """Of means over the seeds; a rate without a run is missing in the figure."""
    project = Project(tmp_path / "project", CHAIN)
    losses = {0.002: (2.1, 2.2), 0.004: (2.0, 2.01), 0.008: (1.99, 2.03), 0.016: (2.1, 2.2)}
    for rate, found in losses.items():
        recipe = dict(grad_clip=1.0, lr_decay_to=0.0, warmup_steps=200, validate=True)
        words = f"grad_clip=1.0 learning_rate={rate} {RECIPE.partition(' ')[2]} validate=True"
        words = " ".join(sorted(words.split()))
        for seed, loss in enumerate(found):
            project.add_row(LAST, seed, loss, recipe | {"learning_rate": rate}, overrides=words)
    (row,) = re.findall(r"^\| pre-norm: \[\+ GELU\].*", project.block("norms"), re.M)
    assert row.strip("| ").split(" | ")[1:] == ["2.0050", "0.004", "0.004, 0.008"]
    drawn = figures.norms_of(project.measured())[4]
    assert drawn["pre-norm"][0.016] == pytest.approx(2.15)
    assert drawn["none"] == dict.fromkeys(losses)


def test_rounding_is_measured_by_the_same_seeds_without_vector_instructions(project):
    """They stand beside the recorded runs, which count."""
    for seed, usual, plain in (0, 2.0, 2.0), (1, 2.2, 2.1), (2, 2.4, None):
        project.add_row(BASE, seed, usual)
        if plain:
            project.add_row(BASE, seed, plain, device="cpu (Some Chip, DEFAULT)")
    project.add_row(WIDE, 0, 2.0)
    found = [*project.cells("rounding", "baseline").values()]
    assert found[1:] == ["2", "0.050000", "0.100000", "0.200000"]
    assert project.measured().mean(BASE).mean == pytest.approx(2.2)
    assert "double embd" not in project.block("rounding")


def test_rounding_is_measured_within_one_version_of_pytorch(project):
    """Whichever of the rows are older."""
    chip, plain = "cpu (Some Chip)", "cpu (Some Chip, DEFAULT)"
    rows = (2.3, chip, "1.0"), (2.1, plain, "2.0"), (2.0, chip, "2.0"), (2.4, plain, "3.0")
    for day, (loss, device, version) in enumerate(rows, 1):
        finished = f"2026-01-0{day}T00:00:00Z"
        project.add_row(BASE, 0, loss, device=device, torch=version, finished=finished)
    assert project.measured().rounding(project.measured().step(BASE)) == {0: (2.0, 2.1)}


def test_fewer_names_are_a_part_of_the_training_set_and_the_test_set_stays():
    with applied(ROOT) as folder:
        module, fewer = (load(folder / f"{x}.py") for x in ("train-2", "train-2-fewer-names"))
        path = folder / "list.txt"
        path.write_text(
            "\n".join("".join(x) for x in itertools.product("abcdefg", repeat=3)), "utf-8"
        )
        for validate in (False, True):
            full = module.load_data(path, module.Config(validate=validate), "cpu")
            for num in 20, 100, 2562:  # the last is more than there are
                config = fewer.Config(validate=validate, train_names=num)
                part = fewer.load_data(path, config, "cpu")
                assert part.test_items == full.test_items
                assert torch.equal(part.test, full.test)
                assert part.train_items == full.train_items[:num]
                assert torch.equal(part.train, full.train[:num])


def test_the_models_for_a_number_of_names_are_those_with_the_lowest_validation_loss(tmp_path):
    """Beside Kneser-Ney on the same names; the figure shows how far they are above the floor."""
    project = Project(tmp_path / "project", CHAIN)
    fewer = "train-2-fewer-names"
    shutil.copy(ROOT / "results" / "ideas" / "fewer-names.patch", project.results / "ideas")
    project.look_again()
    made_up = {"data": "drawn.txt", "data_hash": "aaaaaaaaaaaa"}
    for steps, validation, test in (500, 2.2, 2.0), (1000, 2.1, 2.05):
        settings = {"steps": steps, "train_names": 900}
        words = f"steps={steps} train_names=900"
        project.add_row(f"{fewer}@long", 0, test, settings, overrides=words, **made_up)
        settings |= {"validate": True}
        words += " validate=True"
        project.add_row(f"{fewer}@long", 0, validation, settings, overrides=words, **made_up)
    rows = [dict.fromkeys(TABLES["ngram.csv"], 1) | made_up for _ in range(2)]
    for row, step, loss in zip(rows, (LAST, f"{fewer},train_names=900"), (1.9, 2.3), strict=True):
        row |= {"step": step, "model": "Kneser-Ney", "discount": 0.5, "test": loss}
    tables.write_table(project.root, "ngram.csv", rows)
    floor = dict.fromkeys(TABLES["floor.csv"], 1) | made_up | {"test": 1.8}
    tables.write_table(project.root, "floor.csv", [floor])
    header, _, row = project.block("amounts").splitlines()
    assert row.strip("| ").split(" | ") == [
        *["drawn.txt", "900", "1.800", "2.300", "2.050 (one seed)", "1,000; 0.05"],
        *["–", "–"],
    ]
    drawn = figures.amounts_of(project.measured())
    assert drawn["Kneser-Ney"] == [[900, pytest.approx(0.5), 0]]
    assert drawn["the last step, 32 wide"] == [[900, pytest.approx(0.25), 0]]
    assert "the distribution itself" not in project.block("floor"), "it is of the bundled list"


def test_makemores_transformer_has_as_many_parameters_and_never_predicts_padding():
    with applied(ROOT) as folder:
        module = load(folder / "train-2-published-makemore.py")
    model = module.Transformer(module.Config(), 28, 16)
    assert sum(p.numel() for p in model.parameters()) == 204_544
    logits = model(torch.tensor([[1, 5, 6, 1, 0]]))
    assert logits.shape == (1, 5, 28)
    assert (logits[..., module.PAD] == -math.inf).all() and logits[..., 1:].isfinite().all()


# --- Loss against costs ---
def test_nothing_is_below_the_edge():
    points = [(3, 1.0), (1, 2.0), (2, 2.0), (3, 0.9), (4, 0.9), (5, 0.5)]
    assert edge(points) == [(1, 2.0), (3, 0.9), (5, 0.5)]
    assert edge([]) == []


def test_the_frontier_has_what_was_timed_and_what_averages_cost(project):
    """An average of two models costs both; a step costs its ratio times its base's."""
    add_ngrams(project, "names.txt", project.steps[BASE].module.NAMES_SHA256[:12])
    project.add_rows(BASE, [2.5, 2.7])
    project.add_rows(WIDE, [1.0])
    base = project.steps[BASE]
    own = {"step": BASE, "fingerprint": base.fingerprint}
    speed = dict.fromkeys(TABLES["speed.csv"], 1) | own | {"ms_per_step": 12}
    slow = speed | {"step": WIDE, "ms_per_step": 99, "ratio": 2}  # while the machine was slow
    slow |= {"fingerprint": project.steps[WIDE].fingerprint}
    tables.write_table(project.root, "speed.csv", [speed, slow])
    of = dict.fromkeys(TABLES["ensemble.csv"], 1) | own | {"params": 200, "counts": 30, "test": 1.5}
    several = [of | {"models": 2, "weight": 0.5}, of | {"models": 1, "weight": 0, "counts": 0}]
    tables.write_table(project.root, "ensemble.csv", several)
    found = [(x.label, x.numbers, x.seconds, x.test) for x in frontier(project.measured())]
    assert found.pop(0) == ("double embd", 12345, 120, 1.0)
    average, (bigram, _), step = found[0], found[1:3], found[3]
    assert average == ("baseline, average of 2, with Kneser-Ney", 230, 2 * 60 + 6, 1.5)
    assert bigram[1:] == (5_000, 6, 2)
    assert step == ("baseline", 12345, 60, pytest.approx(2.6))
    text = project.block("frontier")
    assert [line.split(" | ")[-1] for line in text.splitlines()[2:]] == [
        "size and time |",
        "size |",
        "time |",
        "time |",
        "– |",
    ]


def test_a_tuned_step_is_timed_against_itself_without_the_recipe(project):
    """So that one is not cheaper than the other because each has a chain of ratios of its own."""
    (project.results / "ideas" / "settings.csv").write_text(TUNED, "utf-8")
    project.look_again()
    keys = BASE, WIDE, f"{WIDE},lr_decay_to=0.0"
    speeds = [dict.fromkeys(TABLES["speed.csv"], 1) for _ in keys]
    for key, row, ratio in zip(keys, speeds, (1, 2, 1.25), strict=True):
        of = {"step": key, "fingerprint": project.steps[key].fingerprint, "ms_per_step": 12}
        row |= of | {"ratio": ratio}
    tables.write_table(project.root, "speed.csv", speeds)
    assert milliseconds(project.measured(), keys[2]) == 12 * 2 * 1.25
    assert count(project.measured(), f"time:{keys[2]}:{WIDE}") == (1.25, "125%")


# --- The made-up list ---
@pytest.fixture(scope="module")
def invented(tmp_path_factory):
    """A project whose baseline, trained for four steps, has made a list; its row in floor.csv."""
    project = miniature(tmp_path_factory.mktemp("invent") / "project", [BASE])
    project.steps[BASE].module.main(["--device", "cpu"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(invent, "STEP", BASE)
        invent.main([], project.root)
    (row,) = tables.read_table(project.root, "floor.csv")
    return project, row


def test_the_made_up_list_is_as_long_as_the_real_one_and_drawn_from_the_model(invented):
    project, row = invented
    module = project.steps[BASE].module
    data = module.load_data(None, module.Config(), "cpu")
    content = (project.root / "data" / "sample-names.txt").read_bytes()
    names, real = content.decode().splitlines(), {*data.train_items, *data.test_items}
    assert len(names) == len(data.train_items) + len(data.test_items)
    assert {len(name) for name in names} <= {*range(1, data.max_len)}
    assert row["known"] == pytest.approx(sum(x in real for x in names) / len(names), abs=1e-6)
    assert row["data_hash"] == hashlib.sha256(content).hexdigest()[:12]
    assert (row["data"], row["made_by"]) == ("sample-names.txt", f"{BASE}-seed0")
    model = trained(project.steps[BASE], 0, project.results)
    longer = types.SimpleNamespace(chars=data.chars, max_len=data.max_len + 1)
    drawn = module.generate(model, longer, 4_000, torch.Generator().manual_seed(5))
    kept = sum(0 < len(name) < data.max_len for name in drawn) / len(drawn)
    assert row["kept"] == pytest.approx(kept, abs=0.05) and 0.1 < kept < 0.9


def test_the_floor_of_the_list_is_what_its_model_says_of_it(invented):
    """Each name on its own: its probability, divided by that of all names that were kept."""
    project, row = invented
    module = project.steps[BASE].module
    real = module.load_data(None, module.Config(), "cpu")
    path = project.root / "data" / "sample-names.txt"
    data = module.load_data(path, module.Config(), "cpu")
    model = trained(project.steps[BASE], 0, project.results)
    for column, names in ("train", data.train_items), ("test", data.test_items):
        total = 0.0
        for name in names:
            letters = [real.chars.index(char) + 2 for char in name]
            tokens = torch.tensor([[module.BOUNDARY, *letters, module.BOUNDARY]])
            total += module.token_losses(model, tokens).sum().item() + math.log(row["kept"])
        assert row[column] == pytest.approx(total / sum(len(x) + 1 for x in names), abs=2e-6)
    assert row["entropy"] == pytest.approx(row["train"], abs=4 * row["train_error"])
    assert 0 < 2 * row["entropy_error"] < row["train_error"] < row["test_error"]


def test_a_longer_list_begins_as_the_bundled_one_and_has_a_file_and_a_floor_of_its_own(
    invented, monkeypatch
):
    project, row = invented
    bundled = project.root / "data" / "sample-names.txt"
    before, own = bundled.read_bytes(), project.root / "data" / "drawn.txt"
    monkeypatch.setattr(invent, "STEP", BASE)
    num = 2 * before.count(b"\n")
    invent.main([str(own), "--num", str(num)], project.root)
    assert own.read_bytes().startswith(before) and bundled.read_bytes() == before
    assert own.read_bytes().count(b"\n") == num
    first, second = tables.read_table(project.root, "floor.csv")
    assert first == row and second["data"] == "drawn.txt"
    elsewhere = project.root / bundled.name  # in floor.csv it would be the bundled one
    for words in ["--num", "5"], [str(bundled), "--num", "5"], [str(elsewhere)]:
        with pytest.raises(Failure, match="name another FILE"):
            invent.main(words, project.root)
    assert not elsewhere.exists()
    names = bundled.with_name("names.txt")
    kept = names.read_bytes()
    with pytest.raises(Failure, match="name another FILE"):
        invent.main([str(names)], project.root)
    assert (names.read_bytes(), bundled.read_bytes()) == (kept, before)


CHARS = ["a", "b"]


@pytest.fixture
def model():
    """An untrained model of names of up to three letters, with no two probabilities alike."""
    module = load(ROOT / "train-2.py")
    torch.manual_seed(1)
    net = module.Transformer(module.Config(), len(CHARS) + 2, 4).eval()
    net.lm_head.bias.data[module.PAD] = -30  # as after training: padding has no probability
    return module, net


def test_empty_names_and_those_that_would_go_on_are_drawn_again(model):
    real = types.SimpleNamespace(chars=CHARS, max_len=4)
    names, kept = invent.draw(*model, real, 500, torch.Generator().manual_seed(0))
    assert len(names) == 500
    assert {len(name) for name in names} == {1, 2, 3}
    assert 0 < kept < 1


def test_the_floor_is_the_loss_of_the_distribution_of_the_kept_names(model):
    """All kept names together have the probability 1, and each comes up as often as it should."""
    module, net = model
    names = ["".join(x) for n in (1, 2, 3) for x in itertools.product(CHARS, repeat=n)]

    def share(name, kept):
        loss, _ = invent.loss(module, net, CHARS, [name] * 2, kept)
        return math.exp(-loss * (len(name) + 1))

    real = types.SimpleNamespace(chars=CHARS, max_len=4)
    drawn, kept = invent.draw(module, net, real, 5_000, torch.Generator().manual_seed(0))
    assert sum(share(name, kept) for name in names) == pytest.approx(1, abs=0.02)
    for name in names:
        must = share(name, kept)
        assert drawn.count(name) / len(drawn) == pytest.approx(
            must, abs=5 * math.sqrt(must / 5_000)
        )
