"""results/stream.py: windows of one stream in place of padded names, and of any text."""

import csv, hashlib, json, math, os, re, signal, sys, types

import pytest, torch

from common import ROOT, SMALL, checkpoint, one_error, read_table, same

sys.path.insert(0, str(ROOT / "results"))
import report, scripts as tools, stream

SCRIPT = "train-2-2head-4layer-mlp-ln-rope.py"
TEXT = "Das ist ein Text,\r\nder nicht endet – oder doch? ".replace("\r\n", "\n") * 12


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    return path


@pytest.fixture
def call(tmp_path, capsys):
    """stream.py, results in tmp_path/results or the folder given: its status and what it printed."""

    def run(*argv, script=SCRIPT, results="results"):
        capsys.readouterr()
        status = 0
        try:
            stream.main(
                [
                    script,
                    *SMALL,
                    "--device",
                    "cpu",
                    "--results-dir",
                    str(tmp_path / results),
                    *map(str, argv),
                ]
            )
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return types.SimpleNamespace(status=status, out=out, err=err, results=tmp_path / results)

    return run


def load_text(script, path, block_size, prompt="", **knobs):
    """What stream.py makes of a text."""
    config = script.Config(**knobs)
    args = types.SimpleNamespace(text=path, block_size=block_size, prompt=prompt)
    return stream.load_text(script, args, config, "cpu")


# --- Windows ---
def test_windows_come_from_the_training_names_in_order_one_boundary_between_them(load, names):
    script = load(SCRIPT)
    data = script.load_data(str(names), config := script.Config(steps=200, batch_size=14), "cpu")
    ids = {char: token for token, char in enumerate(data.chars, start=2)}
    whole = [1]
    for item in data.train_items:
        whole += [*map(ids.get, item), 1]
    places = {tuple(whole[i : i + data.max_len + 1]) for i in range(len(whole) - data.max_len)}
    seen = set()
    for inputs, targets in stream.windows(data, config):
        assert inputs.shape == targets.shape == (14, data.max_len)
        assert torch.equal(inputs[:, 1:], targets[:, :-1])
        seen |= {tuple(window) for window in torch.cat([inputs, targets[:, -1:]], dim=1).tolist()}
    assert seen <= places and len(seen) == len(places)  # the first and the last place as well
    assert not any(0 in window for window in seen)


def test_windows_are_the_seeds_and_begin_where_a_resumed_run_does(load, names):
    script = load(SCRIPT)
    data = script.load_data(str(names), script.Config(), "cpu")
    drawn = {seed: list(stream.windows(data, script.Config(steps=6, seed=seed))) for seed in (0, 1)}
    assert len(drawn[0]) == 6 and not same(drawn[0], drawn[1])
    assert same(drawn[0][4:], list(stream.windows(data, script.Config(steps=6), 4)))


def test_a_step_has_14_windows_of_16_targets(monkeypatch, names):
    """On names.txt; here with one name as long as its longest."""
    names.write_text(names.read_text() + "maximilianoabcd\n")
    shapes, windows = [], stream.windows

    def spy(*args):
        for inputs, targets in windows(*args):
            shapes.append(tuple(targets.shape))
            yield inputs, targets

    monkeypatch.setattr(stream, "windows", spy)
    stream.main([SCRIPT, "--steps", "3", "--data", str(names), "--no-record", "--device", "cpu"])
    assert shapes == [(14, 16)] * 3


def test_the_source_of_a_streamed_row_covers_script_and_windows(monkeypatch):
    """Otherwise a row made with other windows would pass for a present one."""

    def source(script=SCRIPT):
        return stream.as_preset(tools.load(script)).source_hash()

    before = source()
    assert source() == before and source("train-2.py") != before != tools.load(SCRIPT).source_hash()

    def windows(data, config, first_step=0):
        yield

    monkeypatch.setattr(stream, "windows", windows)
    assert source() != before


# --- Names ---
def test_a_run_is_recorded_as_a_preset_of_its_own(call, names, load):
    answer = call("--data", names)
    assert answer.status == 0 and answer.err == ""
    (row,) = read_table(answer.results / "results.csv")
    assert (row["script"], row["preset"], row["config"]) == (SCRIPT, "stream", "+ RoPE, stream")
    assert (
        row["builds_on"] == SCRIPT
        and row["source"] == stream.as_preset(tools.load(SCRIPT)).source_hash()
    )
    assert "batch_size=8" in row["overrides"]
    assert list((answer.results / "curves").iterdir())[0].name.startswith(
        SCRIPT.removesuffix(".py") + "-stream-"
    )
    plain = call("--data", names, "--batch-size", 14)
    assert "batch_size" not in read_table(plain.results / "results.csv")[-1]["overrides"]


def test_it_is_trained_on_the_windows_and_evaluated_as_ever(call, names, load, go):
    """The same loss as the script's functions give, and another than the padded run's."""
    answer, script = call("--data", names), load(SCRIPT)
    state, data = checkpoint(answer.results), script.load_data(str(names), script.Config(), "cpu")
    model = script.Transformer(script.Config(), len(data.chars) + 2, data.max_len)
    model.load_state_dict(state["model"])
    (row,) = read_table(answer.results / "results.csv")
    assert (
        row["test"] == f"{script.mean_loss(script.token_losses(model, data.test), data.test):.6f}"
    )
    padded = go(SCRIPT, "--device", "cpu", results="padded")
    assert not same(checkpoint(padded.results)["model"], state["model"])


def test_the_script_as_others_load_it_is_left_alone(call, names, load):
    script = load("train-2.py")
    before = script.batches, script.run, script.PRESETS
    assert call("--data", names, script="train-2.py").status == 0
    assert (script.batches, script.run, script.PRESETS) == before and "stream" not in script.PRESETS


@pytest.mark.parametrize(
    "argv, named",
    (
        (["--preset", "64x4"], "64x4"),
        (["--block-size", "8"], "--text"),
        (["--prompt", "a"], "--text"),
        (["--n-layers", "1"], "--n-layers"),
    ),
)
def test_wrong_use_with_names_is_one_line(call, names, argv, named):
    answer = call("--data", names, *argv, script="train-2.py")
    assert answer.status == 2 and named in one_error(answer.err) and not answer.results.exists()


# --- Any text ---
@pytest.mark.parametrize("count, length", ((7, 3), (8, 3), (10, 3), (5, 1), (4, 9)))
def test_cut_up_has_every_token_but_the_first_as_a_target_once(count, length):
    tokens = torch.arange(2, 2 + count)
    rows = stream.cut_up(tokens, length)
    assert rows.size(1) == length + 1
    targets = rows[:, 1:]
    assert targets[targets != 0].tolist() == tokens[1:].tolist()
    assert torch.equal(rows[1:, 0], rows[:-1, -1]) and (targets[:, 0] != 0).all()


def test_the_last_tenth_is_held_out_and_nothing_is_lost(load, text):
    script = load(SCRIPT)
    data = load_text(script, text, 16)
    assert (
        data.chars == sorted(set(TEXT))
        and "\n" in data.chars
        and not {"\r", "\ufeff"} & set(data.chars)
    )

    def read(rows):
        tokens = [rows[0, 0].item(), *rows[:, 1:][rows[:, 1:] != 0].tolist()]
        assert min(tokens) >= 2
        return "".join(data.chars[token - 2] for token in tokens)

    cut = len(TEXT) - len(TEXT) // 10
    assert (read(data.train), read(data.test)) == (TEXT[:cut], TEXT[cut:])
    tuned = load_text(script, text, 16, validate=True)
    assert (
        read(tuned.train) + read(tuned.test) == TEXT[:cut]
        and 0.09 < len(read(tuned.test)) / cut < 0.11
    )


def test_the_held_out_loss_is_that_of_every_target(call, text, load):
    """Against the definition, window by window."""
    answer, script = call("--text", text, "--block-size", 16), load(SCRIPT)
    assert answer.status == 0 and answer.err == ""
    state, data = checkpoint(answer.results), load_text(script, text, 16)
    model = script.Transformer(script.Config(), len(data.chars) + 2, 16)
    model.load_state_dict(state["model"])
    tokens, losses = (
        [data.chars.index(char) + 2 for char in TEXT[len(TEXT) - len(TEXT) // 10 :]],
        [],
    )
    for start in range(0, len(tokens) - 1, 16):
        window = tokens[start : start + 17]
        with torch.no_grad():
            logits = model.eval()(torch.tensor([window[:-1]]))[0].log_softmax(-1)
        losses += [-logits[i, target].item() for i, target in enumerate(window[1:])]
    assert len(losses) == len(tokens) - 1
    said = re.search(
        r"held-out loss ([\d.]+) nats a character, over ([\d,]+) characters", answer.out
    )
    assert math.isclose(float(said[1]), sum(losses) / len(losses), abs_tol=1e-4) and int(
        said[2]
    ) == len(losses)


def read_texts(results):
    with open(results / "texts.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == report.TEXTS
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_it_writes_a_sample_a_checkpoint_and_a_row_beside_the_table_of_names(call, text):
    answer = call("--text", text, "--prompt", "nicht", "--block-size", 16)
    sample = answer.out.split("characters\n")[-1].split("\nrow in ")[0]
    assert sample.startswith("nicht") and len(sample) == 505 and set(sample) <= set(TEXT)
    assert {path.name for path in answer.results.iterdir()} == {"checkpoints", "texts.csv"}
    (row,) = read_texts(answer.results)
    assert (row["script"], row["text"], row["block_size"], row["seed"]) == (
        SCRIPT,
        "text.txt",
        "16",
        "0",
    )
    assert row["text_hash"] == hashlib.sha256(text.read_bytes()).hexdigest()[:12]
    said = re.search(
        r"held-out loss ([\d.]+) nats a character, over ([\d,]+) characters", answer.out
    )
    assert f"{float(row['loss']):.4f}" == said[1] and row["characters"] == said[2].replace(",", "")
    assert json.loads(row["settings"])["steps"] == 4
    assert (
        checkpoint(answer.results)["script"] == f"stream.py {SCRIPT}"
    )  # nothing that sample.py draws names from
    assert not call("--text", text, "--no-record", results="nowhere").results.exists()


def test_a_text_continues_past_its_window_without_reserved_tokens(load, text):
    script = load(SCRIPT)
    data, lengths = load_text(script, text, 8), []

    class Fake(torch.nn.Linear):
        def forward(self, tokens):
            lengths.append(tokens.size(1))
            logits = torch.zeros(*tokens.shape, len(data.chars) + 2)
            logits[..., :2] = 1000
            return logits

    written = stream.continue_text(Fake(1, 1), data, "ein Text", 30, torch.Generator())
    assert len(written) == 38 and max(lengths) == 8 and len(set(written[8:])) > 3


def test_an_interrupted_text_run_goes_on_to_the_same_end(call, text, load, monkeypatch):
    argv = "--text", text, "--block-size", 16, "--n-layer", 1
    whole = call(*argv, results="whole")
    real = stream.load

    def interrupting(script):
        module = real(script)
        learning_rate = module.learning_rate

        def once(step, config):
            if step == 1:
                os.kill(os.getpid(), signal.SIGINT)
            return learning_rate(step, config)

        module.learning_rate = once
        return module

    monkeypatch.setattr(stream, "load", interrupting)
    stopped = call(*argv)
    assert (
        stopped.status == 130 and "step 2" in one_error(stopped.err) and "--resume" in stopped.err
    )
    monkeypatch.setattr(stream, "load", real)
    resumed = call(*argv, "--resume")
    assert resumed.status == 0 and same(
        checkpoint(resumed.results)["model"], checkpoint(whole.results)["model"]
    )
    end, other = (run.out.split("held-out")[1].split("\nrow in")[0] for run in (resumed, whole))
    assert end == other
    once, (row,) = read_texts(resumed.results), read_texts(whole.results)
    assert [r["loss"] for r in once] == [row["loss"]]
    again = call(*argv, "--resume", "--prompt", "doch")  # nothing left to train: it only draws
    assert (
        again.status == 0 and "\ndoch" in again.out and read_texts(resumed.results) == once
    )  # no second row
    text.write_bytes(text.read_bytes() + b"x")
    assert "data_hash was" in one_error(call(*argv, "--resume").err)
    next((resumed.results / "checkpoints").iterdir()).write_bytes(b"x")
    assert "damaged" in one_error(call(*argv, "--resume").err)


@pytest.mark.parametrize(
    "argv, named",
    (
        (["--block-size", "0"], "--block-size"),
        (["--block-size", "100000"], "too few"),
        (["--prompt", "Öz"], "'z', 'Ö'"),
        (["--data", "x"], "exclude"),
        (["--steps", "0"], "--steps"),
        (["--n-head", "3"], "--n-head"),
    ),
)
def test_wrong_use_with_a_text_is_one_line(call, text, argv, named):
    answer = call("--text", text, *argv)
    assert answer.status == 2 and named in one_error(answer.err) and not answer.results.exists()


def test_no_text_run_to_resume_is_one_line(call, text):
    """As with the scripts, whether the table can take a row is tried before: it may be there, and is empty."""
    answer = call("--text", text, "--resume")
    assert answer.status == 2 and "no run to resume" in one_error(answer.err)
    assert not any(path.stat().st_size for path in answer.results.rglob("*") if path.is_file())


@pytest.mark.parametrize("content", (None, b"", b"ab", b"\xff\xfe\xff", "folder"))
def test_a_text_that_cannot_be_used_is_one_line(call, tmp_path, content):
    path = tmp_path / "bad.txt"
    path.mkdir() if content == "folder" else content is not None and path.write_bytes(content)
    answer = call("--text", path)
    assert answer.status == 2 and "bad.txt" in one_error(answer.err) and not answer.results.exists()
