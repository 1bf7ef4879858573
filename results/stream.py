"""Train a step without padding: on windows of one stream of characters in place of one name a row.

The names run together, evaluated name by name as ever; the row is recorded under the preset "stream":
    python results/stream.py train-2.py --seed 0
Any text, its last tenth held out; its row goes into texts.csv, and --resume draws from the trained model again:
    python results/stream.py train-2.py --text input.txt --block-size 64 --n-layer 4 --n-head 4 --n-embd 128 \\
        --batch-size 12 --steps 2000 --learning-rate 1e-3 --lr-decay-to 0.1
All other flags are the step's own: see its --help.
"""
import functools, hashlib, inspect, json, math, signal, time, types
from dataclasses import asdict
from pathlib import Path
import torch
from scripts import fail, load, parser

PAD, BOUNDARY = 0, 1  # as in the scripts
WINDOWS = 14  # a step, of 16 targets each: about as many as 32 names have

def windows(data, config, first_step=0):
    """In place of the script's batches: inputs and targets (B, max_len) from random places of the training stream."""
    stream = torch.cat([data.train[0, :1], text_tokens(data.train)])  # a boundary ends one name and starts the next
    length = min(data.max_len, len(stream) - 1)
    generator = torch.Generator().manual_seed(config.seed)
    starts = torch.randint(len(stream) - length, (config.steps, config.batch_size), generator=generator)
    offsets = torch.arange(length + 1, device=stream.device)
    for start in starts.to(stream.device)[first_step:]:
        tokens = stream[start[:, None] + offsets]  # (B, T + 1)
        yield tokens[:, :-1], tokens[:, 1:]

def source_of(module):
    """Short hash of what makes the result: the script's own, and the functions here that prepare the data."""
    own = "".join(map(inspect.getsource, (windows, text_tokens, cut_up, load_text)))
    return hashlib.sha256((module.source_hash() + own).encode()).hexdigest()[:12]

def as_preset(module):
    """The module, made to train on the windows as a preset that builds on the padded step."""
    name, source = Path(module.__file__).name, source_of(module)
    knobs = dict(batch_size=WINDOWS)
    module.PRESETS = {"stream": dict(label=f"{module.CONFIG}, stream", builds_on=name, knobs=knobs)}
    module.batches, module.source_hash = windows, lambda: source
    return module

def train_names(module, argv):
    """The step's own run, recorded as a preset that builds on the padded step."""
    as_preset(module).main([*argv, "--preset", "stream"])

def cut_up(tokens, length):
    """Consecutive windows in which every token but the first is a target once: (N, length + 1), PAD at the end."""
    rows = -(-(len(tokens) - 1) // length)
    padded = torch.cat([tokens, tokens.new_full((rows * length + 1 - len(tokens),), PAD)])
    return padded.unfold(0, length + 1, length)

def load_text(module, args, config, device):
    """The text as the script's functions want data: windows for rows. The last tenth is held out."""
    try:
        blob = Path(args.text).read_bytes()
        text = blob.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {args.text} ({error}); --text takes UTF-8 text")
    chars = sorted(set(text))
    ids = {char: token for token, char in enumerate(chars, start=2)}
    cut, end = len(text) - len(text) // 10, len(text)
    if config.validate: cut, end = cut - cut // 10, cut
    if not (args.block_size < cut and cut + 2 <= end):
        fail(f"{args.text} has {len(text):,} characters, too few for windows of {args.block_size}")
    foreign = sorted(set(args.prompt) - set(chars))
    if foreign: fail(f"--prompt has {', '.join(map(repr, foreign))}, which {args.text} has not")
    tokens = torch.tensor([ids[char] for char in text], device=device)
    return types.SimpleNamespace(hash=hashlib.sha256(blob).hexdigest()[:12], chars=chars, max_len=args.block_size,
        train=cut_up(tokens[:cut], args.block_size), test=cut_up(tokens[cut:end], args.block_size))

def text_tokens(rows):
    """The targets of the windows, one after the other."""
    targets = rows[:, 1:]
    return targets[targets != PAD]

@torch.no_grad()
def continue_text(model, data, prompt, num, generator):
    """The prompt and `num` characters after it, each drawn from what the last max_len before it make likely."""
    model.eval()
    device = next(model.parameters()).device
    tokens = [data.chars.index(char) + 2 for char in prompt]
    for _ in range(num):
        logits = model(torch.tensor([tokens[-data.max_len:]], device=device))[0, -1].cpu()
        logits[[PAD, BOUNDARY]] = -math.inf  # no characters of a text
        tokens += torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).tolist()
    return "".join(data.chars[token - 2] for token in tokens)

def resumed(module, checkpoint, identity):
    """The state to go on from, which must be of the same run."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        differ = [f"{key} was {state.get(key)}, is {new}" for key, new in identity.items() if state.get(key) != new]
    except Exception as error:  # a damaged file raises nearly anything
        fail(f"no run to resume: {checkpoint} is missing or damaged ({type(error).__name__}); drop --resume")
    if differ: fail(f"cannot resume {checkpoint}: {'; '.join(differ)}; undo that, or drop --resume")
    return state

def train_text(module, text, args, config, default):
    """In place of the script's run: train on the text, say the exact loss of what was held out, write some more."""
    if args.data: fail("--data and --text exclude each other")
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM):  # the first is noted, a second one ends the run at once
        signal.signal(number, lambda number, _: signals.append(number) or signal.signal(number, signal.SIG_DFL))
    device = args.device if args.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(args.debug)
    data = load_text(module, text, config, device)
    torch.manual_seed(config.seed)
    model = module.Transformer(config, len(data.chars) + 2, data.max_len).to(device)
    path = Path(module.__file__)
    identity = asdict(config) | dict(script=f"stream.py {path.name}", source=source_of(module), data_hash=data.hash,
                                     chars=data.chars, max_len=data.max_len)
    run = hashlib.sha256(json.dumps([asdict(config), text.text, text.block_size]).encode()).hexdigest()[:8]
    checkpoint = args.results_dir / "checkpoints" / f"{path.stem}-text-{run}-seed{config.seed}.pt"
    size, table = sum(p.numel() for p in model.parameters()), args.results_dir / "texts.csv"
    row = dict(script=path.name, text=Path(text.text).name, text_hash=data.hash, block_size=data.max_len,
               seed=config.seed, params=size, characters=len(text_tokens(data.test)), loss="", seconds="",
               device=device, torch=torch.__version__, source=identity["source"], finished="",
               settings=json.dumps(asdict(config)))
    state = resumed(module, checkpoint, identity) if args.resume else {}
    if not args.no_record: module.append_row(table, row, dry_run=True)
    module.say(f"{path.name}, {size:,} parameters, on {text.text}, {len(data.chars)} different characters, "
               f"{config.steps:,} steps of {config.batch_size} windows of {data.max_len}, seed {config.seed}, {device}")
    for state in module.train(model, data, config, state, signals):
        if args.no_record: continue
        module.write_whole(checkpoint, lambda temporary: torch.save(identity | state, temporary))
    if state["step"] < config.steps:
        how = "nothing was saved" if args.no_record else "the same command with --resume goes on from there"
        fail(f"stopped at step {state['step']}; {how}", 128 + signals[0])
    loss = module.mean_loss(module.token_losses(model, data.test), data.test)
    if not math.isfinite(loss): fail(module.NOT_FINITE.format(config.steps), 1)
    module.say(f"held-out loss {loss:.4f} nats a character, over {row['characters']:,} characters")
    prompt = text.prompt or ("\n" if "\n" in data.chars else data.chars[0])
    module.say(continue_text(model, data, prompt, 500, torch.Generator().manual_seed(config.seed)))
    if args.no_record: return
    row |= dict(loss=f"{loss:.6f}", seconds=f"{state['seconds']:.6f}",
                finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(state["saved"])))
    module.append_row(table, row)
    module.say(f"row in {table}, checkpoint in {checkpoint}")

def main(argv=None):
    ap = parser(__doc__)
    ap.add_argument("script", metavar="SCRIPT", help="the training script, train-2.py for one; it comes first")
    ap.add_argument("--text", metavar="FILE", help="train on this UTF-8 text instead of the names")
    ap.add_argument("--block-size", type=int, metavar="N", help="targets in a window of the text (default: 64)")
    ap.add_argument("--prompt", metavar="TEXT", help="what the 500 characters at the end go on from")
    args, others = ap.parse_known_args(argv)
    module = load(args.script)
    if args.text is None:
        if args.block_size is not None or args.prompt is not None: fail("--block-size and --prompt go with --text")
        return train_names(module, others)
    if args.block_size is None: args.block_size = 64
    if args.prompt is None: args.prompt = ""
    if not 1 <= args.block_size < 2**20: fail(f"--block-size {args.block_size} is out of range")
    module.batches = windows
    module.run = functools.partial(train_text, module, args)  # main() reads the command line and words failures
    module.main(others)

if __name__ == "__main__":
    main()
