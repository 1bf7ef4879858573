"""Train a step on any text: on windows of it in place of names, its last tenth held out.

    python results/stream.py train-2 --text input.txt --block-size 64 --n-layer 4 --n-head 4 \\
        --n-embd 128 --batch-size 12 --steps 2000 --learning-rate 1e-3 --lr-decay-to 0.1

The exact loss over the held-out text goes into results/texts.csv, and beside it what nanoGPT
would give: the mean over 20 batches of windows that begin anywhere in it. All other flags are the
step's own, see its --help; with --resume, an interrupted run goes on.
"""

import hashlib
import json
import math
import re
import types
from pathlib import Path

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.command import ROOT, Failure, Parser, count, file_path, run
from lib.names import join, split
from lib.scripts import load
from lib.steps import find, find_steps, named, refuse_twice, steps_of
from lib.tables import TABLES

COLUMNS = TABLES["texts.csv"]


def windows(tokens, length, pad):
    """Consecutive windows in which every token but the first is a target once: (N, length + 1)."""
    rows = -(-(len(tokens) - 1) // length)
    padded = torch.full((rows * length + 1,), pad, device=tokens.device)
    padded[: len(tokens)] = tokens
    return padded.unfold(0, length + 1, length)


def load_text(module, file, block_size, config, device):
    """The text as the script's functions want their data: windows for rows."""
    try:
        blob = Path(file).read_bytes()
        text = blob.decode("utf-8-sig").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read the text, which must be UTF-8: {error}") from error
    cut, end = len(text) - len(text) // 10, len(text)
    if config.validate:
        cut, end = cut - cut // 10, cut
    if not (block_size < cut and cut + 2 <= end):
        raise Failure(f"{file} has {len(text):,} characters, too few for windows of {block_size}")
    chars = sorted(set(text))
    token_of = {char: token for token, char in enumerate(chars, start=2)}
    tokens = torch.tensor([token_of[char] for char in text[:end]], device=device)
    return types.SimpleNamespace(
        name=Path(file).name,
        hash=hashlib.sha256(blob).hexdigest()[:12],
        chars=chars,
        max_len=block_size,
        train=tokens[:cut].unfold(0, block_size + 1, 1),  # a window begins at every character
        test=windows(tokens[cut:], block_size, module.PAD),
        held_out=tokens[cut:],
    )


def random_windows(tokens, length, num, generator):
    """Windows that begin anywhere in the tokens: (num, length + 1), or shorter than these."""
    every = tokens.unfold(0, min(length + 1, len(tokens)), 1)
    return every[torch.randint(len(every), (num,), generator=generator)]


@torch.no_grad()
def continue_text(module, model, data, prompt, num, generator):
    """The prompt and `num` characters after it, drawn one by one."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    tokens = [data.chars.index(char) + 2 for char in prompt]
    for _ in range(num):
        logits = model(torch.tensor([tokens[-data.max_len :]], device=device))[0, -1].cpu()
        logits[[module.PAD, module.BOUNDARY]] = -math.inf  # no characters of a text
        tokens += torch.multinomial(logits.softmax(dim=-1), 1, generator=generator).tolist()
    model.train(training)
    return "".join(data.chars[token - 2] for token in tokens)


def data_section(path):
    return re.findall("^# --- Data ---$.*^# --- Model ---$", path.read_text("utf-8"), re.M | re.S)


def parse(argv, root):
    """The command line, the flags of the script, and this as a module."""
    parser = Parser(__doc__)
    parser.usage = "%(prog)s STEP --text FILE [--block-size N] [--prompt TEXT] [other flags]"
    text = "the step, which comes first: train-2, train-2@final, train-2,n_layer=2"
    parser.add_argument("step", metavar="STEP", help=text)
    parser.add_argument("--text", required=True, type=file_path, metavar="FILE", help="UTF-8 text")
    parser.add_argument("--block-size", type=count, default=64, metavar="N", help="(default: 64)")
    parser.add_argument("--prompt", metavar="TEXT", help="what the sample at the end goes on from")
    own, rest = parser.parse_known_args(argv)
    if own.block_size > 10_000:
        raise Failure("--block-size takes numbers up to 10,000")
    base, settings = split(own.step)
    script, at, preset = base.partition("@")
    name = f"{script.removesuffix('.py')}.py"
    path = next((path for path in (Path(name), root / name) if path.is_file()), None)
    if path is None:
        raise Failure(f"there is no script {name}; the step comes first")
    if data_section(path) != data_section(root / "train-2.py"):
        raise Failure(f"{name} has a Data section of its own, which is for names, not for a text")
    module = load(path.resolve())
    name = join(path.stem + at + preset, settings)
    step = find(steps_of(module), name) or named(find_steps(root, [name]), name)  # a short name
    refuse_twice(step, rest)
    return own, [*step.words[1:], *rest], module


def record(module, table, own, data, state, losses):
    """The run as a row of texts.csv."""
    trained = state["run"]
    row = {
        **{column: trained[column] for column in ("script", "params", "device", "torch", "source")},
        "text": data.name,
        "text_hash": data.hash,
        "block_size": own.block_size,
        "seed": trained["settings"]["seed"],
        "characters": int((data.test[:, 1:] != module.PAD).sum()),
        "loss": f"{losses[0]:.6f}",
        "random_windows": f"{losses[1]:.6f}",
        "seconds": f"{state['seconds']:.6f}",
        "finished": state["finished"],
        "settings": json.dumps(trained["settings"]),
    }
    module.append_row(table, COLUMNS, {column: row[column] for column in COLUMNS})


def main(argv=None, root=ROOT):
    own, rest, module = parse(argv, root)
    options, config, overrides = module.parse(rest)
    if options.data:
        raise Failure("--data is for names; --text takes the place of it here")
    results, device = options.results_dir, options.device
    torch.set_num_threads(config.threads)
    torch.autograd.set_detect_anomaly(options.debug)

    data = load_text(module, own.text, own.block_size, config, device)
    prompt = own.prompt or ("\n" if "\n" in data.chars else data.chars[0])
    foreign = sorted(set(prompt) - set(data.chars))
    if foreign:
        raise Failure(f"--prompt has {''.join(foreign)!r}, which {own.text} has not")
    model = module.make_model(config, data, device)
    optimizer = module.make_optimizer(model, config)
    trained = module.describe(options, config, overrides, data, model)
    trained["block_size"] = own.block_size
    what = f"{trained['params']:,} parameters, {data.name}, {trained['device']}"
    print(f"{trained['script']}: {what}")

    state = {"run": trained, "step": 0, "seconds": 0.0, "curve": []}
    words = f"block_size={own.block_size} {overrides}"  # the text's name and hash follow
    name = module.run_name(trained | {"overrides": words})
    table, checkpoint = results / "texts.csv", results / "checkpoints" / f"{name}.pt"
    if options.resume and checkpoint.exists():
        module.load_checkpoint(checkpoint, state, model, optimizer)
    if not options.no_record:
        module.append_row(table, COLUMNS)  # without a row, this sees that it can be done
        checkpoint.parent.mkdir(exist_ok=True)
        if state["step"] < config.steps:
            module.save_checkpoint(checkpoint, state, model, optimizer).unlink()
    module.generate = lambda *options: []  # the evaluation would draw names
    module.train(model, optimizer, data, config, state, None if options.no_record else checkpoint)

    generator = torch.Generator().manual_seed(config.seed)
    num = 20 * config.batch_size
    parts = data.test, random_windows(data.held_out, own.block_size, num, generator)
    losses = [module.mean_loss(module.token_losses(model, part), part) for part in parts]
    if not options.no_record:
        record(module, table, own, data, state, losses)
    print(f"held-out loss {losses[0]:.4f} nats per character, by random windows {losses[1]:.4f}")
    print(continue_text(module, model, data, prompt, 500, generator))


if __name__ == "__main__":
    run(main, when_stopped="stopped; --resume goes on from the last evaluation that was saved")
