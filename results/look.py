"""One name followed through trained models: what each expects, and where its attention looks.

Through the chain:    python results/look.py emma
Steps of your choice: python results/look.py emma train-2 train-2-swiglu train-2@best --seed 1
A run by its files:   python results/look.py emma train-2,n_layer=2-seed3

Prints the probability of each correct character and of the end, and the mean loss of these, in nats
per token; then, of the last model, the likeliest characters at every position. Draws its attention
weights, layers down and heads across.
"""

import shlex
import unicodedata

from lib.checkpoints import is_finished, read_checkpoint, restore, trained_state
from lib.command import ROOT, Failure, Parser, file_path, run, write_whole
from lib.drawings import png
from lib.known import CHAIN
from lib.look import START, draw_attention, look
from lib.names import expand
from lib.patches import note
from lib.steps import find_steps, named


def states(root, names, seed, results):
    """{name: (step, what it has saved)} of the runs that are finished, and the other steps."""
    paths = {name: results / "checkpoints" / f"{name}.pt" for name in names}
    saved = {name: read_checkpoint(path) for name, path in paths.items() if path.exists()}
    scripts = {name: state["run"]["script"] for name, state in saved.items()}
    steps, found, lacking = find_steps(root, [scripts.get(name, name) for name in names]), {}, []
    for name in names:
        step = named(steps, scripts.get(name, name))
        if state := saved.get(name):
            if state["run"]["source"] != step.source or not is_finished(state):
                raise Failure(
                    f"{paths[name]} is of an earlier state, or unfinished: train it again"
                )
            found[name] = step, state
            continue
        try:
            found[step.key] = step, trained_state(step, seed, results)
        except Failure:
            lacking.append(step.key)
    return found, lacking


def print_table(rows):
    """Aligned text: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        print(first.ljust(widths[0]), *map(str.rjust, others, widths[1:]), sep="  ")


def print_seen(seen):
    """What the models make of a name, {model: Seen}, and what the last one expects."""
    *_, (last, of_last) = seen.items()
    header = ["", *(char for char, _ in of_last.correct), "loss"]
    rows = [
        [key, *(f"{p:.1%}" for _, p in found.correct), f"{found.loss:.4f}"]
        for key, found in seen.items()
    ]
    print_table([header, *rows])
    print(f"\n{last} expects, after")
    before = [(START + of_last.name)[: end + 1] for end in range(len(of_last.likeliest))]
    rows = [[f"{char} {p:.1%}" for char, p in row] for row in of_last.likeliest]
    print_table([[start, *row] for start, row in zip(before, rows, strict=True)])


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="that is looked at, such as emma")
    text = "a step such as train-2@best, or a run (default: every step of the chain)"
    parser.add_argument("steps", nargs="*", metavar="STEP", help=text)
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of steps (default: 0)")
    text = "where the PNG goes (default: logs/look-NAME.png in the results)"
    parser.add_argument("--figure", type=file_path, metavar="FILE", help=text)
    parser.add_argument("--results-dir", type=file_path, default=root / "results", metavar="DIR")
    options = parser.parse_args(argv)
    if not 0 <= options.seed < 2**63:
        raise Failure("--seed takes numbers from 0 to 2^63 - 1")
    name = unicodedata.normalize("NFC", options.name)  # as the lists are read
    results = options.results_dir
    asked = [one for name in options.steps for one in expand(name)] or CHAIN
    found, lacking = states(root, asked, options.seed, results)
    if lacking:
        words = ["--again", "--seeds", options.seed + 1, *lacking]
        words += ["--results-dir", results] if results != root / "results" else []
        train = f"python results/reproduce.py {shlex.join(map(str, words))}"
        text = f"not trained with seed {options.seed}, or changed since: run {train}"
        if not found:
            raise Failure(text)
        note(text)
    seen = {}
    for key, (step, state) in found.items():
        seen[key] = look(step.module, restore(step.module, state), state["run"], name)
    print_seen(seen)
    if not seen[key].weights:
        return note(f"{key} has no attention weights that can be seen: no figure")
    file = "".join(char if char.isalnum() else "_" for char in name)
    path = options.figure or results / "logs" / f"look-{file}.png"
    data = {"step": key, "name": name, "weights": seen[key].weights}
    write_whole(path, png(draw_attention, data, {}))
    print(f"\nthe attention weights of {key}: {path}")


if __name__ == "__main__":
    run(main)
