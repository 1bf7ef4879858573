"""2 heads: two heads side by side, and a projection that mixes them.

Step 3 of 8: each head has half the width, so that it can look for something of its own.
Run it:        python train-2-2head.py
What changed:  diff train-2-baseline.py train-2-2head.py
"""
# /// script
# requires-python = ">=3.10"
# dependencies = ["torch==2.13.0", "numpy==2.2.6; python_version<'3.11'", "numpy==2.4.6; python_version>='3.11'"]
# ///
import argparse, csv, hashlib, io, json, math, os, random, re, signal, sys, time, tokenize, types, urllib.request
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
import torch, torch.nn as nn, torch.nn.functional as F

# --- Configuration ---
CONFIG = "2 heads"
BUILDS_ON = "train-2-baseline.py"
CHANGES = ("Model",)
PRESETS = {}

def knob(default, help, valid=lambda x: 1 <= x < 2**31):
    return field(default=default, metadata={"help": help, "valid": valid})

@dataclass
class Config:
    """Every knob of this step, and its flag on the command line."""
    n_embd: int = knob(32, "width of the embedding")
    n_head: int = knob(2, "attention heads; head_size is n_embd / n_head")
    steps: int = knob(5000, "optimizer steps")
    batch_size: int = knob(32, "names per step")
    learning_rate: float = knob(1e-3, "peak learning rate, above 0", lambda x: 0 < x < math.inf)
    lr_decay_to: float = knob(1.0, "fraction of the peak that the cosine ends at, 0 to 1", lambda x: 0 <= x <= 1)
    warmup_steps: int = knob(0, "steps of linear warm-up", lambda x: 0 <= x < 2**31)
    weight_decay: float = knob(0.0, "weight decay of AdamW", lambda x: 0 <= x < math.inf)
    grad_clip: float = knob(0.0, "largest gradient norm, 0 is off", lambda x: 0 <= x < math.inf)
    eval_interval: int = knob(500, "steps between evaluations")
    seed: int = knob(0, "seed of weights, batches, dropout and names", lambda x: 0 <= x < 2**63)
    threads: int = knob(1, "CPU threads, 1024 at most", lambda x: 1 <= x <= 1024)
    compile: bool = knob(False, "torch.compile with CUDA graphs, batches at full length", lambda x: True)
    validate: bool = knob(False, "hold out and evaluate on the last tenth of the training lines", lambda x: True)

# --- Data ---
HERE = Path(__file__).resolve().parent
URL = "https://raw.githubusercontent.com/karpathy/makemore/master/names.txt"
SHA256 = "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
PAD, BOUNDARY = 0, 1  # the characters are the tokens from 2 up

def read_names(save):
    """Path and bytes of names.txt, downloaded on first use, or of the bundled sample where that fails."""
    path = HERE / "data" / "names.txt"
    if path.exists(): return path, path.read_bytes()
    try:
        blob = urllib.request.urlopen(URL, timeout=10).read()
        if hashlib.sha256(blob).hexdigest() != SHA256: raise ValueError("the download has a wrong checksum")
    except Exception as error:  # whatever goes wrong on the way
        say(f"note: cannot download names.txt ({str(error)!r}); training on the bundled data/sample-names.txt")
        return path.with_name("sample-names.txt"), path.with_name("sample-names.txt").read_bytes()
    if save: write_whole(path, lambda temporary: temporary.write_bytes(blob))
    return path, blob

def load_data(file, config, device, save=True):
    """One item a line, split 80/20 by line. Tokens (N, L): boundary, characters, boundary, PAD to the longest."""
    try:
        path, blob = (Path(file), Path(file).read_bytes()) if file else read_names(save)
        items = [line.strip() for line in blob.decode("utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file or 'the names'} ({error}); --data takes UTF-8 text, one item a line")
    random.Random(42).shuffle(items)
    cut, end = int(0.8 * len(items)), len(items)
    if config.validate: cut, end = cut - cut // 10, cut
    if not 0 < cut < end: fail(f"{path} has {len(items)} items, too few to split: 2 are needed, 13 with --validate")
    length = max(map(len, items)) + 2
    if length * max(len(items), 4096) > 2**26:
        fail(f"{path} has an item of {length - 2:,} characters, too long to pad the others to: split or drop it")
    chars = sorted(set("".join(items)))
    ids = {char: token for token, char in enumerate(chars, start=2)}
    rows = [[BOUNDARY, *map(ids.get, item), BOUNDARY] for item in items[:end]]
    tokens = torch.tensor([row + [PAD] * (length - len(row)) for row in rows], device=device)
    return types.SimpleNamespace(name=path.name, hash=hashlib.sha256(blob).hexdigest()[:12], chars=chars,
        max_len=length - 1, train_items=items[:cut], test_items=items[cut:end], train=tokens[:cut], test=tokens[cut:])

def batches(data, config, first_step=0):
    """The inputs and targets of each step, (B, T) each, T being what the longest of the B names needs."""
    lengths = (data.train != PAD).sum(1).cpu()
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.randint(len(lengths), (config.steps, config.batch_size), generator=generator)
    longest = lengths[rows].amax(1).tolist()  # known beforehand, so that no step waits for the device
    if config.compile: longest = [None] * config.steps  # a CUDA graph has one shape
    for names, end in zip(rows.to(data.train.device)[first_step:], longest[first_step:]):
        tokens = data.train[:, :end][names]  # (B, T + 1)
        yield tokens[:, :-1], tokens[:, 1:]

# --- Model ---
class Attention(nn.Module):
    """Causal self-attention in n_head heads (Vaswani et al. 2017): (B, T, n_embd) -> (B, T, n_embd)."""
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        if config.n_embd % config.n_head: fail(f"--n-embd {config.n_embd} is no multiple of --n-head {config.n_head}")
        self.qkv = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3 * self.n_head, -1).transpose(1, 2).chunk(3, dim=1)  # (B, nh, T, hs)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(x.transpose(1, 2).reshape(B, T, C))

class Transformer(nn.Module):
    """Logits of the next token: (B, T) -> (B, T, vocab_size)."""
    def __init__(self, config, vocab_size, max_len):
        super().__init__()
        self.tok_emb = nn.Embedding(vocab_size, config.n_embd)
        self.attn = Attention(config)
        self.head = nn.Linear(config.n_embd, vocab_size)

    def forward(self, tokens):
        x = self.attn(self.tok_emb(tokens))  # (B, T, n_embd)
        return self.head(x)

# --- Training ---
def masked_loss(logits, targets, reduction="mean"):
    """Cross-entropy in nats of the targets that are not PAD; logits (B, T, vocab_size), targets (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, reduction=reduction)

@torch.no_grad()
def token_losses(model, tokens):
    """The loss of every target of every name: (N, L) -> (N, L - 1), on the CPU, 0 where the target is PAD."""
    model.eval()
    lengths = (tokens != PAD).sum(1).cpu()
    losses = torch.zeros(len(tokens), tokens.size(1) - 1)
    for rows in lengths.argsort().split(max(1, 2**13 // tokens.size(1))):  # names of a length share a batch
        batch = tokens[rows.to(tokens.device), : lengths[rows[-1]]]  # (B, T + 1)
        loss = masked_loss(model(batch[:, :-1]), batch[:, 1:], reduction="none")
        losses[rows, : batch.size(1) - 1] = loss.view(len(rows), -1).cpu()
    model.train()
    return losses

def mean_loss(losses, tokens):
    """Exact mean of token_losses(model, tokens) over the targets."""
    return losses.sum(dtype=torch.float64).item() / (tokens[:, 1:] != PAD).sum().item()

NOT_FINITE = "the loss is not finite at step {}: try a lower --learning-rate or --grad-clip 1; --debug finds the cause"

def learning_rate(step, config):
    """Linear warm-up to the peak, then a cosine down to lr_decay_to of it."""
    if step < config.warmup_steps: return config.learning_rate * (step + 1) / config.warmup_steps
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)  # 0 to 1
    return config.learning_rate * (config.lr_decay_to + (1 - config.lr_decay_to) * (1 + math.cos(math.pi * done)) / 2)

def train(model, data, config, state, signals):
    """Train on from `state` ({} at the start); yield the new one before every evaluation, at a signal, at the end."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=config.weight_decay, fused=True)
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])
    first, seconds, curve = state.get("step", 0), state.get("seconds", 0.0), state.get("curve", [])
    if first == config.steps: return  # trained to the end already: only what comes after was cut off
    forward = torch.compile(model, mode="reduce-overhead") if config.compile else model
    batch, loss, start = batches(data, config, first), torch.zeros(()), time.perf_counter()
    for step in range(first, config.steps + 1):
        if step % config.eval_interval == 0 or step == config.steps or signals:
            if not loss.isfinite(): fail(NOT_FINITE.format(step), 1)  # waits for the device, before the clock is read
            seconds += time.perf_counter() - start
            yield {"step": step, "seconds": seconds, "curve": curve, "saved": time.time(), "model": model.state_dict(),
                   "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state()}
            if step == config.steps or signals: return
            curve.append([step, *(mean_loss(token_losses(model, x), x) for x in (data.train[:1000], data.test))])
            each = seconds / max(step, 1)  # there is no pace yet at step 0
            pace = f"  {1000 * each:6.2f} ms/step  {each * (config.steps - step):4.0f} s left" if step else ""
            say("step {:6,}  train {:.4f}  test {:.4f}{}".format(*curve[-1], pace), end="\r" if os.isatty(1) else "\n")
            start = time.perf_counter()
        inputs, targets = next(batch)
        loss = masked_loss(forward(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        if config.grad_clip: nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        optimizer.param_groups[0]["lr"] = learning_rate(step, config)
        optimizer.step()

# --- Sampling ---
@torch.no_grad()
def generate(model, data, num, generator):
    """`num` names, drawn a character at a time, none longer than the longest in the data."""
    model.eval()
    device, tokens = next(model.parameters()).device, torch.full((num, 1), BOUNDARY)
    while tokens.size(1) < data.max_len and not (tokens[:, 1:] == BOUNDARY).any(1).all():
        logits = model(tokens.to(device))[:, -1].cpu()  # (num, vocab_size)
        logits[:, PAD] = -math.inf
        drawn = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)  # (num, 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    rows = [row[: (row + [BOUNDARY]).index(BOUNDARY)] for row in tokens[:, 1:].tolist()]
    return ["".join(data.chars[token - 2] for token in row) for row in rows]

# --- Results ---
def write_whole(path, write):
    """Call write(temporary path), then move the file into place: nobody reads half of it. A failure is only noted."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        say(f"note: cannot write {path} ({error}); going on without it")
    finally:
        try: temporary.unlink(missing_ok=True)
        except OSError: pass  # then there is nothing of it

def source_hash():
    """Short hash of the Data, Model and Training sections, less what does not run and what Pythons tokenize apart."""
    source = Path(__file__).read_text("utf-8")
    code = "".join(re.findall(r"^# --- (?:Data|Model|Training) ---$(.*?)(?=^# --- )", source, flags=re.M | re.S))
    kept, before = [], tokenize.NEWLINE
    for kind, text, *_ in tokenize.generate_tokens(io.StringIO(code).readline):
        if kind in (tokenize.COMMENT, tokenize.NL): continue
        docstring = kind == tokenize.STRING and before in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
        kept += ["" if docstring else "<" if kind == tokenize.DEDENT else text]
        before = kind
    return hashlib.sha256(re.sub(r"([{}])\1+", r"\1", "".join("".join(kept).split())).encode()).hexdigest()[:12]

def append_row(path, row, dry_run=False):
    """Add `row` to the table in one write, under a lock, or raise OSError and leave the table as it was."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([row.keys(), row.values()])
    header, line = text.getvalue().encode(errors="backslashreplace").split(b"\n", 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+", buffering=0) as file:
        if os.name == "posix":  # Windows has no fcntl
            import fcntl
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        table = file.read()
        if table and table.split(b"\n", 1)[0] != header: raise OSError(f"{path} has a foreign header, move it away")
        if dry_run or b"\n" + line in table: return  # there already if killed after the write and resumed
        line = (b"" if table.endswith(b"\n") else b"\n" if table else header + b"\n") + line
        if file.write(line) < len(line):
            file.truncate(len(table))
            raise OSError("the disk is full")

# --- Main ---
def say(text, end="\n"):  # a reader that goes away (`| head -1`) does not end the run
    try: print(text, end=end, flush=True)
    except OSError: os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

def fail(text, status=2):  # 2 is wrong use or input, 1 a run that failed
    print("error:", " ".join(str(text).split()), file=sys.stderr)
    sys.exit(status)

def parse(argv):
    """Command line -> arguments, Config, and the Config it departs from (the defaults or a preset's)."""
    ap = argparse.ArgumentParser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter)
    ap.error = lambda message: fail(f"{message}; see --help")
    for f in fields(Config):
        kind = {"action": "store_true"} if f.type is bool else {"type": f.type, "metavar": f.type.__name__.upper()}
        kind["help"] = f.metadata["help"] + ("" if f.type is bool else f" (default: {f.default})")
        ap.add_argument("--" + f.name.replace("_", "-"), default=argparse.SUPPRESS, **kind)
    if PRESETS: ap.add_argument("--preset", choices=PRESETS, help="a set of knobs, which flags override")
    devices = ["auto"] + [name for name in ("cpu", "cuda", "mps") if getattr(torch, name).is_available()]
    ap.add_argument("--device", choices=devices, default="auto", help="auto is cuda where there is one, else cpu")
    ap.add_argument("--data", metavar="FILE", help="UTF-8 text, one item a line (default: names.txt)")
    ap.add_argument("--results-dir", metavar="DIR", type=Path, default=HERE / "results", help="(default: results)")
    ap.add_argument("--no-record", action="store_true", help="write nothing")
    ap.add_argument("--resume", action="store_true", help="carry on where this run was interrupted")
    ap.add_argument("--debug", action="store_true", help="say which operation made the first NaN (slow)")
    args = ap.parse_args(argv, types.SimpleNamespace(preset=None))
    if [] in vars(args).values(): fail("a flag has -- for its value, which is none")  # argparse lets that through
    default = Config(**PRESETS[args.preset]["knobs"]) if args.preset else Config()
    config = replace(default, **{key: value for key, value in vars(args).items() if hasattr(default, key)})
    for name in (f.name for f in fields(Config) if not f.metadata["valid"](getattr(config, f.name))):
        fail(f"--{name.replace('_', '-')} {getattr(config, name)} is out of range; see --help")
    return args, config, default

def run(args, config, default):
    if hasattr(sys.stdout, "reconfigure"): sys.stdout.reconfigure(errors="replace")  # a terminal without emoji
    state, signals = {}, []
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is noted, a second one ends the run at once
        signal.signal(number, lambda number, _: signals.append(number) or signal.signal(number, signal.SIG_DFL))
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(args.debug)
    data = load_data(args.data, config, device, save=not args.no_record)
    torch.manual_seed(config.seed)
    model = Transformer(config, len(data.chars) + 2, data.max_len).to(device)
    preset, n_head = PRESETS.get(args.preset, {"label": CONFIG, "builds_on": BUILDS_ON}), getattr(config, "n_head", 1)
    overrides = " ".join(f"{key}={value}" for key, value in sorted(asdict(config).items())
                         if value != getattr(default, key) and key not in ("seed", "threads"))
    hw = torch.cuda.get_device_name() if device == "cuda" else torch.cpu.get_capabilities().get("cpu_name", "")
    row = dict(script=Path(__file__).name, config=preset["label"], preset=args.preset, overrides=overrides,
        builds_on=preset["builds_on"], data=data.name, data_hash=data.hash, seed=config.seed, steps=config.steps,
        n_embd=config.n_embd, head_size=getattr(config, "head_size", config.n_embd // n_head), n_head=n_head,
        n_layer=getattr(config, "n_layer", 1), params=sum(p.numel() for p in model.parameters()), train="", test="",
        test_from_2nd="", test_unseen="", seconds="", ms_per_step="", device=f"{device} ({hw})", threads=config.threads,
        torch=torch.__version__, source=source_hash(), finished="", samples="", settings=json.dumps(vars(config)))
    own = overrides, args.data or data.name * (data.hash != SHA256[:12]), device.replace("cpu", "")
    other = hashlib.sha256(ascii(own).encode()).hexdigest()[:8] if any(own) else ""  # one name, one kind of run
    name = "-".join(filter(None, [Path(__file__).stem, args.preset, other, f"seed{config.seed}"]))
    table, curve = args.results_dir / "results.csv", args.results_dir / "curves" / f"{name}.csv"
    checkpoint = args.results_dir / "checkpoints" / f"{name}.pt"
    if not args.no_record: append_row(table, row, dry_run=True)
    identity = asdict(config) | {k: (row | vars(data))[k] for k in "script source data_hash chars max_len".split()}
    if args.resume:
        try:
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
            differ = [f"{key} was {state.get(key)}, is {new}" for key, new in identity.items() if state.get(key) != new]
        except Exception as error:  # a damaged file raises nearly anything
            fail(f"no run to resume: {checkpoint} is missing or damaged ({type(error).__name__}); drop --resume")
        if differ: fail(f"cannot resume {checkpoint}: {'; '.join(differ)}; undo that, or drop --resume")
    say("{script} ({config}), {params:,} parameters, {steps:,} steps on {data}, seed {seed}, {device}".format(**row))
    for state in train(model, data, config, state, signals):
        if not args.no_record: write_whole(checkpoint, lambda temporary: torch.save(identity | state, temporary))
    if state["step"] < config.steps:
        how = "nothing was saved" if args.no_record else "the same command with --resume goes on from there"
        fail(f"stopped at step {state['step']}; {how}", 128 + signals[0])
    known, losses = set(data.train_items), token_losses(model, data.test)
    unseen = [i for i, item in enumerate(data.test_items) if item not in known]
    final = {"train": mean_loss(token_losses(model, data.train), data.train), "test": mean_loss(losses, data.test),
             "test_from_2nd": mean_loss(losses[:, 1:], data.test[:, 1:])}
    if unseen: final["test_unseen"] = mean_loss(losses[unseen], data.test[unseen])
    if not math.isfinite(sum(final.values())): fail(NOT_FINITE.format(config.steps), 1)
    for key, loss in final.items():
        say(f"{key:14} {loss:.4f} nats: probability {math.exp(-loss):.3f} (geometric mean) for the right character")
    names = generate(model, data, 10, torch.Generator().manual_seed(config.seed))
    say("ten names (* is in the training split): " + " ".join(name + "*" * (name in known) for name in names))
    if args.no_record: return
    row |= {key: f"{loss:.6f}" for key, loss in final.items()}
    row |= dict(seconds=f"{state['seconds']:.6f}", ms_per_step=f"{1000 * state['seconds'] / config.steps:.6f}",
                finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state["saved"])),
                samples=json.dumps(names, ensure_ascii=False))
    points = ["step,train,test", *(f"{step},{train:.6f},{test:.6f}" for step, train, test in state["curve"]),
              f"{config.steps},{row['train']},{row['test']}\n"]
    write_whole(curve, lambda temporary: temporary.write_text("\n".join(points)))
    try:
        append_row(table, row)
    except OSError as error:
        say(f"note: cannot write to {table} ({error}); the row goes to a file of its own")
        append_row(table := table.with_name(f"{name}.csv"), row)
    say(f"row in {table}, curve in {curve}, checkpoint in {checkpoint}")

def main(argv=None):
    try:
        run(*parse(argv))
    except OSError as error:
        fail(f"cannot record this run ({error}): mend that or choose another --results-dir; --resume if it had begun")
    except (MemoryError, RuntimeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        if not re.search("[Mm]emory|overflow|returned nan", reason): raise  # a bug: its traceback is wanted
        fail(f"{reason}; try smaller sizes if it is memory, a lower --learning-rate if it is nan", 1)

if __name__ == "__main__": main()
