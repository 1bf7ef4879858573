"""Names from a model that was trained before, and how many of them are new.

The newest checkpoint of a script:  python results/sample.py train-2.py --num 20
Names that begin with "mar":        python results/sample.py train-2.py --prompt mar --temperature 0.8 --top-k 5
A certain checkpoint, own data:     python results/sample.py train-2.py --checkpoint FILE --data towns.txt
"""
import math
from dataclasses import fields
from pathlib import Path
import torch
from scripts import ROOT, fail, guarded, load, parser, say

PAD, BOUNDARY = 0, 1  # as in the scripts

def read_checkpoint(path):
    """What the script saved."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        fail(f"there is no checkpoint {path}")
    except Exception as error:  # a damaged file raises nearly anything
        fail(f"{path} is damaged, or no checkpoint ({type(error).__name__})")
    if not isinstance(state, dict) or "script" not in state: fail(f"{path} is no checkpoint of a training script")
    return state

def script_of(path):
    """Whose checkpoint it is; nobody's if it is damaged."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)["script"]
    except Exception:  # a damaged file raises nearly anything
        return None

def newest(script, folder):
    """Path of the script's newest checkpoint; names of files do not tell whose they are, so it looks inside."""
    paths = sorted(folder.glob(f"{script.stem}-*.pt"), key=lambda path: path.stat().st_mtime, reverse=True)
    path = next((path for path in paths if script_of(path) == script.name), None)
    return path or fail(f"no checkpoint of {script.name} in {folder}: train it first, or name one with --checkpoint")

def restore(module, state, path):
    """The model of a checkpoint, ready to sample from."""
    name = Path(module.__file__).name
    if state["script"] != name: fail(f"{path} is a checkpoint of {state['script']}, not of {name}")
    try:
        config = module.Config(**{f.name: state[f.name] for f in fields(module.Config)})
        model = module.Transformer(config, len(state["chars"]) + 2, state["max_len"])
        model.load_state_dict(state["model"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
        fail(f"{path} does not fit {name}, which has changed since (source {state.get('source')}, now "
             f"{module.source_hash()}): train again, or go back to that source")
    if not all(weights.isfinite().all() for weights in model.parameters()): fail(f"the training of {path} diverged")
    return model.eval()

@torch.no_grad()
def draw(model, state, num, generator, prompt="", temperature=1.0, top_k=None):
    """`num` tokenized names (num, max_len + 1); at temperature 1 the same as the script's generate() gives."""
    start = [BOUNDARY, *(state["chars"].index(char) + 2 for char in prompt)]
    tokens = torch.tensor([start] * num)
    while tokens.size(1) <= state["max_len"] and not (tokens[:, 1:] == BOUNDARY).any(1).all():
        logits = model(tokens)[:, -1]  # (num, vocab_size)
        logits[:, PAD] = -math.inf
        if top_k:
            best = logits.topk(min(top_k, logits.size(1)))
            logits = torch.full_like(logits, -math.inf).scatter(1, best.indices, best.values)
        scaled = (logits - logits.amax(1, keepdim=True)).double() / temperature  # the largest is 0: no overflow
        drawn = torch.multinomial(scaled.float().softmax(dim=-1), 1, generator=generator)  # (num, 1)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens[:, 1:].tolist()

def decode(row, state):
    """The name that a row of tokens holds, and whether it was cut at the longest length rather than ended."""
    cut = BOUNDARY not in row
    end = state["max_len"] - 1 if cut else row.index(BOUNDARY)
    return "".join(state["chars"][token - 2] for token in row[:end]), cut

def known_names(module, file, state):
    """All the names that the model was trained or tested on, or None and why they are not known."""
    paths = [Path(file)] if file else [ROOT / "data" / "names.txt", ROOT / "data" / "sample-names.txt"]
    for path in paths if file else filter(Path.exists, paths):
        data = module.load_data(str(path), module.Config(), "cpu")
        if data.hash == state.get("data_hash"): return {*data.train_items, *data.test_items}, ""
    return None, f"the model was trained on other data than {' and '.join(path.name for path in paths)}; see --data"

def main(argv=None):
    ap = parser(__doc__)
    ap.add_argument("script", metavar="SCRIPT", help="the training script, train-2.py for one")
    ap.add_argument("--checkpoint", metavar="FILE", type=Path, help="default: the newest in results/checkpoints")
    ap.add_argument("--num", type=int, default=10, help="how many names (default: 10)")
    ap.add_argument("--prompt", default="", metavar="TEXT", help="how every name begins")
    ap.add_argument("--temperature", type=float, default=1.0, help="below 1 bets on the likely (default: 1)")
    ap.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest characters only")
    ap.add_argument("--seed", type=int, help="for the same names again (default: new ones every time)")
    ap.add_argument("--data", metavar="FILE", help="what the model was trained on (default: data/names.txt)")
    args = ap.parse_args(argv)
    if not 1 <= args.num: fail(f"--num {args.num}: at least 1 is needed")
    if not 0 < args.temperature < math.inf: fail(f"--temperature {args.temperature} is no number above 0")
    if args.top_k is not None and args.top_k < 1: fail(f"--top-k {args.top_k}: at least 1 is needed")
    if args.seed is not None and not 0 <= args.seed < 2**63: fail(f"--seed {args.seed} is out of range")

    module = load(args.script)
    path = args.checkpoint or newest(Path(module.__file__), ROOT / "results" / "checkpoints")
    state = read_checkpoint(path)
    model = restore(module, state, path)
    longest, foreign = state["max_len"] - 1, sorted(set(args.prompt) - set(state["chars"]))
    if foreign: fail(f"--prompt has {', '.join(map(repr, foreign))}, which the data of this model has not")
    if len(args.prompt) > longest: fail(f"--prompt is longer than the {longest} characters of the longest name")
    known, why = known_names(module, args.data, state)

    generator = torch.Generator()
    seed = generator.seed() % 10**6 if args.seed is None else args.seed
    generator.manual_seed(seed)
    names, cuts = [], 0
    while len(names) < args.num:
        num = min(1024, args.num - len(names))
        rows = draw(model, state, num, generator, args.prompt, args.temperature, args.top_k)
        for name, cut in (decode(row, state) for row in rows):
            say(name)
            names.append(name)
            cuts += cut
    new = f"new is not known ({why})" if known is None else f"{sum(name not in known for name in names if name)} new"
    say(f"\n{len(names)} names: {new}, {len(names) - len(set(names))} repeated, {cuts} cut at {longest} characters; "
        f"seed {seed}, step {state.get('step')} of {path}")
    if state.get("source") != module.source_hash(): say(f"note: {args.script} has changed since that was trained")

if __name__ == "__main__":
    guarded(main)
