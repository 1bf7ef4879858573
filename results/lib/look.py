"""One name followed through a model: what it expects next, and where its attention looks."""

import math
from dataclasses import dataclass

import torch
from torch.overrides import TorchFunctionMode

from lib.command import Failure

START, END = "^", "end"  # how the boundary is shown: before a name and after it
LIKELIEST = 5  # characters that are shown for each position


# --- Looking ---
class Softmaxes(TorchFunctionMode):
    """Keeps what a model's attention weights are as it runs: every softmax that is square.

    The scripts write attention out, and so do ideas: no script has to hand its weights over.
    """

    def __init__(self):
        super().__init__()
        self.found = []  # (..., T, T) each

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if getattr(function, "__name__", "") == "softmax":
            if result.shape[-1:] == result.shape[-2:-1]:
                self.found.append(result)
        return result


@dataclass
class Seen:
    """What a model makes of a name: T predictions, of each character and of the end."""

    name: str
    correct: list  # T times (character, its probability)
    likeliest: list  # T times [(character, probability), ...], the likeliest first
    weights: list  # [layer][head][query][key]; empty where no softmax is square

    @property
    def loss(self):
        return loss_of([probability for _, probability in self.correct])


def loss_of(probabilities):
    """The mean loss of targets that have these probabilities, in nats per token."""
    return -sum(map(math.log, probabilities)) / len(probabilities)


def encode(module, run, name):
    """The name between two boundaries, (1, T + 1). Raise Failure if the model cannot read it.

    `run` is what a checkpoint says of its run.
    """
    script, chars, longest = run["script"], run["chars"], run["max_len"] - 1
    if "block_size" in run:
        raise Failure(f"a model that stream.py trained on a text reads no names: {script}")
    if not name:
        raise Failure("the name is empty")
    if foreign := "".join(sorted(set(name) - set(chars))):
        raise Failure(f"{name!r} has {foreign!r}, which does not occur in the data of {script}")
    if len(name) > longest:
        raise Failure(f"{name!r} is longer than {longest}, as the longest name of {script} is")
    tokens = [chars.index(char) + 2 for char in name]
    return torch.tensor([[module.BOUNDARY, *tokens, module.BOUNDARY]])


@torch.no_grad()
def look(module, model, run, name):
    """What the model of a run makes of the name, in the order in which its script reads names."""
    name = "".join(module.read_items("the name", name.encode()))
    tokens, shown = encode(module, run, name), ["", END, *run["chars"]]
    correct = torch.exp(-module.token_losses(model, tokens)[0]).tolist()  # T of them
    with Softmaxes() as softmaxes:
        logits = model(tokens[:, :-1])[0]  # (T, vocab_size)
    probabilities = logits.softmax(dim=-1)
    probabilities[:, module.PAD] = 0  # no character
    top = probabilities.topk(min(LIKELIEST, len(run["chars"]) + 1))  # (T, LIKELIEST) each
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    return Seen(
        name,
        list(zip([*name, END], correct, strict=True)),
        [[(shown[i], p) for i, p in zip(*row, strict=True)] for row in pairs],
        [x.reshape(-1, *x.shape[-2:]).tolist() for x in softmaxes.found],  # of one name
    )


# --- look.csv: kind, layer, head, position, char, key, value ---
CORRECT, LIKELY, WEIGHT = "correct", "likely", "weight"


def correct_rows(seen):
    """The probability of each correct character; the first is at position 1."""
    found = enumerate(seen.correct, start=1)
    return [[CORRECT, "", "", at, char, "", f"{p:.6g}"] for at, (char, p) in found]


def other_rows(seen):
    """The likeliest characters, and the weights of the keys that a query at a position sees."""
    rows = [
        [LIKELY, "", "", at, char, "", f"{p:.6g}"]
        for at, row in enumerate(seen.likeliest, start=1)
        for char, p in row
    ]
    for layer, heads in enumerate(seen.weights, start=1):
        for head, matrix in enumerate(heads, start=1):
            for at, weights in enumerate(matrix):  # the start is at 0
                char = (START + seen.name)[at]
                found = enumerate(weights[: at + 1])
                rows += [[WEIGHT, layer, head, at, char, key, f"{w:.6g}"] for key, w in found]
    return rows


def attention_data(rows):
    """What draw_attention() draws, from rows of look.csv; empty where they have no weights."""
    rows = [row for row in rows if row["kind"] == WEIGHT]
    if not rows:
        return {}
    name, step = rows[0]["name"], rows[0]["step"]
    layers, heads = (max(int(row[x]) for row in rows) for x in ("layer", "head"))
    size = len(name) + 1
    weights = [[[[0.0] * size for _ in range(size)] for _ in range(heads)] for _ in range(layers)]
    for row in rows:
        matrix = weights[int(row["layer"]) - 1][int(row["head"]) - 1]
        matrix[row["position"]][int(row["key"])] = row["value"]
    return {"step": step, "name": name, "weights": weights}


# --- Drawing ---
def draw_matrix(axes, matrix, letters, numbers):
    """The weights of a head: queries down, keys across. Returns the image, for its scale."""
    import numpy as np

    weights = np.array(matrix)
    unseen = np.triu(weights == 0, 1)  # later positions, which the mask hides
    image = axes.imshow(np.ma.array(weights, mask=unseen), cmap="Blues", vmin=0, vmax=1)
    axes.set_aspect("auto")
    axes.set_facecolor("#eeeeee")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(letters)), letters)
    axes.set_yticks(range(len(letters)), letters)
    for (query, key), weight in np.ndenumerate(weights if numbers else weights[:0]):
        if not unseen[query, key]:
            colour = "white" if weight > 0.65 else "black"
            at = {"ha": "center", "va": "center", "fontsize": 9, "color": colour}
            axes.text(key, query, f"{weight:.0%}", **at)
    return image


def draw_attention(figure, data):
    """The weights of every layer (down) and head (across), [layer][head][query][key]."""
    weights = data["weights"]
    layers, heads, size = len(weights), len(weights[0]), len(weights[0][0])
    letters = (START + data["name"])[-size:]  # an idea may have no start token
    cells, fits = min(size, 40), heads * size <= 16  # numbers overlap in smaller cells
    width = max(figure.get_figwidth(), 1.5 + heads * (0.3 + 0.13 * cells))  # inches
    figure.set_size_inches(width, 1.4 + layers * max(1.5, 0.2 * cells))
    panels = figure.subplots(layers, heads, squeeze=False)
    for layer, row in enumerate(panels):
        for head, axes in enumerate(row):
            image = draw_matrix(axes, weights[layer][head], letters, numbers=fits)
            axes.set_title(f"layer {layer + 1}, head {head + 1}", loc="center", fontsize=11)
    figure.colorbar(image, ax=panels, label="weight", shrink=1 / layers**0.5, aspect=30)
    figure.supxlabel("key", fontsize=11)
    figure.supylabel("query", fontsize=11)
    start = f" ({START} is the start)" if size > len(data["name"]) else ""
    title = f"Attention weights of {data['step']}, reading {data['name']}{start}:\n"
    title += "each row is a position that predicts what follows it, each column where it looks"
    figure.suptitle(title, x=0.02, ha="left", fontsize=11)
