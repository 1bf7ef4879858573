"""results/look.py: one name followed through, checked against the models themselves."""

import math
import shutil
import types
from dataclasses import replace

import look
import pytest
import torch
from common import ROOT
from lib.checkpoints import read_checkpoint, restore
from lib.command import Failure
from lib.look import draw_attention, encode
from lib.look import look as look_at
from lib.patches import applied, git
from lib.scripts import load
from matplotlib.figure import Figure
from tools import BASE, CHAIN, LAST, LAYERS, add_idea, miniature

NAME, IDEA = "elena", "train-2-deep"
RUN = {"script": LAST, "chars": list("abehilnotz"), "max_len": 12}  # as many as tokens


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Three of the steps and an idea of three layers, trained for a few steps."""
    project = miniature(tmp_path_factory.mktemp("look") / "project", CHAIN)
    add_idea(project, "deep")
    words = ["--device", "cpu", "--results-dir", str(project.results)]
    words += ["--data", str(project.root / "data" / "names.txt")]
    with applied(project.root) as folder:
        for key in BASE, LAYERS, LAST, IDEA:
            load(folder / f"{key}.py").main(words)
    return project


@pytest.fixture
def drawn(monkeypatch):
    """The data of the figures, which are not drawn."""
    found = []
    monkeypatch.setattr(look, "png", lambda drawing, data, metadata: found.append(data) or b"PNG")
    return found


@pytest.fixture
def call(project, drawn, capsys, tmp_path, monkeypatch):
    """look.py on the project: its lines as lists of words, the path of its figure, its notes."""
    monkeypatch.setattr(look, "find_steps", lambda root, names: project.steps)  # found once

    def run(*argv):
        path = tmp_path / "a" / "figure.png"
        capsys.readouterr()
        look.main([*argv, "--figure", str(path)], project.root)
        out, err = capsys.readouterr()
        return [line.split() for line in out.splitlines()], path, err

    return run


def refused(call, *argv):
    with pytest.raises(Failure) as failure:
        call(*argv)
    assert failure.value.status == 2
    return str(failure.value)


def fresh(folder, name):
    """A model of a script, or of a patch, with random weights: its module and the model."""
    shutil.copy(ROOT / f"{LAST}.py", folder)
    if not (folder / f"{name}.py").exists():
        patch = ROOT / "results" / "ideas" / f"{name.removeprefix('train-2-')}.patch"
        assert git(folder, "apply", str(patch)).returncode == 0
    module = load(folder / f"{name}.py")
    data = types.SimpleNamespace(**RUN)
    return module, module.make_model(module.Config(), data, "cpu").eval()


def distributions(module, model, chars, name):
    """What the model gives to every token at each position, (T, vocab_size), without token_losses.

    Computed letter by letter, as a name is drawn.
    """
    tokens = [module.BOUNDARY, *(chars.index(char) + 2 for char in name)]
    parts = [model(torch.tensor([tokens[: i + 1]]))[0, -1] for i in range(len(tokens))]
    return torch.stack(parts).softmax(dim=-1).detach(), [*tokens[1:], module.BOUNDARY]


def test_the_table_has_the_probabilities_of_the_models_and_the_loss_of_the_name(project, call):
    """A row for each step that was trained, in the order of the chain; one line on the others."""
    (header, *rows), _, err = call(NAME)
    assert header == [*NAME, "end", "loss"]
    assert [row[0] for row in rows[:3]] == [BASE, LAYERS, LAST] and rows[3] == []
    for key, *cells in rows[:3]:
        step = project.steps[key]
        state = read_checkpoint(project.results / "checkpoints" / f"{key}-seed0.pt")
        model, chars = restore(step.module, state), state["run"]["chars"]
        expected, targets = distributions(step.module, model, chars, NAME)
        correct = [row[target].item() for row, target in zip(expected, targets, strict=True)]
        assert [float(x.rstrip("%")) / 100 for x in cells[:-1]] == pytest.approx(correct, abs=6e-4)
        assert float(cells[-1]) == pytest.approx(-sum(map(math.log, correct)) / 6, abs=6e-5)
        losses = step.module.token_losses(model, encode(step.module, state["run"], NAME))
        seen = look_at(step.module, model, state["run"], NAME)
        assert [p for _, p in seen.correct] == pytest.approx(torch.exp(-losses[0]).tolist())
        for found, row in zip(seen.likeliest, expected, strict=True):
            row[step.module.PAD] = 0
            best = sorted(enumerate(row.tolist()), key=lambda pair: -pair[1])[:5]
            shown = ["end" if token == 1 else chars[token - 2] for token, _ in best]
            assert [char for char, _ in found] == shown
            assert [p for _, p in found] == pytest.approx([p for _, p in best], abs=1e-6)
    starts = [row[0] for row in rows[5:11]]
    assert starts == ["^", "^e", "^el", "^ele", "^elen", "^elena"]
    assert rows[10][1::2] == [char for char, _ in seen.likeliest[-1]], "of the last of them"
    (note,) = err.splitlines()
    others = [x.removesuffix(".py") for x in CHAIN]
    others = [x for x in others if x not in (BASE, LAYERS, LAST)]
    assert note.endswith(f"python results/reproduce.py --again --seeds 1 {' '.join(others)}")


def test_steps_and_runs_are_named_and_the_last_of_them_is_looked_at(call, drawn):
    rows, path, err = call(NAME, f"{LAST}-seed0", f"{IDEA}.py", BASE, f"{LAST}@best")
    assert [row[0] for row in rows[1:4]] == [f"{LAST}-seed0", IDEA, BASE]
    assert rows[-1][-1] == str(path) and path.read_bytes() == b"PNG"
    assert f"--seeds 1 {LAST}@best" in err
    assert call(NAME, LAST)[0][1][1:] == rows[1][1:], "the run is that of the step"
    call(NAME, IDEA)
    assert [(x["step"], len(x["weights"])) for x in drawn] == [(BASE, 1), (LAST, 4), (IDEA, 3)]


def test_the_figure_is_a_png_in_the_folder_of_logs(project):
    look.main([NAME, LAST], project.root)
    path = project.results / "logs" / f"look-{NAME}.png"
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [LAST, "train-2-multi-query", "train-2-no-start"])
def test_the_weights_are_those_of_every_layer_and_head(name, tmp_path):
    """Each row adds up to 1, and no query sees a later key; also where a patch made the script."""
    module, model = fresh(tmp_path, name)
    weights = torch.tensor(look_at(module, model, RUN, NAME).weights)
    size = len(NAME) + (name != "train-2-no-start")
    config = module.Config()
    assert weights.shape == (config.n_layer, config.n_head, size, size)
    assert weights.sum(dim=-1) == pytest.approx(1, abs=1e-5)
    assert (weights.triu(1) == 0).all() and (weights.tril() > 0).sum() == 8 * size * (size + 1) / 2


def test_a_matrix_is_of_its_layer_and_head(tmp_path):
    """Without its query a head gives all that it sees one weight, which no other head does."""
    module, model = fresh(tmp_path, LAST)
    with torch.no_grad():
        model.layers[2].attn.qkv.weight[16:32] = 0  # the query of the second head
    weights = torch.tensor(look_at(module, model, RUN, NAME).weights)
    even = torch.tril(torch.ones(6, 6)) / torch.arange(1, 7).unsqueeze(1)
    same = [[torch.allclose(head, even, atol=1e-4) for head in layer] for layer in weights]
    assert same == [[False, False], [False, False], [False, True], [False, False]]


def test_without_a_square_softmax_there_is_a_table_and_no_figure(call, monkeypatch, tmp_path):
    """As in the idea that adds a score to those of the keys; that of the logits is none."""
    assert look_at(*fresh(tmp_path, "train-2-sink"), RUN, NAME).weights == []
    assert len(look_at(*fresh(tmp_path, LAST), RUN, "a" * 11).weights) == 4
    monkeypatch.setattr(look, "look", lambda *words: replace(look_at(*words), weights=[]))
    rows, path, err = call(NAME, BASE)
    assert rows[1][0] == BASE and "no figure" in err and not path.exists()


def test_the_figure_has_a_titled_matrix_with_letters_per_layer_and_head():
    """Queries down, keys across; the numbers are in it, and what the mask hides is not."""
    causal = [[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.4, 0.6]]
    whole = [[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.9, 0.1, 0.0]]
    figure = Figure(layout="constrained")
    draw_attention(figure, {"step": LAST, "name": "jo", "weights": [[causal, whole]] * 3})
    *panels, _ = figure.axes  # the scale is the last
    titles = [axes.get_title() for axes in panels]
    assert titles == [f"layer {i}, head {j}" for i in (1, 2, 3) for j in (1, 2)]
    for axes, matrix in zip(panels, [causal, whole] * 3, strict=True):
        for axis in axes.xaxis, axes.yaxis:
            assert [text.get_text() for text in axis.get_ticklabels()] == ["^", "j", "o"]
        image = axes.images[0]
        assert image.get_array().data.tolist() == matrix and image.get_clim() == (0, 1)
        assert image.get_array().mask.sum() == (3 if matrix is causal else 0)
        x, y = (pair[0] < pair[1] for pair in (axes.get_xlim(), axes.get_ylim()[::-1]))
        assert x and y, "the first key is on the left, the first query on top"
    numbers = {text.get_position(): text.get_text() for text in panels[0].texts}
    assert numbers[0, 1] == "25%" and numbers[1, 2] == "40%" and len(numbers) == 6
    draw_attention(figure := Figure(), {"step": "", "name": "jo", "weights": [[[[1, 0], [1, 0]]]]})
    letters = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert letters == ["j", "o"], "of an idea without a start token"


@pytest.mark.parametrize(
    "words, message",
    [
        (["élena"], "'é', which does not occur in the data of train-2-baseline"),
        (["a" * 10], "longer than 9, as the longest name"),
        ([""], "the name is empty"),
        ([NAME, "train-2-nothing"], "'train-2-nothing' is no script, preset or idea"),
        ([NAME, "--seed=-1"], "--seed takes numbers from 0"),
        ([NAME, "--seed=2"], f"--again --seeds 3 {' '.join(x.removesuffix('.py') for x in CHAIN)}"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(call, words, message):
    assert message in refused(call, *words)


def test_a_model_of_ones_own_list(project, call, tmp_path):
    """Called by the name of its run; an accent is one character, however it is typed."""
    towns = tmp_path / "towns.txt"
    towns.write_text("köln\nulm\njena\nröhr\nrüm\n" * 4, "utf-8")
    where = ["--results-dir", str(tmp_path)]
    project.steps[BASE].module.main(["--device", "cpu", "--data", str(towns), *where])
    (path,) = (tmp_path / "checkpoints").iterdir()
    rows, _, _ = call("ko\u0308ln", path.stem, *where)
    assert rows[0][:4] == [*"köln"]
    lacking = refused(call, NAME, BASE, *where)
    assert lacking.endswith(f"--again --seeds 1 {BASE} --results-dir {tmp_path}")


def test_a_run_of_an_earlier_state_or_of_a_text_is_refused(project, call, tmp_path):
    path = project.results / "checkpoints" / f"{BASE}-seed0.pt"
    state = torch.load(path, weights_only=True)
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / path.name
    where = ["--results-dir", str(tmp_path)]
    for change in {"run": state["run"] | {"source": "x"}}, {"step": 3}:
        torch.save(state | change, file)
        assert "earlier state, or unfinished" in refused(call, NAME, path.stem, *where)
        assert "changed since: run python" in refused(call, NAME, BASE, *where)
    torch.save(state | {"run": state["run"] | {"block_size": 9}}, file)
    assert "stream.py trained on a text" in refused(call, NAME, path.stem, *where)
