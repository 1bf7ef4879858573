"""Names from a model that was trained before, and how many of them are new.

The run of a step with seed 0:             python results/sample.py train-2@best --num 20
Another one, by the name of its files:     python results/sample.py train-2@best-seed3
Names that begin with "mar":               python results/sample.py train-2 --prompt mar
Only likely ones:                          python results/sample.py train-2 --temperature 0.7
Only the 3 likeliest characters each time: python results/sample.py train-2 --top-k 3
"""

import re
import sys
import types
import unicodedata
from difflib import get_close_matches

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.checkpoints import read_checkpoint, restore
from lib.command import ROOT, Failure, Parser, count, file_path, run
from lib.patches import Made
from lib.scripts import load
from lib.steps import find, find_steps


def find_checkpoint(name, folder, root):
    """The path of a run's checkpoint, called by the run's name or, for seed 0, by the step's."""
    there, stems = {path.stem for path in folder.glob("*.pt")}, [name, f"{name}-seed0"]
    if there.isdisjoint(stems) and there and not re.search(r"-seed\d+$", name):
        step = find(find_steps(root, [name]), name)  # it knows every spelling
        stems += [step.run_name(0)] if step else []
    found = [x for x in stems if x in there]
    if not found:
        closest = get_close_matches(name, there, 5, cutoff=0)
        hint = f"the closest are {', '.join(closest)}" if there else "train a model first"
        raise Failure(f"there is no checkpoint {name} in {folder}; {hint}")
    return folder / f"{found[0]}.pt"


def composed(text):
    """The text in the form that the names have: é as one character, however it was typed."""
    return unicodedata.normalize("NFC", text)


def known_names(module, trained, file, root):
    """All names that the model was trained and tested on; None where names.txt is not at hand."""
    paths = [file] if file else [root / "data" / "names.txt", root / "data" / "sample-names.txt"]
    for path in paths:
        if file or path.exists():
            data = module.load_data(str(path), module.Config(), "cpu")
            if data.hash == trained["data_hash"]:
                return {*data.train_items, *data.test_items}
            if file:
                raise Failure(f"{file} is not what this model was trained on")
    return None


def check(options, trained):
    """Raise Failure for what cannot be sampled."""
    if "block_size" in trained:
        raise Failure(f"{options.name} was trained on a text by stream.py, which samples from it")
    if not 0.01 <= options.temperature <= 100:
        raise Failure("--temperature takes numbers from 0.01 to 100")
    foreign = sorted(set(options.prompt) - set(trained["chars"]))
    if foreign:
        raise Failure(f"--prompt has {''.join(foreign)!r}, which the data of this model has not")
    if len(options.prompt) >= trained["max_len"]:
        raise Failure(f"--prompt is longer than {trained['max_len'] - 1}, as the longest name is")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise Failure("--seed takes numbers from 0 to 2^63 - 1")


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("name", metavar="NAME", help="of a step or a run: train-2@best-seed3")
    parser.add_argument("--num", type=count, default=10, metavar="N", help="names (default: 10)")
    text = "how every name begins"
    parser.add_argument("--prompt", type=composed, default="", metavar="TEXT", help=text)
    parser.add_argument("--temperature", type=float, default=1.0, metavar="T")
    parser.add_argument("--top-k", type=count, default=0, metavar="K", help="(default: all)")
    parser.add_argument("--seed", type=int, metavar="N", help="for the same names again")
    text = "what it was trained on, if not names.txt"
    parser.add_argument("--data", type=file_path, metavar="FILE", help=text)
    parser.add_argument("--results-dir", type=file_path, default=root / "results", metavar="DIR")
    options = parser.parse_args(argv)
    path = find_checkpoint(options.name, options.results_dir / "checkpoints", root)
    state = read_checkpoint(path)
    trained = state["run"]
    check(options, trained)
    script = f"{trained['script']}.py"
    made = Made(root)
    module = load(made.path(trained["script"]))
    if trained["source"] != module.source_hash():
        print(f"note: {script} has changed since it was trained", file=sys.stderr)
    model = restore(module, state)
    known = known_names(module, trained, options.data, root)

    generator = torch.Generator()
    seed = generator.seed() % 10**6 if options.seed is None else options.seed
    generator.manual_seed(seed)
    data = types.SimpleNamespace(chars=trained["chars"], max_len=trained["max_len"])
    drawn, new = 0, 0
    while drawn < options.num:
        num = min(1000, options.num - drawn)
        how = options.prompt, options.temperature, options.top_k
        names = module.generate(model, data, num, generator, *how)
        print("\n".join(names), flush=True)
        drawn += num
        new += sum(name not in known for name in names) if known else 0
    novelty = f"{new} of them new" if known else "which are new is not known (see --data)"
    summary = f"{drawn} names, {novelty}; seed {seed}, step {state['step']} of {path}"
    print(summary, file=sys.stderr)


if __name__ == "__main__":
    run(main)
