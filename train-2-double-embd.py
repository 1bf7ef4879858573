"""double embd: the baseline at twice the width.

Does a single attention head do better with more room? Every character becomes a vector of 64
numbers instead of 32, and queries, keys and values have 32 instead of 16. Nothing else changes.
"""

# /// script
# requires-python = ">=3.11"
# dependencies = ["torch==2.13.0", "numpy==2.4.6"]
# ///
import argparse
import ast
import csv
import hashlib
import io
import json
import math
import os
import random
import sys
import time
import unicodedata
import urllib.request
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

# --- Configuration ---
BUILDS_ON = "train-2-baseline"


def option(default, help, low=1, high=2**31 - 1):
    """A field of Config: its default, its --help text, and the range that its flag accepts."""
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass
class Config:
    n_embd: int = option(64, "width of the embedding")
    head_size: int = option(32, "width of queries, keys and values")
    steps: int = option(5000, "optimizer steps")
    batch_size: int = option(32, "names per batch")
    learning_rate: float = option(1e-3, "peak learning rate", low=0)
    lr_decay_to: float = option(1.0, "fraction of the peak that a cosine ends at", low=0, high=1)
    warmup_steps: int = option(0, "steps over which the learning rate rises to its peak", low=0)
    weight_decay: float = option(0.0, "AdamW's weight decay, on all parameters", low=0)
    grad_clip: float = option(0.0, "maximum norm of the gradient; 0 means no clipping", low=0)
    eval_interval: int = option(500, "steps between evaluations")
    seed: int = option(0, "seed of weights, batches, dropout, samples", low=0, high=2**63 - 1)
    split_seed: int = option(42, "seed of the training/test split", low=0, high=2**63 - 1)
    threads: int = option(1, "CPU threads", high=1024)
    validate: bool = option(False, "hold out a tenth of the training set, test on that", low=0)


PRESETS = {}  # named sets of hyperparameters: train-2.py has some

# --- Data ---
HERE = Path(__file__).resolve().parent
NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
LONGEST = 1000  # limit on the characters in a name, because all are padded to the longest
PAD, BOUNDARY = 0, 1  # padding, and the token at both ends of a name; characters start at 2


@dataclass
class Data:
    name: str
    hash: str
    chars: list  # the character of token 2, of token 3, and so on
    max_len: int  # longest input in tokens: the boundary and the longest name
    train_items: list
    train: torch.Tensor  # (N, max_len + 1): boundary, characters, boundary, then PAD
    test_items: list
    test: torch.Tensor


def read_names(keep):
    """Path and content of names.txt, downloaded on first use, or else of the bundled sample."""
    path = HERE / "data" / "names.txt"
    if path.exists():
        return path, path.read_bytes()
    try:
        content = urllib.request.urlopen(NAMES_URL, timeout=10).read()
        if hashlib.sha256(content).hexdigest() != NAMES_SHA256:
            raise ValueError("wrong checksum")
    except Exception as error:  # a download can fail in many ways, and the sample will do
        print(f"note: cannot download names.txt ({error}): training on sample-names.txt instead")
        path = HERE / "data" / "sample-names.txt"
        return path, path.read_bytes()
    try:
        if keep:
            temporary = path.with_name(f"names.txt.{os.getpid()}.tmp")
            temporary.write_bytes(content)
            temporary.replace(path)  # in one move, so that no other run reads half of it
    except OSError as error:
        print(f"note: cannot keep names.txt ({error}): the next run will download it again")
    return path, content


def read_items(path, content):
    """The lines of a UTF-8 text, stripped, without blank ones and invisible differences."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        sys.exit(f"error: {path} is not UTF-8 text: {error}")
    if "\0" in text:
        sys.exit(f"error: {path} contains NUL, so it is not UTF-8 text (UTF-16?): convert it")
    text = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", text)  # é is one character, however it was typed
    return [line.strip() for line in text.split("\n") if line.strip()]


def load_data(file, config, device, keep=True):
    """Read one name per line (of names.txt if `file` is None), split 80/20 by line, and encode."""
    path, content = (Path(file), Path(file).read_bytes()) if file else read_names(keep)
    items = read_items(path, content)
    longest = max(map(len, items), default=0)
    if longest > LONGEST:
        sys.exit(f"error: {path} has a line of {longest:,} characters; the limit is {LONGEST:,}")
    random.Random(config.split_seed).shuffle(items)
    cut, end = int(0.8 * len(items)), len(items)
    if config.validate:
        cut, end = cut - cut // 10, cut  # hyperparameters must not be chosen on the test set
    if not 0 < cut < end:
        sys.exit(f"error: {path} has {len(items)} names, too few for a training and a test set")

    chars = sorted(set("".join(items)))
    token_of = {char: token for token, char in enumerate(chars, start=2)}
    # With names.txt, "ava" becomes [1, 2, 23, 2, 1], and then 0 up to the length of the longest.
    rows = [torch.tensor([BOUNDARY, *map(token_of.get, item), BOUNDARY]) for item in items]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)
    digest = hashlib.sha256(content).hexdigest()[:12]
    train, test = (items[:cut], tokens[:cut]), (items[cut:end], tokens[cut:end])
    return Data(path.name, digest, chars, longest + 1, *train, *test)


def count_tokens(tokens):
    """The number of tokens in each row that are not PAD: (N, L) -> (N,), on the CPU."""
    counts = [(part != PAD).sum(dim=1) for part in tokens.split(8192)]  # in parts to save memory
    return torch.cat(counts).cpu()


def draw_batches(data, config):
    """The row numbers of every step's batch, (steps, batch_size), and its longest row in tokens."""
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.randint(len(data.train), (config.steps, config.batch_size), generator=generator)
    # Computed up front, so that no training step has to wait for a GPU to answer.
    longest = count_tokens(data.train)[rows].amax(dim=1).tolist()
    return rows.to(data.train.device), longest


# --- Model ---
# In the shapes, B is the number of names in a batch and T the number of positions in each.
class Attention(nn.Module):
    """One head of causal self-attention (Vaswani et al. 2017): (B, T, n_embd) -> (B, T, head_size).

    Each position makes a query (what it looks for), a key (what it can be found by) and a value
    (what it has to offer). Its output is a weighted average of the values, its own and those of
    earlier positions: the better a key matches the query, the larger the weight of its value.
    """

    def __init__(self, config, max_len):
        super().__init__()
        self.qkv = nn.Linear(config.n_embd, 3 * config.head_size, bias=False)
        # The causal mask: -inf above the diagonal, where the key comes after the query, else 0.
        mask = torch.full((max_len, max_len), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)  # moves with .to(), is not saved

    def forward(self, x):
        T = x.size(1)
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, head_size) each
        # The dot product of two vectors of d random numbers grows in size with sqrt(d). In a
        # wide head, scores that large would saturate softmax: one key would get nearly all the
        # weight, and almost no gradient would flow. Dividing by sqrt(d) keeps their size the same.
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # (B, T, T): row query, column key
        # Position t predicts the character at t + 1, so it must not see later positions. Adding
        # -inf to a score makes its weight e^-inf = 0.
        scores = scores + self.mask[:T, :T]
        weights = scores.softmax(dim=-1)  # (B, T, T): each row adds up to 1
        return weights @ v  # (B, T, head_size)


class Transformer(nn.Module):
    """Tokens (B, T) -> the logits of the next token at every position, (B, T, vocab_size)."""

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
    """Cross-entropy, -log p(target) in nats, over the targets that are not PAD.

    (B, T, vocab_size), (B, T) -> (), the mean; with reduction="none" -> (B * T,), 0 where PAD.
    """
    logits, targets = logits.flatten(0, 1), targets.flatten()
    return F.cross_entropy(logits, targets, ignore_index=PAD, reduction=reduction)


@torch.no_grad()
def token_losses(model, tokens):
    """The loss of every target, 0 where that is PAD: (N, L) -> (N, L - 1), on the CPU."""
    training = model.training
    model.eval()
    lengths = count_tokens(tokens)
    order = lengths.argsort()  # names of about one length share a batch: little padding
    losses = torch.zeros(len(tokens), tokens.size(1) - 1)
    start = 0
    while start < len(order):
        # At most 481 names, and 8,192 tokens: what fits a cache, however long the names are.
        longest = lengths[order[start : start + 481][-1]].item()
        rows = order[start : start + min(481, max(1, 8192 // longest))]
        batch = tokens[rows.to(tokens.device), : lengths[rows[-1]]]  # (B, T + 1)
        loss = masked_loss(model(batch[:, :-1]), batch[:, 1:], reduction="none")
        losses[rows, : batch.size(1) - 1] = loss.view(len(rows), -1).cpu()
        start += len(rows)
    model.train(training)
    return losses


def mean_loss(losses, tokens):
    """The mean of token_losses(model, tokens) over all targets but PAD."""
    parts = losses.split(8192)  # in parts to save memory: float64 makes a copy
    total = sum(part.sum(dtype=torch.float64).item() for part in parts)
    return total / count_tokens(tokens[:, 1:]).sum().item()


def learning_rate(step, config):
    """Linear warm-up to the peak, then cosine decay to lr_decay_to of it; constant by default."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)  # 0 to 1
    fraction = config.lr_decay_to + (1 - config.lr_decay_to) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * fraction


def make_optimizer(model, config):
    """AdamW: Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).

    Adam moves each parameter against the running mean of its gradient (the first moment), divided
    by the root of the running mean of its squared gradient (the second moment): all parameters move
    at a similar speed, however small their gradients. Weight decay shrinks them separately.
    """
    # train() sets the learning rate at every step; fused=True is one kernel for all parameters.
    return torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)


def evaluate(model, data, config, state):
    """Add the losses to the curve (training: of the first 1,000 names); print them and samples."""
    parts = data.train[:1000], data.test
    train_loss, test_loss = (mean_loss(token_losses(model, part), part) for part in parts)
    step, pace = state["step"], state["seconds"] / state["step"]
    if not math.isfinite(train_loss + test_loss):
        sys.exit(f"error: the loss is not finite at step {step}: try a lower --learning-rate")
    state["curve"].append([step, round(train_loss, 6), round(test_loss, 6)])
    names = generate(model, data, 3, torch.Generator().manual_seed(config.seed))
    losses = f"train {train_loss:.4f}  test {test_loss:.4f}"
    speed = f"{1000 * pace:6.2f} ms/step  {pace * (config.steps - step):4.0f} s left"
    print(f"step {step:6,}  {losses}  {speed} ", *names, flush=True)


def train(model, optimizer, data, config, state, checkpoint):
    """Train from state["step"] to the end; evaluate and save every eval_interval steps."""
    rows, longest = draw_batches(data, config)
    start = time.perf_counter()
    for step in range(state["step"], config.steps):
        # Forward: how surprising is each next character to the model?
        tokens = data.train[:, : longest[step]][rows[step]]  # (B, T + 1)
        inputs, targets = tokens[:, :-1], tokens[:, 1:]  # each target is the token after its input
        loss = masked_loss(model(inputs), targets)

        # Backward: how would the loss change with each parameter?
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)

        # Update: move every parameter a small step in the direction that lowers the loss.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.step()

        # Evaluate, and save what --resume needs.
        state["step"] = step + 1
        if state["step"] % config.eval_interval == 0 or state["step"] == config.steps:
            loss.item()  # waits for the device, before the clock is read
            state["seconds"] += time.perf_counter() - start
            evaluate(model, data, config, state)
            if checkpoint:
                save_checkpoint(checkpoint, state, model, optimizer).replace(checkpoint)
            start = time.perf_counter()


# --- Sampling ---
@torch.no_grad()
def generate(model, data, num, generator, prompt="", temperature=1.0, top_k=0):
    """Sample `num` names that begin with `prompt`, one character at a time.

    A temperature below 1 favors likely characters; a top_k above 0 allows only the k likeliest.
    """
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    tokens = torch.tensor([[BOUNDARY, *(data.chars.index(char) + 2 for char in prompt)]] * num)
    while tokens.size(1) < data.max_len and not (tokens[:, 1:] == BOUNDARY).any(dim=1).all():
        logits = model(tokens.to(device))[:, -1].cpu() / temperature  # (num, vocab_size)
        logits[:, PAD] = -math.inf  # never drawn
        if top_k:
            least = logits.topk(min(top_k, logits.size(1))).values[:, -1:]  # (num, 1)
            logits = logits.masked_fill(logits < least, -math.inf)
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (num, 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    model.train(training)
    names = []
    for row in tokens[:, 1:].tolist():
        end = row.index(BOUNDARY) if BOUNDARY in row else len(row)  # later draws are dropped
        names.append("".join(data.chars[token - 2] for token in row[:end]))
    return names


# --- Results ---
COLUMNS = """script preset overrides seed params train test test_from_2nd test_unseen seconds device
torch data data_hash source finished settings samples curve""".split()


def source_hash():
    """Short hash of the code that makes the losses: Data (but read_names), Model and Training.

    Layout, comments, docstrings and messages do not count.
    """
    text = Path(__file__).read_text(encoding="utf-8")
    tree = ast.parse(text.partition("# --- Data ---")[2].partition("# --- Sampling ---")[0])
    tree.body = [node for node in tree.body if getattr(node, "name", "") != "read_names"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit"):
            node.args, node.keywords = [], []
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:12]


def describe(options, config, overrides, data, model):
    """What the run is: the columns that are known before training, and what sampling needs."""
    cpu = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.9 lacks it
    chip = torch.cuda.get_device_name() if options.device == "cuda" else cpu.get("cpu_name", "")
    return {
        "script": Path(__file__).stem,
        "preset": options.preset or "",
        "overrides": overrides,
        "seed": config.seed,
        "params": sum(p.numel() for p in model.parameters()),
        "device": f"{options.device} ({chip})",
        "torch": str(torch.__version__),  # a plain string, which torch.load() takes as safe
        "data": data.name,
        "data_hash": data.hash,
        "source": source_hash(),
        "settings": asdict(config),
        "chars": data.chars,
        "max_len": data.max_len,
    }


def run_name(run):
    """The name of a run's files, such as train-2@final-n_layer=2-seed3."""
    words, device = run["overrides"].split(), run["device"].split()[0]
    if len(run["overrides"]) > 100:  # a file name has a limit
        words = [hashlib.sha256(run["overrides"].encode()).hexdigest()[:12]]
    if run["data_hash"] != NAMES_SHA256[:12]:
        words.append(run["data_hash"])
    if device != "cpu":
        words.append(device)
    step = f"{run['script']}@{run['preset']}" if run["preset"] else run["script"]
    return "-".join([step, *words, f"seed{run['seed']}"])


def rng_of(model):
    """The module whose RNG state dropout draws on: torch, torch.cuda or torch.mps."""
    device = next(model.parameters()).device.type
    return torch if device == "cpu" else getattr(torch, device)


def save_checkpoint(path, state, model, optimizer):
    """Write all that --resume needs beside path. Returns the file, for the caller to move there."""
    state["finished"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    parts = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    content = io.BytesIO()  # in memory first, so that a full disk is an OSError
    torch.save({**state, **parts, "rng": rng_of(model).get_rng_state()}, content)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.getvalue())
    return temporary


def load_checkpoint(path, state, model, optimizer):
    """Restore what this run has saved. Stop if the checkpoint is of anything else: it stays."""
    otherwise = f"{path}; without --resume the run starts over and replaces it"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        before, now = ({**run, **run["settings"]} for run in (saved.pop("run"), state["run"]))
    except Exception as error:  # a damaged file can raise anything
        sys.exit(f"error: cannot read the checkpoint ({type(error).__name__}): {otherwise}")
    differing = [key for key in before | now if before.get(key) != now.get(key)]
    harmless = {"settings", "threads", "device", "torch", "data"}
    if apart := [key for key in differing if key not in harmless]:
        sys.exit(f"error: the checkpoint has a different {', '.join(apart)}: {otherwise}")
    if {"threads", "device", "torch"}.intersection(differing):
        print("note: threads, machine or PyTorch have changed: the last digits may differ")
    model.load_state_dict(saved.pop("model"))
    optimizer.load_state_dict(saved.pop("optimizer"))
    rng_of(model).set_rng_state(saved.pop("rng"))
    state.update(saved)
    print(f"continuing at step {state['step']:,}")


def final_losses(model, data):
    """Exact mean losses: training set, test set, that without first characters, unseen names."""
    losses = token_losses(model, data.test)
    known = set(data.train_items)
    unseen = [i for i, item in enumerate(data.test_items) if item not in known]
    return {
        "train": mean_loss(token_losses(model, data.train), data.train),
        "test": mean_loss(losses, data.test),
        "test_from_2nd": mean_loss(losses[:, 1:], data.test[:, 1:]),
        "test_unseen": mean_loss(losses[unseen], data.test[unseen]) if unseen else None,
    }


def make_row(state, losses, samples):
    """The run as a row of the table: {column: value}."""
    row = state["run"] | {name: "" if x is None else f"{x:.6f}" for name, x in losses.items()}
    row |= {"seconds": f"{state['seconds']:.6f}", "finished": state["finished"]}
    row |= {"settings": json.dumps(row["settings"]), "curve": json.dumps(state["curve"])}
    row |= {"samples": json.dumps(samples, ensure_ascii=False)}
    return {column: row[column] for column in COLUMNS}


def check_table(path, columns):
    """Create the table if there is none. Stop if a row could not be added to it."""
    header = ",".join(columns) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_bytes(header.encode())
        try:
            os.link(temporary, path)  # whole at once, and never over one that another run has made
        except FileExistsError:
            pass
        temporary.unlink()
    with open(path, "a+", encoding="utf-8") as file:
        file.seek(0)
        if file.readline() != header:
            sys.exit(
                f"error: {path} has different columns: move it, or choose another --results-dir"
            )


def append_row(path, row):
    """Append the row in one write, so that runs side by side lose none, unless it is there."""
    check_table(path, row)  # it may be gone by now
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row.values())
    line = text.getvalue().encode(errors="backslashreplace")
    with open(path, "ab+", buffering=0) as file:
        file.seek(0)
        table = file.read()
        when = f",{row['seconds']},", f",{row['finished']},"  # a resumed run has the same
        if not any(all(x.encode() in old for x in when) for old in table.splitlines()):
            line = line if table.endswith(b"\n") else b"\n" + line
            if file.write(line) < len(line):
                raise OSError(f"no space left for the row in {path}: delete its last line, cut off")


# --- Main ---
def parse(argv):
    """The command line: its options, the Config, and what differs from the preset or defaults."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    for entry in fields(Config):
        kind = {"action": "store_true"} if entry.type is bool else {"type": entry.type}
        text = f"{entry.metadata['help']} (default: {entry.default})"
        flag = "--" + entry.name.replace("_", "-")
        parser.add_argument(flag, default=argparse.SUPPRESS, help=text, **kind)
    if PRESETS:
        parser.add_argument("--preset", choices=PRESETS, help="set of the above; flags override it")
    devices = [name for name in ("cuda", "cpu", "mps") if getattr(torch, name).is_available()]
    text = f"to train on; mps is never the default (default: {devices[0]})"
    parser.add_argument("--device", choices=devices, default=devices[0], help=text)
    parser.add_argument(
        "--data", metavar="FILE", help="UTF-8 text, one name per line (default: names.txt)"
    )
    text = "for results.csv and checkpoints (default: results, beside the script)"
    parser.add_argument("--results-dir", metavar="DIR", default=HERE / "results", help=text)
    parser.add_argument(
        "--no-record", action="store_true", help="write neither a row nor a checkpoint"
    )
    parser.add_argument("--resume", action="store_true", help="continue from this run's checkpoint")
    parser.add_argument("--debug", action="store_true", help="find what made a NaN (slow)")
    options = parser.parse_args(argv, argparse.Namespace(preset=None))
    if "" in (options.data, options.results_dir):
        parser.error("an empty path: is a shell variable unset?")

    defaults = Config(**PRESETS[options.preset]["settings"]) if options.preset else Config()
    given = {key: value for key, value in sorted(vars(options).items()) if hasattr(defaults, key)}
    for entry in fields(Config):
        low, high = entry.metadata["low"], entry.metadata["high"]
        if not low <= given.get(entry.name, low) <= high:
            flag = "--" + entry.name.replace("_", "-")
            parser.error(f"{flag} must be between {low} and {high}")
    words = [f"{key}={value}" for key, value in given.items() if value != getattr(defaults, key)]
    words = [word for word in words if not word.startswith(("seed=", "threads="))]
    return options, replace(defaults, **given), " ".join(words)


def print_start(name, run, data):
    """What is about to be trained, on what, and why its losses may not be comparable."""
    count, longest = len(data.train_items) + len(data.test_items), data.max_len - 1
    print(f"{data.name}: {count:,} names of up to {longest} characters, {len(data.chars)} distinct")
    print(f"{name}: {run['params']:,} parameters, {run['device']}")
    if data.hash != NAMES_SHA256[:12] or not run["device"].startswith("cpu"):
        print("note: other data or another device: not comparable with the recorded results")
    if run["settings"]["validate"]:
        print("note: with --validate, test means the held-out last tenth of the training set")


def main(argv=None):
    """Train this model, evaluate it on every name, and record the run."""
    options, config, overrides = parse(argv)
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(options.debug)
    data = load_data(options.data, config, options.device, keep=not options.no_record)
    torch.manual_seed(config.seed)
    model = Transformer(config, len(data.chars) + 2, data.max_len).to(options.device)
    optimizer = make_optimizer(model, config)

    run = describe(options, config, overrides, data, model)
    state = {"run": run, "step": 0, "seconds": 0.0, "curve": []}  # what a checkpoint holds
    name = run_name(run)
    print_start(name, run, data)
    table = Path(options.results_dir) / "results.csv"
    checkpoint = Path(options.results_dir) / "checkpoints" / f"{name}.pt"
    if options.resume and checkpoint.exists():
        load_checkpoint(checkpoint, state, model, optimizer)
    elif options.resume:
        print(f"note: there is no {checkpoint}: starting at step 0")
    if not options.no_record:  # what cannot be written is found now, not after training
        check_table(table, COLUMNS)
        checkpoint.parent.mkdir(exist_ok=True)
        if state["step"] < config.steps:
            save_checkpoint(checkpoint, state, model, optimizer).unlink()
    train(model, optimizer, data, config, state, None if options.no_record else checkpoint)

    losses = final_losses(model, data)
    samples = generate(model, data, 10, torch.Generator().manual_seed(config.seed))
    if not options.no_record:
        append_row(table, make_row(state, losses, samples))
    for figure, loss in losses.items():
        if loss is not None:
            print(f"{figure:14} {loss:.4f} nats per token")
    marked = [name + "*" if name in data.train_items else name for name in samples]
    print("ten samples, * is in the training set:", *marked)


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # not so in a notebook
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack some characters
    try:
        main()
    except OSError as error:
        sys.exit(f"error: {error}")
    except (MemoryError, torch.OutOfMemoryError):
        sys.exit("error: out of memory: try a smaller --batch-size or --n-embd")
    except KeyboardInterrupt:
        sys.exit(
            "interrupted: with --resume the run continues from its last checkpoint, if it has one"
        )
