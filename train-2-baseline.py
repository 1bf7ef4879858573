"""baseline: one attention head between an embedding and a linear layer.

A small language model: from a list of names it learns to invent new ones. At each character it
scores every token that could come next, a character or the end: these scores are the logits. An
embedding turns tokens into vectors. One head of attention lets every position gather what it needs
from itself and the positions before it. A linear layer, lm_head, turns that into the logits.

Run it:        python train-2-baseline.py
What is next:  diff train-2-baseline.py train-2-2head.py
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "numpy==2.4.6"]
# ///
import argparse
import ast
import csv
import hashlib
import http.client
import io
import json
import math
import os
import random
import re
import sys
import time
import urllib.request
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

# --- Configuration ---
LABEL = "baseline"
BUILDS_ON = None
CHANGES = ()  # sections, besides this one, that differ from BUILDS_ON
PRESETS = {}


def knob(default, help, low=1, high=2**31 - 1):
    """A field of Config. Its flag on the command line takes what lies between low and high."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass
class Config:
    n_embd: int = knob(32, "width of the embedding")
    head_size: int = knob(16, "width of query, key and value")
    steps: int = knob(5000, "optimizer steps")
    batch_size: int = knob(32, "names in a batch")
    learning_rate: float = knob(1e-3, "learning rate at its peak", low=0)
    lr_decay_to: float = knob(1.0, "share of the peak that a cosine ends at", low=0, high=1)
    warmup_steps: int = knob(0, "steps in which the learning rate rises to its peak", low=0)
    weight_decay: float = knob(0.0, "weight decay of AdamW, on all parameters", low=0)
    grad_clip: float = knob(0.0, "largest norm of the gradient, 0 for no limit", low=0)
    eval_interval: int = knob(500, "steps between evaluations")
    seed: int = knob(0, "seed of all that is random", low=0, high=2**63 - 1)
    threads: int = knob(1, "threads on the CPU", high=1024)
    validate: bool = knob(False, "evaluate on a held-out tenth of the training lines", low=0)


# --- Data ---
HERE = Path(__file__).resolve().parent
NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
LONGEST = 1000  # most characters an item (here a name) may have: all are padded to the longest
PAD, BOUNDARY = 0, 1  # filler, and both ends of an item; characters are tokens from 2 up


class Failure(Exception):
    """What the user can fix, told in one line. Status 2 is wrong use or input, 1 a failed run."""

    def __init__(self, message, status=2):
        super().__init__(message)
        self.status = status


@dataclass
class Data:
    name: str
    hash: str
    chars: list  # the character of token 2, of token 3, and so on
    max_len: int  # of an input: the boundary and the longest item
    train_items: list
    train: torch.Tensor  # (N, max_len + 1): boundary, characters, boundary, then PAD
    test_items: list
    test: torch.Tensor


def write_whole(path, content):
    """Write the bytes beside the file, then move them into place: nobody reads half of it."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_names(save):
    """Path and bytes of names.txt, downloaded (kept, if `save`), or else of the bundled sample."""
    path = HERE / "data" / "names.txt"
    if path.exists():
        return path, path.read_bytes()
    try:
        with urllib.request.urlopen(NAMES_URL, timeout=10) as response:
            blob = response.read()
        if hashlib.sha256(blob).hexdigest() != NAMES_SHA256:
            raise ValueError("wrong checksum")
        if save:
            write_whole(path, blob)
    except (OSError, ValueError, http.client.HTTPException) as error:
        print(
            f"note: cannot download names.txt ({error}); training on the bundled sample-names.txt"
        )
        path = HERE / "data" / "sample-names.txt"
        blob = path.read_bytes()
    return path, blob


def load_data(file, config, device, save=True):
    """Read one item a line, of names.txt where `file` is None; split 80/20 by line and encode."""
    try:
        path, blob = (Path(file), Path(file).read_bytes()) if file else read_names(save)
        lines = blob.decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read the data, UTF-8 text with an item a line: {error}") from error
    items = [line.strip() for line in lines if line.strip()]
    longest = max(map(len, items), default=0)
    if longest > LONGEST:
        raise Failure(f"{path} has an item of {longest} characters: split those over {LONGEST}")
    random.Random(42).shuffle(items)  # the same split, whatever the --seed
    cut, end = int(0.8 * len(items)), len(items)
    if config.validate:
        cut, end = cut - cut // 10, cut  # the test split has no part in a choice
    if not 0 < cut < end:
        raise Failure(f"{path} has {len(items)} items, too few to split into training and test")

    chars = sorted(set("".join(items)))
    token_of = {char: token for token, char in enumerate(chars, start=2)}
    rows = [[BOUNDARY, *(token_of[char] for char in item), BOUNDARY] for item in items[:end]]
    rows = [row + [PAD] * (longest + 2 - len(row)) for row in rows]
    tokens = torch.tensor(rows, device=device)
    digest = hashlib.sha256(blob).hexdigest()[:12]
    train, test = (items[:cut], tokens[:cut]), (items[cut:end], tokens[cut:])
    return Data(path.name, digest, chars, longest + 1, *train, *test)


def draw_batches(data, config):
    """For every step: the rows of its batch, (steps, batch_size), and how long the longest is."""
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.randint(len(data.train), (config.steps, config.batch_size), generator=generator)
    lengths = (data.train != PAD).sum(dim=1).cpu()  # (N,)
    longest = lengths[rows].amax(dim=1).tolist()  # known beforehand: no step waits for the device
    return rows.to(data.train.device), longest


# --- Model ---
class Attention(nn.Module):
    """One head of causal self-attention: (B, T, n_embd) -> (B, T, head_size). Vaswani et al. 2017.

    Every position makes a query (what it looks for), a key (what it can be found by) and a value
    (what it has to give). It receives a mean of the values, weighted by how keys fit its query.
    """

    def __init__(self, config, max_len):
        super().__init__()
        self.qkv = nn.Linear(config.n_embd, 3 * config.head_size, bias=False)
        # Added to the scores: minus infinity, so a weight of 0, where the key is after the query.
        mask = torch.full((max_len, max_len), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)  # made anew, not saved

    def forward(self, x):
        T = x.size(1)  # B names of T positions each
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, head_size) each
        # Scores grow with the root of head_size. Divided by it, no key begins with all the weight.
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # (B, T, T): query row, key column
        scores = scores + self.mask[:T, :T]  # no position gathers from later ones
        weights = scores.softmax(dim=-1)  # (B, T, T), every row adds up to 1
        return weights @ v  # (B, T, head_size)


class Transformer(nn.Module):
    """Scores (logits) of every next token at every position: (B, T) -> (B, T, vocab_size)."""

    def __init__(self, config, vocab_size, max_len):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, config.n_embd)
        self.attn = Attention(config, max_len)
        self.lm_head = nn.Linear(config.head_size, vocab_size)

    def forward(self, tokens):
        x = self.tok_emb(tokens)  # (B, T, n_embd)
        x = self.attn(x)  # (B, T, head_size)
        return self.lm_head(x)


# --- Training ---
def masked_loss(logits, targets, reduction="mean"):
    """-log p(target) in nats, no PAD: (B, T, vocab_size), (B, T) -> (), or "none": (B * T,)."""
    logits, targets = logits.flatten(0, 1), targets.flatten()
    return F.cross_entropy(logits, targets, ignore_index=PAD, reduction=reduction)


@torch.no_grad()
def token_losses(model, tokens):
    """The loss of every target, 0 where that is PAD: (N, L) -> (N, L - 1), on the CPU."""
    model.eval()
    lengths = (tokens != PAD).sum(dim=1).cpu()
    losses = torch.zeros(len(tokens), tokens.size(1) - 1)
    for rows in lengths.argsort().split(max(1, 2**13 // tokens.size(1))):  # sorted: little PAD
        batch = tokens[rows.to(tokens.device), : lengths[rows[-1]]]  # (B, T + 1)
        loss = masked_loss(model(batch[:, :-1]), batch[:, 1:], reduction="none")
        losses[rows, : batch.size(1) - 1] = loss.view(len(rows), -1).cpu()
    model.train()
    return losses


def mean_loss(losses, tokens):
    """The mean of token_losses(model, tokens) over all targets but PAD."""
    return losses.sum(dtype=torch.float64).item() / (tokens[:, 1:] != PAD).sum().item()


def learning_rate(step, config):
    """Linear warm-up to the peak, then a cosine to lr_decay_to of it; constant by default."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)  # 0 to 1
    share = config.lr_decay_to + (1 - config.lr_decay_to) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * share


def make_optimizer(model, config):
    """AdamW (Loshchilov and Hutter 2019): mean gradients, each divided by its usual size."""
    return torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)


def train(model, optimizer, data, batches, config, state):
    """Train from state["step"] to the next evaluation, and note in the state where that is."""
    rows, longest = batches
    end = (state["step"] // config.eval_interval + 1) * config.eval_interval
    end = min(end, config.steps)
    start = time.perf_counter()
    for step in range(state["step"], end):
        # Forward: how surprising are the characters that come next?
        tokens = data.train[:, : longest[step]][rows[step]]  # (B, T + 1)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]  # a target is the input one position later
        loss = masked_loss(model(inputs), targets)

        # Backward: how does the loss change with each parameter?
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)

        # Update: move every parameter a little, so that the loss falls.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.step()
    loss.item()  # waits for the device, before the clock is read
    state["seconds"] += time.perf_counter() - start
    state["step"] = end


def evaluate(model, data, config, state):
    """Add the losses of the first 1,000 training items and of the test split to the curve."""
    parts = data.train[:1000], data.test
    train_loss, test_loss = (mean_loss(token_losses(model, part), part) for part in parts)
    step, pace = state["step"], state["seconds"] / state["step"]
    if not math.isfinite(train_loss + test_loss):
        raise Failure(f"the loss is not finite at step {step}: try a lower --learning-rate", 1)
    state["curve"].append([step, train_loss, test_loss])
    left = f"{1000 * pace:6.2f} ms/step  {pace * (config.steps - step):4.0f} s left"
    print(f"step {step:6,}  train {train_loss:.4f}  test {test_loss:.4f}  {left}", flush=True)


# --- Sampling ---
@torch.no_grad()
def generate(model, data, num, generator, prompt="", temperature=1.0):
    """`num` names that begin with `prompt`; a temperature below 1 prefers the likelier ones."""
    model.eval()
    device = next(model.parameters()).device
    tokens = torch.tensor([[BOUNDARY, *(data.chars.index(char) + 2 for char in prompt)]] * num)
    while tokens.size(1) < data.max_len and not (tokens[:, 1:] == BOUNDARY).any(dim=1).all():
        logits = model(tokens.to(device))[:, -1].cpu() / temperature  # (num, vocab_size)
        logits[:, PAD] = -math.inf  # never drawn
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (num, 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    names = []
    for row in tokens[:, 1:].tolist():
        end = row.index(BOUNDARY) if BOUNDARY in row else len(row)  # later draws are dropped
        names.append("".join(data.chars[token - 2] for token in row[:end]))
    return names


# --- Results ---
COLUMNS = """script label preset overrides builds_on data data_hash seed steps n_embd head_size
n_head n_layer params train test test_from_2nd test_unseen seconds ms_per_step device threads torch
source finished samples settings""".split()


def source_hash():
    """Short hash of Data, Model and Training. Comments, docstrings and layout do not count."""
    text = Path(__file__).read_text(encoding="utf-8")
    sections = re.findall(r"^# --- (?:Data|Model|Training) ---$.*?(?=^# ---)", text, re.M | re.S)
    tree = ast.parse("".join(sections))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def run_name(script, preset, overrides, data, device, seed):
    """What a run's files are called: train-2@final-n_layer=2-seed3. No two kinds share a name."""
    words = [Path(script).stem + (f"@{preset}" if preset else ""), *overrides.split()]
    if data.hash != NAMES_SHA256[:12]:
        words.append(f"{data.name}-{data.hash}")
    if device != "cpu":
        words.append(device)
    return "-".join([*words, f"seed{seed}"])


def describe(options, config, overrides, data, model, device):
    """What the run is. A checkpoint is only resumed if it agrees in all of this."""
    processor = torch.cpu.get_capabilities().get("cpu_name", "")
    return {
        "script": Path(__file__).name,
        "source": source_hash(),
        "preset": options.preset or "",
        "overrides": overrides,
        "settings": asdict(config),
        "params": sum(p.numel() for p in model.parameters()),
        "data": data.name,
        "data_hash": data.hash,
        "chars": data.chars,
        "max_len": data.max_len,
        "device": f"{device} ({torch.cuda.get_device_name() if device == 'cuda' else processor})",
        "torch": str(torch.__version__),  # a plain string, which torch.load() takes as safe
    }


def save_checkpoint(path, state, model, optimizer):
    """Write the state, the model, the optimizer and the random numbers to come to one file."""
    state["saved"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    file = io.BytesIO()  # in memory first, so that a full disk is an OSError
    torch.save({**state, **parts, "random": torch.get_rng_state()}, file)
    write_whole(path, file.getvalue())


def load_checkpoint(path, state, model, optimizer):
    """Take over what this run saved, or say in a line why it starts from the beginning."""
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        differing = [key for key, value in state["run"].items() if saved["run"][key] != value]
        problem = f"it was made with another {', '.join(differing)}" if differing else None
    except FileNotFoundError:
        problem = "there is none"
    except Exception as error:  # a damaged file can raise anything
        problem = f"it cannot be read ({type(error).__name__})"
    if problem:
        print(f"note: no checkpoint to go on from, starting anew: {path}: {problem}")
        return
    model.load_state_dict(saved.pop("model"))
    optimizer.load_state_dict(saved.pop("optimizer"))
    torch.set_rng_state(saved.pop("random"))
    state.update(saved)


def final_losses(model, data):
    """Exact losses: of all items, without first characters, of test items not trained on."""
    losses = token_losses(model, data.test)
    known = set(data.train_items)
    unseen = [i for i, item in enumerate(data.test_items) if item not in known]
    return {
        "train": mean_loss(token_losses(model, data.train), data.train),
        "test": mean_loss(losses, data.test),
        "test_from_2nd": mean_loss(losses[:, 1:], data.test[:, 1:]),
        "test_unseen": mean_loss(losses[unseen], data.test[unseen]) if unseen else None,
    }


def make_row(state, config, losses, names):
    """The run as a row of the table: {column: value}."""
    run = state["run"]
    preset = PRESETS.get(run["preset"], {"label": LABEL, "builds_on": BUILDS_ON})
    row = {column: run[column] for column in COLUMNS if column in run}
    row |= {"label": preset["label"], "builds_on": preset["builds_on"]}
    row |= {"n_head": 1, "n_layer": 1}  # of scripts without such a knob
    row |= {column: value for column, value in asdict(config).items() if column in COLUMNS}
    row.setdefault("head_size", config.n_embd // row["n_head"])
    row |= {name: "" if loss is None else f"{loss:.6f}" for name, loss in losses.items()}
    row["seconds"] = f"{state['seconds']:.6f}"
    row["ms_per_step"] = f"{1000 * state['seconds'] / config.steps:.6f}"
    row["finished"] = state["saved"]
    row["samples"] = json.dumps(names, ensure_ascii=False)
    row["settings"] = json.dumps(asdict(config))
    return {column: row[column] for column in COLUMNS}


def check_table(path, columns):
    """Raise Failure now if the row could not be added at the end. Writes nothing."""
    place = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(place, os.W_OK) or (place != path and not place.is_dir()):
        raise Failure(f"cannot write to {place}: choose another --results-dir")
    table = path.read_bytes() if place == path else b""
    if table and table.splitlines()[0] != ",".join(columns).encode():
        raise Failure(f"{path} has a foreign header: move it, or choose another --results-dir")


def append_row(path, row):
    """Add the row to the table, in one write under a lock, unless a resumed run did so before."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row.keys(), row.values()])
    header, line = text.getvalue().encode(errors="backslashreplace").split(b"\n", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        if os.name == "posix":
            import fcntl  # Windows has none, and no lock then

            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        table = file.read()
        if b"\n" + line in table.replace(b"\r\n", b"\n"):
            return
        if not table:
            line = header + b"\n" + line
        elif not table.endswith(b"\n"):
            line = b"\n" + line
        if file.write(line) < len(line):
            file.truncate(len(table))
            raise OSError(f"no space left for the row in {path}")


def write_curve(path, curve):
    """The losses during training, one line an evaluation."""
    lines = [f"{step},{train:.6f},{test:.6f}\n" for step, train, test in curve]
    write_whole(path, "".join(["step,train,test\n", *lines]).encode())


# --- Main ---
class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise Failure(f"{message}; see --help")


def parse(argv):
    """The command line: its options, the Config, and which knobs depart from preset or defaults."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    for entry in fields(Config):
        kind = {"action": "store_true"} if entry.type is bool else {"type": entry.type}
        text = f"{entry.metadata['help']} (default: {entry.default})"
        flag = "--" + entry.name.replace("_", "-")
        parser.add_argument(flag, default=argparse.SUPPRESS, help=text, **kind)
    if PRESETS:
        parser.add_argument("--preset", choices=PRESETS, help="knobs by name; flags override them")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto")
    parser.add_argument("--data", metavar="FILE", help="UTF-8 text, one item a line")
    parser.add_argument("--results-dir", metavar="DIR", type=Path, default=HERE / "results")
    parser.add_argument("--no-record", action="store_true", help="write nothing")
    parser.add_argument("--resume", action="store_true", help="go on from this run's checkpoint")
    parser.add_argument("--debug", action="store_true", help="find what made a NaN (slow)")
    options = parser.parse_args(argv, argparse.Namespace(preset=None))

    defaults = Config(**PRESETS[options.preset]["knobs"]) if options.preset else Config()
    given = {key: value for key, value in vars(options).items() if hasattr(defaults, key)}
    config = replace(defaults, **given)
    overrides = []
    for entry in sorted(fields(Config), key=lambda entry: entry.name):
        name, value = entry.name, getattr(config, entry.name)
        low, high = entry.metadata["low"], entry.metadata["high"]
        if not low <= value <= high:
            raise Failure(f"--{name.replace('_', '-')} {value} is not from {low} to {high}")
        if value != getattr(defaults, name) and name not in ("seed", "threads"):
            overrides.append(f"{name}={value}")
    return options, config, " ".join(overrides)


def pick_device(name):
    """The device to train on; auto is CUDA where there is one, else the CPU."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not getattr(torch, name).is_available():
        raise Failure(f"--device {name}: there is none on this machine that PyTorch can use")
    return name


def print_results(losses, names, data):
    """The final losses and the generated names, for whoever sits at the terminal."""
    for figure, loss in losses.items():
        if loss is not None:
            print(f"{figure:14} {loss:.4f} nats per character")
    marked = [name + "*" if name in data.train_items else name for name in names]
    print("ten names, * is in the training split:", " ".join(marked))


def main(argv=None):
    """Train this model and record the run."""
    options, config, overrides = parse(argv)
    if not options.no_record:
        check_table(options.results_dir / "results.csv", COLUMNS)
    device = pick_device(options.device)
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(options.debug)

    data = load_data(options.data, config, device, save=not options.no_record)
    torch.manual_seed(config.seed)
    model = Transformer(config, len(data.chars) + 2, data.max_len).to(device)
    optimizer = make_optimizer(model, config)
    batches = draw_batches(data, config)
    described = describe(options, config, overrides, data, model, device)
    name = run_name(__file__, options.preset, overrides, data, device, config.seed)
    print(f"{name}: {described['params']:,} parameters, on {data.name}, {described['device']}")
    if data.hash != NAMES_SHA256[:12]:
        print(f"note: {data.name} is not makemore's names.txt: no part of the comparison")

    state = {"run": described, "step": 0, "seconds": 0.0, "curve": []}  # what a checkpoint holds
    checkpoint = options.results_dir / "checkpoints" / f"{name}.pt"
    if options.resume:
        load_checkpoint(checkpoint, state, model, optimizer)
    while state["step"] < config.steps:
        train(model, optimizer, data, batches, config, state)
        evaluate(model, data, config, state)
        if not options.no_record:
            save_checkpoint(checkpoint, state, model, optimizer)

    losses = final_losses(model, data)
    names = generate(model, data, 10, torch.Generator().manual_seed(config.seed))
    if not options.no_record:
        write_curve(options.results_dir / "curves" / f"{name}.csv", state["curve"])
        append_row(options.results_dir / "results.csv", make_row(state, config, losses, names))
    print_results(losses, names, data)


def run():
    """main(), with what may be expected to go wrong in one line. A bug keeps its traceback."""
    sys.stdout.reconfigure(errors="replace")  # a terminal may lack a character of the data
    try:
        main()
        return
    except Failure as error:
        message, status = str(error), error.status
    except OSError as error:
        message, status = f"{error}: mend that and run the same command with --resume", 1
    except (MemoryError, torch.OutOfMemoryError):
        message, status = "out of memory: try a smaller --batch-size or --n-embd", 1
    except KeyboardInterrupt:
        message, status = "stopped; --resume goes on from the last evaluation that was saved", 130
    print("error:", " ".join(message.split()), file=sys.stderr)
    sys.exit(status)


if __name__ == "__main__":
    run()
