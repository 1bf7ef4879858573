"""results/stream.py: a step trained on windows of any text, its last tenth held out."""

import csv
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys

import pytest
import torch
from common import ROOT, same
from tools import CHAIN, LAST, Project, edit, write_table

sys.path.insert(0, str(ROOT / "results"))

import stream
from lib.command import Failure
from lib.steps import load
from lib.tables import TABLES

TEXT = "Das ist ein Text,\nder nicht endet – oder doch? " * 12
HELD_OUT = TEXT[len(TEXT) - len(TEXT) // 10 :]
SMALL = (
    "--block-size 16 --n-layer 1 --steps 4 --eval-interval 2 --batch-size 8 --device cpu".split()
)


@pytest.fixture
def text(tmp_path):
    """As it may come from Windows, with a byte-order mark."""
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    return path


@pytest.fixture
def call(tmp_path, text, capsys):
    """stream.py on the text, its results in a folder of tmp_path: what it printed."""

    def run(*argv, results="results", file=text, root=ROOT):
        capsys.readouterr()
        folder = ["--results-dir", str(tmp_path / results)]
        stream.main([LAST, "--text", str(file), *SMALL, *folder, *map(str, argv)], root)
        return capsys.readouterr().out

    return run


def read(folder):
    """The rows of texts.csv, whose columns are as they should be."""
    with open(folder / "texts.csv", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == [*TABLES["texts.csv"]]
    return [dict(zip(header, row, strict=True)) for row in rows]


def checkpoint(folder):
    (path,) = (folder / "checkpoints").iterdir()
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("characters", [2, 4, 5, 6, 9, 10, 11])
def test_windows_cover_every_character_once(characters):
    """Every character but the first is a target once, after those before it in its window."""
    tokens = torch.arange(2, 2 + characters)
    rows = stream.windows(tokens, 4, pad=0)
    assert rows.shape[1] == 5
    inputs, targets = rows[:, :-1], rows[:, 1:]
    assert targets[targets != 0].tolist() == tokens[1:].tolist()
    assert inputs[targets != 0].tolist() == tokens[:-1].tolist()


def test_random_windows_begin_anywhere():
    tokens, generator = torch.arange(2, 52), torch.Generator().manual_seed(0)
    rows = stream.random_windows(tokens, 8, 2000, generator)
    assert rows.shape == (2000, 9)
    assert (rows.diff(dim=1) == 1).all()
    assert set(rows[:, 0].tolist()) == {*range(2, 52 - 8)}
    (row,) = stream.random_windows(tokens, 80, 1, generator)
    assert torch.equal(row, tokens), "a text shorter than a window is one"


def load_text(file, block_size=16, **settings):
    module = load(ROOT / f"{LAST}.py")
    return stream.load_text(module, file, block_size, module.Config(**settings), "cpu")


def spell(data, rows):
    return ["".join(data.chars[token - 2] for token in row if token) for row in rows.tolist()]


def test_training_windows_begin_at_every_character_and_the_last_tenth_is_held_out(text):
    """With --validate, the last tenth of what else would be trained on."""
    train, held_out = TEXT.removesuffix(HELD_OUT), HELD_OUT
    for validate in False, True:
        data = load_text(text, validate=validate)
        assert data.chars == sorted(set(TEXT))
        assert spell(data, data.train) == [train[i : i + 17] for i in range(len(train) - 16)]
        first, *rest = spell(data, data.test)
        assert first + "".join(row[1:] for row in rest) == held_out
        train, held_out = train[: -(len(train) // 10)], train[-(len(train) // 10) :]


def test_the_row_has_the_exact_loss_of_the_held_out_text(call, text, tmp_path):
    said = call("--seed", 3)
    (row,) = read(tmp_path / "results")
    state = checkpoint(tmp_path / "results")
    module = load(ROOT / f"{LAST}.py")
    model = module.Transformer(module.Config(n_layer=1), len(set(TEXT)) + 2, 16).eval()
    model.load_state_dict(state["model"])
    chars = sorted(set(TEXT))
    tokens = [chars.index(char) + 2 for char in HELD_OUT]
    losses = []
    for start in range(0, len(tokens) - 1, 16):
        window = torch.tensor([tokens[start : start + 17]])
        with torch.no_grad():
            chances = model(window[:, :-1])[0].softmax(dim=-1)
        losses += [-chances[i, t].log().item() for i, t in enumerate(window[0, 1:])]
    assert float(row["loss"]) == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert f"held-out loss {float(row['loss']):.4f} nats" in said
    generator = torch.Generator().manual_seed(3)
    windows = stream.random_windows(torch.tensor(tokens), 16, 20 * 8, generator)
    with torch.no_grad():
        chances = model(windows[:, :-1]).softmax(dim=-1)
    estimate = -chances.gather(2, windows[:, 1:, None]).log().mean().item()
    assert float(row["random_windows"]) == pytest.approx(estimate, abs=1e-5)
    assert int(row["characters"]) == len(losses) == len(HELD_OUT) - 1
    shown = [row[x] for x in ("script", "text", "block_size", "seed", "source")]
    assert shown == [LAST, "text.txt", "16", "3", module.source_hash()]
    assert row["text_hash"] == hashlib.sha256(text.read_bytes()).hexdigest()[:12]
    assert int(row["params"]) == sum(p.numel() for p in model.parameters())
    assert json.loads(row["settings"])["steps"] == 4
    assert all(row.values())


def test_a_text_goes_on_beyond_its_window_in_characters_only(text):
    """PAD and BOUNDARY are never drawn, however likely; the model sees block_size characters."""
    data, seen = load_text(text, block_size=8), []

    class Model(torch.nn.Linear):
        def forward(self, tokens):
            seen.append(tokens.size(1))
            logits = torch.zeros(*tokens.shape, len(data.chars) + 2)
            logits[..., :2] = 1000
            return logits

    module, generator = load(ROOT / f"{LAST}.py"), torch.Generator()
    written = stream.continue_text(module, Model(1, 1), data, "ein Text", 30, generator)
    assert len(written) == 38
    assert len(set(written[8:])) > 5
    assert max(seen) == 8


def load_and_stop(path):
    """The script with Ctrl-C before the second evaluation."""
    module = load(path)
    evaluate = module.evaluate

    def stop(*parts):
        if parts[-1]["curve"]:
            raise KeyboardInterrupt
        evaluate(*parts)

    module.evaluate = stop
    return module


def test_an_interrupted_run_goes_on_to_the_same_end(call, tmp_path, monkeypatch):
    call("--dropout", 0.1, results="whole")
    with monkeypatch.context() as patch:
        patch.setattr(stream, "load", load_and_stop)
        with pytest.raises(KeyboardInterrupt):
            call("--dropout", 0.1)
    assert checkpoint(tmp_path / "results")["step"] == 2
    assert read(tmp_path / "results") == []
    assert "note" not in call("--dropout", 0.1, "--resume")
    whole, resumed = (checkpoint(tmp_path / name) for name in ("whole", "results"))
    assert whole["step"] == 4
    for part in "model", "optimizer", "rng", "curve", "run":
        assert same(whole[part], resumed[part]), part
    (row,), (other,) = (read(tmp_path / name) for name in ("whole", "results"))
    assert {key for key in row if row[key] != other[key]} <= {"seconds", "finished"}
    call("--dropout", 0.1, "--resume")
    assert len(read(tmp_path / "results")) == 1, "it had finished: no second row"


def test_the_same_text_by_another_path_goes_on_and_another_text_does_not(call, text, tmp_path):
    call()
    moved = tmp_path / "moved.txt"
    shutil.copy(text, moved)
    call("--resume", file=moved)
    assert len(read(tmp_path / "results")) == 1
    moved.write_text(TEXT.upper(), "utf-8")
    call("--resume", file=moved)
    call("--resume", "--block-size", 8)
    assert len(read(tmp_path / "results")) == 3
    assert len([*(tmp_path / "results" / "checkpoints").iterdir()]) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is counted in other units")
def test_windows_of_a_long_text_are_no_copies(tmp_path):
    """1.1 MB in windows of 256, at the sizes of the script, take less than 1 GB."""
    path = tmp_path / "long.txt"
    path.write_text("".join(random.Random(1).choices("abcdefgh \n", k=1_100_000)))
    words = [LAST, "--text", str(path), "--block-size", "256", "--steps", "1", "--no-record"]
    program = "import resource, sys, stream; stream.main(sys.argv[1:]); "
    program += "print('\\n', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", program, *words, "--device", "cpu", "--n-layer", "1"]
    done = subprocess.run(command, cwd=ROOT / "results", capture_output=True, check=True)
    assert int(done.stdout.split()[-1]) < 1_000_000  # kB


@pytest.mark.parametrize(
    "content", [None, b"", b"abc", b"0123456789abcdefghi", b"\xff\xfe" * 500], ids=repr
)
def test_a_text_that_cannot_be_used_is_told(call, tmp_path, content):
    path = tmp_path / "other.txt"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(Failure, match="too few|cannot read"):
        call(file=path)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "argv, told",
    [
        (["--data", "names.txt"], "--text takes the place"),
        (["--prompt", "Öz"], "'zÖ'"),
        (["--block-size", "9999", "--no-record"], "too few"),
    ],
)
def test_wrong_use_is_told(call, tmp_path, argv, told):
    with pytest.raises(Failure, match=told) as failure:
        call(*argv)
    assert failure.value.status == 2
    assert not (tmp_path / "results").exists()


def test_a_script_whose_data_are_no_names_is_told(tmp_path, text):
    """An idea that makes one stream of the names would look for rows that are not there."""
    project = Project(tmp_path / "project", CHAIN)
    other = project.path("train-2-stream")
    shutil.copy(project.path(LAST), other)
    edit(other, "max(map(len, items), default=0)", "max(map(len, items), default=1)")
    with pytest.raises(Failure, match="Data section of its own"):
        stream.main(["train-2-stream", "--text", str(text), "--no-record"], project.root)


def test_the_run_is_recorded_before_the_sample_is_drawn(call, tmp_path, monkeypatch):
    def fail(*parts):
        raise RuntimeError("no sample")

    monkeypatch.setattr(stream, "continue_text", fail)
    with pytest.raises(RuntimeError):
        call()
    assert len(read(tmp_path / "results")) == 1


def test_a_terminal_that_lacks_a_character_loses_nothing(text, tmp_path):
    """The text has a dash that is not of ASCII, and so has the sample."""
    words = [sys.executable, str(ROOT / "results" / "stream.py"), LAST, "--text", str(text)]
    words += [*SMALL, "--prompt", "–", "--results-dir", str(tmp_path / "results")]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\n?" in done.stdout
    assert len(read(tmp_path / "results")) == 1


def test_report_shows_the_runs_on_a_text(call, text, tmp_path):
    """Mean and deviation over the seeds, beside what is published for the text and the sizes."""
    project = Project(tmp_path / "project", CHAIN)
    assert project.block("texts") == "No run is recorded yet."
    for seed in 0, 1:
        call("--seed", seed, root=project.root)
    call("--seed", 0, "--n-layer", 2, root=project.root)
    table = project.results / "texts.csv"
    shutil.copy(tmp_path / "results" / "texts.csv", table)
    one, other, deeper = rows = read(project.results)
    published = {"text_hash": one["text_hash"], "block_size": 16, "n_layer": 1, "n_embd": 32}
    write_table(project.results / "published" / "texts.csv", [published | {"loss": 1.5}])

    first, second = project.block("texts").splitlines()[2:]
    losses = torch.tensor([float(one["loss"]), float(other["loss"])], dtype=torch.float64)
    assert f"| 2 | {losses.mean():.4f}<br>±{losses.std():.4f} | " in first
    assert first.endswith(" | 1.50 |")
    exact, estimate = (float(deeper[x]) for x in ("loss", "random_windows"))
    assert f"| 1 | {exact:.4f} | {estimate:.4f} | – |" in second
    assert first.startswith(f"| {LAST} on text.txt | {int(one['params']):,} | 16 | 4 |")

    rows[2]["source"] = "of an earlier state"
    write_table(table, rows)
    assert len(project.block("texts").splitlines()) == 3
