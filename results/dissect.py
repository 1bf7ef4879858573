"""What the trained models do, as small files that report.py draws and quotes: no training, only checkpoints.

    python results/dissect.py

It needs the checkpoints that reproduce.py leaves in results/checkpoints, and writes
    by-position.csv  the test loss at every position in the name
    attention.csv    whom each position attends to, in every layer and head of the final model, on one name
    generated.csv    how many of many generated names are new: neither in the training nor in the test split
"""
import csv, io
from dataclasses import asdict
from unittest.mock import patch
import torch, torch.nn.functional as F
from sample import decode, draw, read_checkpoint, restore
from report import DISSECTED, write_whole
from scripts import ROOT, fail, fingerprint, guarded, parser, say, targets

PAD, BOUNDARY = 0, 1  # as in the scripts
BY_POSITION = ("train-2-2head-4layer-mlp-ln.py", "train-2-2head-4layer-mlp-ln-rope.py", "train-2.py --preset final")
ATTENTION, NAME = "train-2.py --preset final", "elizabeth"
GENERATED, NUM = ("train-2.py", "train-2.py --preset final", "train-2.py --preset best"), 1000

def trained(target, seed, folder):
    """The model of a canonical run, its checkpoint, and the fingerprint of what made it."""
    name = "-".join(filter(None, [target.name.split()[0].removesuffix(".py"), target.preset, f"seed{seed}"]))
    path = folder / f"{name}.pt"
    if not path.exists(): fail(f"there is no {path}: run python results/reproduce.py --seeds {seed + 1} first")
    state = read_checkpoint(path)
    model = restore(target.module, state, path)
    settings = asdict(target.module.Config(**target.knobs))
    run = fingerprint(target.module.source_hash(), settings)
    same = fingerprint(state["source"], {knob: state.get(knob) for knob in settings}) == run
    if not same or state["step"] < state["steps"]:
        fail(f"{path} is of another source or settings, or not trained to its end: run {target.name} --seed {seed}")
    return model, state, run

def position_losses(module, model, data):
    """(position, number of targets, mean test loss), the first letter being at position 1."""
    losses, counts = module.token_losses(model, data.test).double().sum(0), (data.test[:, 1:] != PAD).sum(0)
    return [(i + 1, n, loss / n) for i, (n, loss) in enumerate(zip(counts.tolist(), losses.tolist())) if n]

def attention_weights(model, tokens):
    """The attention of every layer on one name: (n_layer, n_head, T, T), from (T,) tokens."""
    seen, kernel = [], F.scaled_dot_product_attention

    def spy(q, k, v, **options):  # what the kernel computes, which returns no weights
        scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5
        seen.append(scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(dim=-1)[0])
        return kernel(q, k, v, **options)
    model.eval()
    with torch.no_grad(), patch.object(F, "scaled_dot_product_attention", spy): model(tokens[None])
    return torch.stack(seen)

def count_new(model, state, known, num):
    """How many of `num` names are in neither split."""
    rows = draw(model.eval(), state, num, torch.Generator().manual_seed(state["seed"]))
    names = [decode(row, state)[0] for row in rows]
    return sum(bool(name) and name not in known for name in names)

def table(header, rows):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue().encode()

def main(argv=None):
    ap = parser(__doc__)
    ap.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N - 1 (default: 5)")
    args = ap.parse_args(argv)
    if args.seeds < 1: fail("--seeds takes numbers from 1 up")
    found = {target.name: target for target in targets(["train-2.py", *BY_POSITION[:2]])}
    folder = ROOT / "results" / "checkpoints"
    torch.set_num_threads(1)  # as in the runs, so that the digits are theirs
    module = found["train-2.py"].module
    data = module.load_data(None, module.Config(), "cpu")
    known, positions, attention, generated = {*data.train_items, *data.test_items}, [], [], []
    for name in dict.fromkeys([*BY_POSITION, ATTENTION, *GENERATED]):
        target = found[name]
        for seed in range(args.seeds):
            model, state, made_by = trained(target, seed, folder)
            if state["data_hash"] != data.hash: fail(f"{name} --seed {seed} was trained on other data than {data.name}")
            run = [state["script"], target.preset or "", seed, made_by]
            if name in BY_POSITION:
                positions += [[*run, i, n, f"{loss:.6f}"] for i, n, loss in position_losses(target.module, model, data)]
            if name == ATTENTION and seed == 0:
                tokens = torch.tensor([BOUNDARY, *(data.chars.index(char) + 2 for char in NAME)])
                weights = attention_weights(model, tokens)
                attention = [[*run, NAME, *(i + 1 for i in at[:2]), *at[2:], f"{weights[tuple(at)]:.4f}"]
                             for at in (weights > 0).nonzero().tolist()]
            if name in GENERATED: generated.append([*run, NUM, count_new(model, state, known, NUM)])
            say(f"{name} with seed {seed}")
    try:
        for (file, header), rows in zip(DISSECTED.items(), (positions, attention, generated)):
            write_whole(ROOT / "results" / file, table(header, rows))
    except OSError as error:
        fail(f"cannot write {error.filename} ({error.strerror})")

if __name__ == "__main__":
    guarded(main)
