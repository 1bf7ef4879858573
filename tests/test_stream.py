"""results/stream.py: a step trained on windows of any text, its last tenth held out."""

import csv
import hashlib
import io
import json
import random
import shutil
import subprocess
import sys

import pytest
import torch
from common import ROOT, checkpoint, same
from tools import LAST, edit

sys.path.insert(0, str(ROOT / "results"))

import stream
from lib import command
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

    def run(*argv, results="results", file=text, script=LAST):
        capsys.readouterr()
        folder = ["--results-dir", str(tmp_path / results)]
        stream.main([str(script), "--text", str(file), *SMALL, *folder, *map(str, argv)])
        return capsys.readouterr().out

    return run


def read(folder):
    """The rows of texts.csv, whose columns are as they should be."""
    with open(folder / "texts.csv", newline="") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == [*TABLES["texts.csv"]]
    return [dict(zip(header, row, strict=True)) for row in rows]


def load_text(file, block_size=16, **settings):
    module = load(ROOT / f"{LAST}.py")
    return stream.load_text(module, file, block_size, module.Config(**settings), "cpu")


def test_training_windows_begin_at_every_character_and_the_last_tenth_is_held_out(text):
    """With --validate, the last tenth of what else would be trained on."""
    train, held_out = TEXT.removesuffix(HELD_OUT), HELD_OUT
    for validate in False, True:
        data = load_text(text, validate=validate)
        assert data.chars == sorted(set(TEXT))
        parts = [
            ["".join(data.chars[token - 2] for token in row if token) for row in rows.tolist()]
            for rows in (data.train, data.test)
        ]
        assert parts[0] == [train[i : i + 17] for i in range(len(train) - 16)]
        assert parts[1][0] + "".join(row[1:] for row in parts[1][1:]) == held_out
        train, held_out = train[: -(len(train) // 10)], train[-(len(train) // 10) :]


def test_the_row_has_the_exact_loss_of_the_held_out_text(call, text, tmp_path):
    said = call("--seed", 3)
    (row,) = read(tmp_path / "results")
    state = checkpoint(tmp_path / "results")
    assert state["run"]["block_size"] == 16, "by which sample.py knows it"
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
    starts = torch.randint(len(tokens) - 16, (20 * 8,), generator=generator)
    windows = torch.tensor([tokens[start : start + 17] for start in starts])
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


def test_an_interrupted_run_goes_on_to_the_same_end(call, tmp_path, monkeypatch):
    """Ctrl-C comes before the second evaluation."""

    def load_and_stop(path):
        module = load(path)
        evaluate = module.evaluate

        def stop(*parts):
            if parts[-1]["curve"]:
                raise KeyboardInterrupt
            evaluate(*parts)

        module.evaluate = stop
        return module

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


def test_the_same_text_by_another_path_goes_on_and_another_text_does_not(call, text, tmp_path):
    call()
    moved = tmp_path / "moved.txt"
    shutil.copy(text, moved)
    call("--resume", file=moved)
    assert len(read(tmp_path / "results")) == 1, "it had finished: no second row"
    moved.write_text(TEXT.upper(), "utf-8")
    call("--resume", file=moved)
    call("--resume", "--block-size", 8)
    assert len(read(tmp_path / "results")) == 3
    assert len([*(tmp_path / "results" / "checkpoints").iterdir()]) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is counted in other units")
def test_windows_of_a_long_text_are_no_copies(tmp_path):
    """0.6 MB in windows of 256, at the sizes of the script, take less than 1 GB."""
    path = tmp_path / "long.txt"
    path.write_text("".join(random.Random(1).choices("abcdefgh \n", k=600_000)))
    words = [LAST, "--text", str(path), "--block-size", "256", "--steps", "1", "--no-record"]
    program = "import resource, sys, stream; stream.main(sys.argv[1:]); "
    program += "print('\\n', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", program, *words, "--device", "cpu", "--n-layer", "1"]
    done = subprocess.run(command, cwd=ROOT / "results", capture_output=True, check=True)
    assert int(done.stdout.split()[-1]) < 1_000_000  # kB


@pytest.mark.parametrize("content", [None, b"", b"0123456789abcdefghi", b"\xff\xfe" * 500])
def test_a_text_that_cannot_be_used_is_told(call, tmp_path, content):
    path = tmp_path / "other.txt"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(Failure, match="too few|cannot read"):
        call(file=path)
    assert not (tmp_path / "results").exists()


def test_wrong_use_is_told(call, tmp_path):
    """A script that makes one stream of the names, too: rows that it looks for are not there."""
    other = tmp_path / "train-2-stream.py"
    shutil.copy(ROOT / f"{LAST}.py", other)
    edit(other, "max(map(len, items), default=0)", "max(map(len, items), default=1)")
    for flags, script, told in (
        (["--data", "names.txt"], LAST, "--text takes the place"),
        (["--prompt", "Öz"], LAST, "'zÖ'"),
        (["--block-size", "9999"], LAST, "too few"),
        ([], other, "Data section of its own"),
    ):
        with pytest.raises(Failure, match=told) as failure:
            call(*flags, script=script)
        assert failure.value.status == 2
    assert not (tmp_path / "results").exists()


def test_a_sample_that_cannot_be_shown_loses_no_run(call, tmp_path, monkeypatch):
    """Where a terminal lacks a character there is a mark for it; before any sample is the row."""
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        command.run(lambda: call("--prompt", "–"))
    out.seek(0)
    assert "\n?" in out.read()

    monkeypatch.setattr(stream, "continue_text", lambda *parts: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        call("--seed", 1)
    assert len(read(tmp_path / "results")) == 2
