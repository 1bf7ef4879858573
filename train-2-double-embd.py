"""double embd: the baseline at twice the width.

Does a single attention head do better with more room? Every character becomes a vector of 64
numbers instead of 32, and queries, keys and values have 32 instead of 16. Nothing else changes.
"""

# /// script
# requires-python = ">=3.11,<3.15"
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
from contextlib import suppress
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
    steps: int = option(5000, "training steps")
    batch_size: int = option(32, "names per batch")
    learning_rate: float = option(1e-3, "peak learning rate", low=0)
    lr_decay_to: float = option(1.0, "the cosine's end, as a fraction of the peak", low=0, high=1)
    warmup_steps: int = option(0, "training steps in which the rate rises to its peak", low=0)
    weight_decay: float = option(0.0, "AdamW's weight decay, on all parameters", low=0)
    grad_clip: float = option(0.0, "maximum norm of the gradient; 0 means no clipping", low=0)
    eval_interval: int = option(500, "training steps between evaluations")
    seed: int = option(0, "seed of all random numbers but the split's", low=0, high=2**63 - 1)
    split_seed: int = option(42, "seed of the training/test split", low=0, high=2**63 - 1)
    threads: int = option(1, "CPU threads", high=1024)
    validate: bool = option(False, "hold out a tenth of the training set; test on it", low=0)


PRESETS = {}  # named sets of hyperparameters: train-2.py has some

# --- Data ---
# Token 0 fills short rows; token 1 stands at both ends of a name; characters are 2 and up.
PAD, BOUNDARY = 0, 1


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


def load_data(file, config, device, keep=True):
    """Read one name per line (names.txt if `file` is None; `keep` saves a download), split, encode.

    The split is 80/20 by line.
    """
    path, content = (Path(file), Path(file).read_bytes()) if file else read_names(keep)
    items = read_items(path, content)
    # A model can learn its training names by heart, so it is judged on lines that were held back.
    random.Random(config.split_seed).shuffle(items)
    cut, end = int(0.8 * len(items)), len(items)
    if config.validate:
        # A setting chosen on the test set is fitted to it, so choices need a set of their own.
        cut, end = cut - cut // 10, cut
    if not 0 < cut < end:
        sys.exit(f"error: {printable(path)} has {len(items)} names, too few to train and test")

    chars = sorted(set("".join(items)))
    token_of = {char: token for token, char in enumerate(chars, start=2)}
    # With names.txt, "ava" becomes [1, 2, 23, 2, 1], then zeros up to the longest row.
    rows = [torch.tensor([BOUNDARY, *map(token_of.get, item), BOUNDARY]) for item in items]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(device)
    digest = hashlib.sha256(content).hexdigest()[:12]
    train, test = (items[:cut], tokens[:cut]), (items[cut:end], tokens[cut:end])
    return Data(path.name, digest, chars, max(map(len, items)) + 1, *train, *test)


def count_tokens(tokens):
    """The number of tokens in each row that are not PAD: (N, L) -> (N,), on the CPU."""
    counts = [(part != PAD).sum(dim=1) for part in tokens.split(8192)]  # in parts to save memory
    return torch.cat(counts).cpu()


def draw_batches(data, config):
    """For every training step: the rows of its batch, (steps, batch_size), and the longest length.

    A generator of its own gives every script the same batches for the same seed.
    """
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.randint(len(data.train), (config.steps, config.batch_size), generator=generator)
    # A slice needs its length on the CPU: asking a GPU for it at every step would stall training.
    longest = count_tokens(data.train)[rows].amax(dim=1).tolist()
    return rows.to(data.train.device), longest


# --- Model ---
# In the shapes, B is the number of names in a batch, and T the number of positions: one per token.
# ... is every dimension before the last two: B here; B, n_head in the scripts with several heads.
class Attention(nn.Module):
    """One head of causal self-attention (Vaswani et al. 2017): (B, T, n_embd) -> (B, T, head_size).

    Learned weights turn each position's vector into three: a query (what it looks for), a key (what
    it can be found by) and a value (what it has to offer). The score of a key for a query is their
    dot product. The output is a weighted average of the values, those of the position itself and
    of earlier ones: the larger the score, the larger the weight.
    """

    def __init__(self, config, max_len):
        super().__init__()
        self.qkv = nn.Linear(config.n_embd, 3 * config.head_size, bias=False)  # q, k, v in one
        # The causal mask: -inf above the diagonal, where the key comes after the query, else 0.
        mask = torch.full((max_len, max_len), -math.inf).triu(1)
        self.register_buffer("mask", mask, persistent=False)  # moves with .to(), is not saved

    def forward(self, x):
        T = x.size(1)
        q, k, v = self.qkv(x).chunk(3, dim=-1)  # (B, T, head_size) each
        # A score is a sum of d = head_size products. With random vectors these mostly cancel, so it
        # grows only with sqrt(d). In a wide head even that is too much: softmax would give one key
        # nearly all the weight, small changes of the scores would not matter, and there would be
        # hardly any gradient to learn from. Dividing by sqrt(d) makes their size independent of d.
        scores = q @ k.transpose(-2, -1) / math.sqrt(k.size(-1))  # (..., T, T): query by key
        # Position t predicts the token at t + 1, so it must not see later positions. Adding -inf
        # to a score makes its weight e^-inf = 0. Padding comes last, so this hides it as well.
        scores = scores + self.mask[:T, :T]
        weights = scores.softmax(dim=-1)  # (..., T, T): each row adds up to 1
        x = weights @ v  # (..., T, head_size)
        return x


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
        return self.lm_head(x)  # (B, T, vocab_size)


def make_model(config, data, device):
    """A model with random weights: the same ones for the same seed, on every device."""
    torch.manual_seed(config.seed)
    return Transformer(config, len(data.chars) + 2, data.max_len).to(device)


# --- Training ---
def masked_loss(logits, targets, reduction="mean"):
    """Cross-entropy: the mean of -log p over the targets, in nats (log is the natural logarithm).

    p is the probability that the model gives to the target: p = 1 costs 0, p near 0 a lot. The
    model gives logits, since F.cross_entropy applies softmax itself. PAD is not counted.
    (B, T, vocab_size), (B, T) -> (), the mean; with reduction="none" -> (B * T,), 0 where PAD.
    """
    logits, targets = logits.flatten(0, 1), targets.flatten()
    return F.cross_entropy(logits, targets, ignore_index=PAD, reduction=reduction)


def learning_rate(step, config):
    """Linear warm-up to the peak, then a cosine that falls to the fraction lr_decay_to of the peak.

    Warm-up keeps the first updates small, while the running means of AdamW (see make_optimizer)
    rest on few gradients. With the default, lr_decay_to = 1, the rate is constant.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)  # 0 to 1
    fraction = config.lr_decay_to + (1 - config.lr_decay_to) * (1 + math.cos(math.pi * done)) / 2
    return config.learning_rate * fraction


def make_optimizer(model, config):
    """AdamW: Adam (Kingma and Ba 2015) with decoupled weight decay (Loshchilov and Hutter 2019).

    Adam moves each parameter against the running mean of its gradient, divided by the root of the
    running mean of its squared gradient: all parameters move at a similar speed, however small
    their gradients. Weight decay shrinks them separately.
    """
    # train() sets the learning rate at every step; fused=True updates all parameters in one call.
    return torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)


def train(model, optimizer, data, config, state, checkpoint):
    """Train from state["step"] to the end; evaluate and save every eval_interval steps.

    state has the steps and seconds so far and the losses; checkpoint is its file, or None.
    """
    rows, longest = draw_batches(data, config)
    start = time.perf_counter()
    for step in range(state["step"], config.steps):
        # A batch of rows, cut to its longest name: [1, 2, 23, 2, 1] (ava), [1, 11, 16, 1, 0] (jo).
        tokens = data.train[:, : longest[step]][rows[step]]  # (B, T + 1)
        # Each target is the token after its input: [1, 2, 23, 2] -> [2, 23, 2, 1] for ava.
        inputs, targets = tokens[:, :-1], tokens[:, 1:]  # (B, T) each

        # Forward: how surprising is each next token to the model?
        loss = masked_loss(model(inputs), targets)

        # Backward: how would the loss change with each parameter?
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip:  # so that one odd batch cannot throw the parameters far off
            nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)

        # Update: move every parameter a small step in the direction that lowers the loss.
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        optimizer.step()

        # Now and then: print losses and names, save what --resume needs, restart the clock.
        state["step"] = step + 1
        if state["step"] % config.eval_interval == 0 or state["step"] == config.steps:
            start = evaluate(model, optimizer, data, config, state, checkpoint, start)


# --- Sampling ---
@torch.no_grad()
def generate(model, data, num, generator, prompt="", temperature=1.0, top_k=0):
    """Sample `num` names that begin with `prompt`, one character at a time.

    A temperature below 1 favors likely characters; a top_k above 0 allows only the k likeliest.
    """
    training = model.training
    model.eval()  # switches dropout off, in the scripts that have it
    device = next(model.parameters()).device
    tokens = torch.tensor([[BOUNDARY, *(data.chars.index(char) + 2 for char in prompt)]] * num)
    # Finished names keep growing until all are finished: the rows of a tensor have one length.
    while tokens.size(1) < data.max_len and not (tokens[:, 1:] == BOUNDARY).any(dim=1).all():
        logits = model(tokens.to(device))[:, -1].cpu() / temperature  # (num, vocab_size)
        logits[:, PAD] = -math.inf  # PAD is never drawn
        if top_k:
            least = logits.topk(min(top_k, logits.size(1))).values[:, -1:]  # (num, 1)
            logits = logits.masked_fill(logits < least, -math.inf)
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (num, 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    model.train(training)
    names = []
    for row in tokens[:, 1:].tolist():
        # What was drawn after the end is dropped.
        end = row.index(BOUNDARY) if BOUNDARY in row else len(row)
        names.append("".join(data.chars[token - 2] for token in row[:end]))
    return names


# The model, its data and its training end here. What follows measures, reads files, keeps results
# and parses the command line.


# --- Evaluation ---
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


def printable(text):
    """The text without what could control a terminal, such as an escape character."""
    return "".join(char if char.isprintable() else "?" for char in str(text))


def evaluate(model, optimizer, data, config, state, checkpoint, start):
    """Add the losses to the curve, print them and three names, save. Returns the time after that.

    The training loss is that of the first 1,000 names; the clock stands still meanwhile.
    """
    getattr(torch, data.train.device.type).synchronize()  # what a GPU still computes is training
    state["seconds"] += time.perf_counter() - start
    parts = data.train[:1000], data.test
    train_loss, test_loss = (mean_loss(token_losses(model, part), part) for part in parts)
    step, pace = state["step"], state["seconds"] / state["step"]
    if not math.isfinite(train_loss + test_loss):
        sys.exit(f"error: the loss is not finite at step {step}: try a lower --learning-rate")
    state["curve"].append([step, round(train_loss, 6), round(test_loss, 6)])
    # The same random numbers every time: one watches the same three draws become names.
    names = generate(model, data, 3, torch.Generator().manual_seed(config.seed))
    losses = f"train {train_loss:.4f}  test {test_loss:.4f}"
    speed = f"{1000 * pace:6.2f} ms/step  {pace * (config.steps - step):4.0f} s left"
    print(f"step {step:6,}  {losses}  {speed} ", *map(printable, names), flush=True)
    if checkpoint:
        save_checkpoint(checkpoint, state, model, optimizer).replace(checkpoint)
    return time.perf_counter()


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


# --- Files ---
HERE = Path(__file__).resolve().parent
NAMES_URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
NAMES_SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
LONGEST = 1000  # limit on the characters in a name, because all are padded to the longest


def read_names(keep):
    """Path and content of names.txt, downloaded on first use, or else of the bundled sample."""
    path, sample = HERE / "data" / "names.txt", HERE / "data" / "sample-names.txt"
    if path.exists():
        return path, path.read_bytes()
    try:
        content = urllib.request.urlopen(NAMES_URL, timeout=10).read()
        if hashlib.sha256(content).hexdigest() != NAMES_SHA256:
            raise ValueError("wrong checksum")
    except Exception as error:  # a download can fail in many ways, and the sample will do
        if not sample.exists():
            sys.exit(f"error: cannot download names.txt ({error}): put it into {path.parent}")
        print(f"note: cannot download names.txt ({error}): training on {sample.name} instead")
        return sample, sample.read_bytes()
    temporary = path.with_name(f"names.txt.{os.getpid()}.tmp")
    try:
        if keep:
            path.parent.mkdir(exist_ok=True)  # the script may have been copied alone
            temporary.write_bytes(content)
            temporary.replace(path)  # in one move, so that no other run reads half of it
    except OSError as error:
        print(f"note: cannot keep names.txt ({error}): the next run will download it again")
        with suppress(OSError):
            temporary.unlink()
    return path, content


def read_items(path, content):
    """The lines of a UTF-8 text, stripped, without blank ones and invisible differences."""
    if content.startswith(b"version https://git-lfs"):
        sys.exit(f"error: {printable(path)} is a git-lfs pointer to a list: run git lfs pull")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        sys.exit(f"error: {printable(path)} is not UTF-8 text: {error}")
    if "\0" in text:
        sys.exit(f"error: {printable(path)} contains NUL: convert it to UTF-8 (from UTF-16?)")
    text = text.replace("\ufeff", "").replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", text)  # é is one character, however it was typed
    items = [line.strip() for line in text.split("\n") if line.strip()]
    longest = max(map(len, items), default=0)
    if longest > LONGEST:
        sys.exit(f"error: {printable(path)} has a line of {longest:,} characters, over {LONGEST:,}")
    for mark in ",;\t":
        if len({item.count(mark) for item in items}) == 1 and mark in items[0]:
            print(f"note: {printable(path)} looks like a table: a line, {items[0]!r}, is a name")
    return items


# --- Results ---
COLUMNS = """script preset overrides seed params train test test_from_2nd test_unseen seconds device
torch data data_hash source finished settings samples curve""".split()


def strip(tree):
    """Remove from the code what no figure depends on: docstrings, messages, Config's defaults."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit"):
            node.args, node.keywords = [], []
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.ClassDef) and node.name == "Config":
            for entry in [x for x in node.body if isinstance(x, ast.AnnAssign)]:
                if "ClassVar" not in ast.unparse(entry.annotation):  # settings have the value
                    entry.value = None


def defines(node):
    """The names that an import or a constant defines; none for any other statement."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    targets = [x for target in getattr(node, "targets", []) for x in ast.walk(target)]
    return {x.id for x in targets if isinstance(x, ast.Name)}


def source_hash():
    """Short hash of the code that a run's figures depend on: a new model must not pass for the old.

    That is all but layout, comments, what strip() removes, the functions named here, and imports
    and constants that no counted code uses.
    """
    others = """option generate printable read_names strip defines source_hash describe run_name
    rng_of save_checkpoint load_checkpoint prepare make_row append_row user_path parse check_device
    print_start print_end main""".split()
    tree = ast.parse(Path(__file__).read_bytes())
    strip(tree)
    code, size = [], None
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):  # one import for each name
            code += [type(node)(**vars(node) | {"names": [alias]}) for alias in node.names]
        elif getattr(node, "name", "") not in others:
            code.append(node)
    names = {node: [x for x in ast.walk(node) if isinstance(x, ast.Name)] for node in code}
    while size != len(code):
        used = {x.id for node in code for x in names[node] if isinstance(x.ctx, ast.Load)} | {"*"}
        code, size = [x for x in code if not defines(x) or defines(x) & used], len(code)
    parts = map(ast.unparse, code)  # the docstring does not count, nor does what runs main()
    text = "\n".join(x for x in parts if not x.startswith(("'", '"', "if __name__")))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def describe(options, config, overrides, data, model):
    """What the run is: the columns that are known before training, and what sampling needs."""
    cpu = getattr(torch.cpu, "get_capabilities", dict)()  # PyTorch 2.9 lacks it
    chip = f"{cpu.get('cpu_name', '?')}, {torch.backends.cpu.get_cpu_capability()}"
    chip = torch.cuda.get_device_name() if options.device == "cuda" else chip
    run = {"script": Path(__file__).stem, "preset": options.preset or "", "overrides": overrides}
    run |= {"seed": config.seed, "params": sum(p.numel() for p in model.parameters())}
    run |= {"device": f"{options.device} ({chip})", "data": data.name, "data_hash": data.hash}
    run |= {"torch": str(torch.__version__)}  # a plain string, which torch.load() takes as safe
    run |= {"source": source_hash(), "settings": asdict(config)}
    return run | {"chars": data.chars, "max_len": data.max_len}


def run_name(run):
    """The name of a run's files, such as train-2@final,n_layer=2-seed3."""
    words, device = run["overrides"].split(), run["device"].split()[0]
    odd = {x for word in words for x in word if not x.isalnum()} - {*"_=.+-"}
    if odd or len(run["overrides"]) > 160:  # a file name has limits
        words = [hashlib.sha256(run["overrides"].encode()).hexdigest()[:12]]
    step = f"{run['script']}@{run['preset']}" if run["preset"] else run["script"]
    parts = [",".join([step, *words])]
    if run["data_hash"] != NAMES_SHA256[:12]:
        stem = "".join(x if x.isascii() and x.isalnum() else "_" for x in Path(run["data"]).stem)
        parts += [stem[:20], run["data_hash"]]
    parts += [device] if device != "cpu" else []
    return "-".join([*parts, f"seed{run['seed']}"])


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
    copies = 1 if state["step"] else 3  # before training AdamW lacks its two numbers per parameter
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content.getvalue() * copies)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(f"cannot write {temporary}: {error.strerror}") from error
    return temporary


def load_checkpoint(path, state, model, optimizer):
    """Restore what this run has saved. Stop if the checkpoint is of anything else: it stays."""
    otherwise = f"{path}; without --resume the run starts over and replaces it"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        before, now = ({**run, **run["settings"]} for run in (saved.pop("run"), state["run"]))
    except Exception as error:  # a damaged file can raise anything
        sys.exit(f"error: cannot read the checkpoint ({type(error).__name__}): {otherwise}")
    differing = {key for key in before | now if before.get(key) != now.get(key)}
    if apart := differing - {"settings", "threads", "device", "torch", "data"}:
        sys.exit(f"error: the checkpoint has a different {', '.join(sorted(apart))}: {otherwise}")
    if differing - {"data"}:
        print("note: threads, machine or PyTorch have changed: the last digits may differ")
    model.load_state_dict(saved.pop("model"))
    optimizer.load_state_dict(saved.pop("optimizer"))
    rng_of(model).set_rng_state(saved.pop("rng"))
    state.update(saved)
    print(f"continuing at step {state['step']:,}")


def prepare(options, state, model, optimizer):
    """Continue from a checkpoint if asked to. Returns the paths of the table and the checkpoint.

    They are None with --no-record. What cannot be written is found here, not after training.
    """
    table = options.results_dir / "results.csv"
    checkpoint = options.results_dir / "checkpoints" / f"{run_name(state['run'])}.pt"
    if options.resume and checkpoint.exists():
        load_checkpoint(checkpoint, state, model, optimizer)
    elif options.resume:
        print(f"note: there is no {checkpoint}: starting at step 0")
    if options.no_record:
        return None, None
    append_row(table, COLUMNS)
    checkpoint.parent.mkdir(exist_ok=True)
    if state["step"] < state["run"]["settings"]["steps"]:
        save_checkpoint(checkpoint, state, model, optimizer).unlink()
    return table, checkpoint


def make_row(state, losses, samples):
    """The run as a row of the table: {column: value}."""
    row = state["run"] | {name: "" if x is None else f"{x:.6f}" for name, x in losses.items()}
    row |= {"seconds": f"{state['seconds']:.6f}", "finished": state["finished"]}
    row |= {"settings": json.dumps(row["settings"]), "curve": json.dumps(state["curve"])}
    row |= {"samples": json.dumps(samples, ensure_ascii=False)}
    return {column: row[column] for column in COLUMNS}


def append_row(path, columns, row=None):
    """Append the row to the table, unless it is there. Without one, see that this can be done."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        with suppress(ImportError, OSError):  # Windows and some network folders have no locks
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed: runs side by side wait
        file.seek(0)
        content = file.read()
        lines = content.decode("utf-8-sig", errors="replace").split("\n")
        if content and next(csv.reader(lines)) != columns:
            sys.exit(f"error: {path} has other columns: move it, or choose another --results-dir")
        rows = [] if content else [columns]
        if row and not any(row["finished"] in old and row["seconds"] in old for old in lines):
            rows.append(row.values())
        text = io.StringIO()
        text.write("\n" if lines[-1] else "")  # the last row may have lost its newline
        csv.writer(text, lineterminator="\n").writerows(rows)
        new = text.getvalue().encode(errors="backslashreplace")
        try:
            while new:  # a disk takes a part before it is full
                new = new[file.write(new) :]
        except OSError as error:
            file.truncate(len(content))  # no half of a row
            raise OSError(f"cannot write to {path}: {error.strerror}") from error


# --- Main ---
def user_path(text):
    """A path from the command line, where `~` is the home folder, as in a shell."""
    path = os.path.expanduser(text)
    if not path or path.startswith("~"):
        raise argparse.ArgumentTypeError("an empty path, or the home folder of nobody")
    return Path(path)


def parse(argv):
    """The command line: its options, the Config, and what differs from the preset or defaults."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    add, switch = parser.add_argument, {"action": "store_true"}
    for entry in fields(Config):
        text = f"{entry.metadata.get('help', entry.name)} (default: {entry.default})"
        on_off = {"action": argparse.BooleanOptionalAction}
        kind = on_off if entry.type is bool else {"type": entry.type}
        add("--" + entry.name.replace("_", "-"), default=argparse.SUPPRESS, help=text, **kind)
    if PRESETS:
        add("--preset", choices=PRESETS, help="a named set of the above; single flags override it")
    devices = [name for name in ("cpu", "cuda", "mps") if getattr(torch, name).is_available()]
    text = "to train on; models of this size train no faster on a GPU (default: cpu)"
    add("--device", choices=devices, default="cpu", help=text)
    text = "UTF-8 text, one name per line (default: names.txt)"
    add("--data", metavar="FILE", type=user_path, help=text)
    text = "for results.csv and checkpoints (default: results, beside the script)"
    add("--results-dir", metavar="DIR", type=user_path, default=HERE / "results", help=text)
    add("--no-record", help="write neither a row nor a checkpoint", **switch)
    add("--resume", help="continue from this run's checkpoint", **switch)
    add("--debug", help="find what made a NaN (slow)", **switch)
    options = parser.parse_args(argv, argparse.Namespace(preset=None))

    defaults = Config(**PRESETS[options.preset]["settings"]) if options.preset else Config()
    given = {key: value for key, value in sorted(vars(options).items()) if hasattr(defaults, key)}
    for entry in fields(Config):
        low, high = entry.metadata.get("low", -math.inf), entry.metadata.get("high", math.inf)
        if entry.type in (int, float) and not low <= given.get(entry.name, low) <= high:
            parser.error(f"--{entry.name.replace('_', '-')} must be between {low} and {high}")
    words = [f"{key}={value}" for key, value in given.items() if value != getattr(defaults, key)]
    words = [word for word in words if not word.startswith(("seed=", "threads="))]
    return options, replace(defaults, **given), " ".join(words)


def check_device(name):
    """Stop where PyTorch sees a GPU that it has no code for, as is the case with old ones."""
    try:
        torch.ones(1, device=name).sum().item()
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        sys.exit(f"error: this PyTorch cannot use {name} here ({reason}): try --device cpu")


def print_start(run, data):
    """What is about to be trained, on what, and why its losses may not be comparable."""
    count, longest = len(data.train_items) + len(data.test_items), data.max_len - 1
    what = f"{count:,} names of up to {longest} characters, {len(data.chars)} distinct"
    print(f"{printable(data.name)}: {what}")
    print(f"{run_name(run)}: {run['params']:,} parameters, {run['device']}")
    if data.hash != NAMES_SHA256[:12] or not run["device"].startswith("cpu"):
        print("note: other data or another device: not comparable with the recorded results")
    if run["settings"]["validate"]:
        print("note: with --validate, test means the held-out last tenth of the training set")


def print_end(losses, samples, data):
    """The final losses, and ten names that the model invents."""
    for figure, loss in losses.items():
        if loss is not None:
            print(f"{figure:14} {loss:.4f} nats per token")
    marked = [name + "*" if name in data.train_items else name for name in samples]
    print("ten samples, * is in the training set:", *map(printable, marked))


def main(argv=None):
    """Train this model, evaluate it on every name, and record the run."""
    options, config, overrides = parse(argv)
    check_device(options.device)
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(options.debug)
    data = load_data(options.data, config, options.device, keep=not options.no_record)
    model = make_model(config, data, options.device)
    optimizer = make_optimizer(model, config)

    run = describe(options, config, overrides, data, model)
    print_start(run, data)
    state = {"run": run, "step": 0, "seconds": 0.0, "curve": []}  # what a checkpoint holds
    table, checkpoint = prepare(options, state, model, optimizer)
    train(model, optimizer, data, config, state, checkpoint)

    losses = final_losses(model, data)
    samples = generate(model, data, 10, torch.Generator().manual_seed(config.seed))
    if table:
        append_row(table, COLUMNS, make_row(state, losses, samples))
    print_end(losses, samples, data)


if __name__ == "__main__":
    if hasattr(sys.stdout, "reconfigure"):  # not so in a notebook
        sys.stdout.reconfigure(errors="replace")  # a terminal may lack some characters
    try:
        main()
    except OSError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: --resume continues this run from its last checkpoint, if it has one")
