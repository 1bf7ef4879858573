"""results/stream.py: a step trained on windows of any text, its last tenth held out."""

import hashlib

import pytest
import stream
import torch
from common import ROOT, checkpoint, same, stop_at
from lib.command import Failure
from lib.scripts import load
from lib.steps import LISTED
from lib.tables import TABLES, read_csv
from tools import CHAIN, LAST, Project, write_table

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

    def run(*argv, results="results", file=text, script=LAST, root=ROOT):
        capsys.readouterr()
        folder = ["--results-dir", str(tmp_path / results)]
        stream.main([str(script), "--text", str(file), *SMALL, *folder, *map(str, argv)], root)
        return capsys.readouterr().out

    return run


def read(folder):
    return read_csv(folder / "texts.csv", TABLES["texts.csv"])


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
    assert row["loss"] == pytest.approx(sum(losses) / len(losses), abs=1e-5)
    assert f"held-out loss {row['loss']:.4f} nats" in said
    generator = torch.Generator().manual_seed(3)
    starts = torch.randint(len(tokens) - 16, (20 * 8,), generator=generator)
    windows = torch.tensor([tokens[start : start + 17] for start in starts])
    with torch.no_grad():
        chances = model(windows[:, :-1]).softmax(dim=-1)
    estimate = -chances.gather(2, windows[:, 1:, None]).log().mean().item()
    assert row["random_windows"] == pytest.approx(estimate, abs=1e-5)
    assert row["characters"] == len(losses) == len(HELD_OUT) - 1
    shown = [row[x] for x in ("script", "text", "block_size", "seed", "source")]
    assert shown == [LAST, "text.txt", 16, 3, module.source_hash()]
    assert row["text_hash"] == hashlib.sha256(text.read_bytes()).hexdigest()[:12]
    assert row["params"] == sum(p.numel() for p in model.parameters())
    assert row["settings"]["steps"] == 4


def test_a_text_goes_on_beyond_its_window_in_characters_only(text):
    """PAD and BOUNDARY are never drawn; the model sees at most block_size characters."""
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


def test_a_step_is_called_by_its_name(call, tmp_path):
    """Its settings are the same given as flags, but not both. It may have a short one."""
    name = f"{LAST},grad_clip=1.0,n_head=1"
    project = Project(tmp_path / "project", CHAIN)
    row = dict.fromkeys(LISTED, "") | {"name": name, "short": f"{LAST}@clipped"}
    write_table(project.results / "ideas" / "settings.csv", [row])
    call("--grad-clip", 1, "--n-head", 1)
    (row,), (path,) = read(tmp_path / "results"), (tmp_path / "results" / "checkpoints").iterdir()
    for script in f"{LAST}.py,grad_clip=1,n_head=1", f"{LAST}@clipped":
        call(script=script, results=script, root=project.root)
        (named,) = read(tmp_path / script)
        assert (named["loss"], named["settings"]) == (row["loss"], row["settings"])
        assert (tmp_path / script / "checkpoints" / path.name).exists()
    with pytest.raises(Failure, match="grad_clip is in the name"):
        call("--grad-clip", 2, script=f"{LAST},grad_clip=1")


def test_an_interrupted_run_goes_on_to_the_same_end(call, tmp_path, monkeypatch):
    def load_and_stop(path):
        module = load(path)
        stop_at(module, 3, monkeypatch)
        return module

    call("--dropout", 0.1, results="whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(stream, "load", load_and_stop)
        call("--dropout", 0.1)
    assert checkpoint(tmp_path / "results")["step"] == 2
    call("--dropout", 0.1, "--resume")
    whole, resumed = (checkpoint(tmp_path / name) for name in ("whole", "results"))
    assert whole["step"] == 4
    for part in "model", "optimizer", "rng", "curve", "run":
        assert same(whole[part], resumed[part]), part
    (row,), (other,) = (read(tmp_path / name) for name in ("whole", "results"))
    assert {key for key in row if row[key] != other[key]} <= {"seconds", "finished"}


@pytest.mark.parametrize("content", [b"0123456789abcdefghi", b"\xff\xfe" * 500])
def test_a_text_that_cannot_be_used_is_refused(call, tmp_path, content):
    path = tmp_path / "other.txt"
    path.write_bytes(content)
    with pytest.raises(Failure, match="too few|cannot read"):
        call(file=path)
    assert not (tmp_path / "results").exists()
