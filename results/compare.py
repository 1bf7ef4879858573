"""Whether one step is better than another: the change in loss, paired by seed.

Two scripts, yours included:   python results/compare.py train-2-swiglu train-2
Presets, or an n-gram model:   python results/compare.py train-2@best kneser-ney
Under a condition, as flags:   python results/compare.py train-2-muon train-2 -- --validate
Other settings, by name:       python results/compare.py train-2,learning_rate=2e-3 train-2
Over splits in place of seeds: python results/compare.py train-2@64x4 train-2 -- --split-seed any

Each must have been run, by itself or by reproduce.py with the same flags. Runs count where the
script's code and settings are what they are today.
"""

from lib.command import ROOT, Failure, Parser, run, split_flags
from lib.markdown import plus_minus, signed
from lib.measured import NGRAMS, Measured
from lib.stats import changes, interval, pairs_needed
from lib.steps import refuse_twice
from lib.tables import Condition

SHOWN = 0.005  # nats per character, about what small ideas change


def no_pairs(m, names, flags, condition):
    """What to do where no seed has both."""
    empty = [name for name in names if not m.values(name, "test", condition)]
    old = {}
    for step in filter(None, map(m.step, empty)):
        made_by = step.script, step.preset, condition.parse(step)[1]
        old[step.key] = [
            row["why"]
            for row in m.others()
            if (row["script"], row["preset"], row["overrides"]) == made_by
        ]
    notes = [f"{len(why)} rows of {x} do not count ({why[-1]})" for x, why in old.items() if why]
    if set(empty) & m.ngrams(condition).keys():
        return "n-gram models are recorded for the test set of the default split alone"
    if set(empty) & set(NGRAMS):
        words = ["python results/ngram.py", *(["--data", condition.data] if condition.data else [])]
    else:
        steps = [name for name in names if name not in NGRAMS]
        flags = ["--", *flags] if flags else []
        words = ["python results/reproduce.py --seeds 5", *steps, *flags]
    return "; ".join(["no seed has runs of both", *notes, f"run {' '.join(map(str, words))}"])


def main(argv=None, root=ROOT):
    argv, flags = split_flags(argv)
    parser = Parser(__doc__)
    parser.add_argument("step", metavar="A", help="a step, idea or n-gram model")
    parser.add_argument("base", metavar="B", help="what A is compared with")
    options = parser.parse_args(argv)
    condition, m = Condition(*flags), Measured(root)
    a, b = names = m.key(options.step), m.key(options.base)
    if a == b:
        raise Failure("A and B are the same")
    for step in filter(None, map(m.step, names)):
        refuse_twice(step, condition.rest)
    both = {loss: [m.values(name, loss, condition) for name in names] for loss in ("test", "train")}
    change = {loss: changes(*values) for loss, values in both.items()}
    found = {loss: interval(values) for loss, values in change.items()}
    if found["test"] is None:
        raise Failure(no_pairs(m, names, flags, condition), 1)
    test = found["test"]
    pair = "split" if condition.by_split else "seed"
    print(f"{a} against {b}{', ' + ' '.join(flags) if flags else ''}")
    if test.n:
        print(f"{pair:>5}   {a}: test   {b}: test   change in test   in train")
        for x in change["test"]:
            here, there = (y if isinstance(y, float) else y[x] for y in both["test"])
            columns = f"{here:.4f}", f"{there:.4f}", *(signed(change[y][x]) for y in change)
            widths = len(a) + 6, len(b) + 6, 14, 8
            print(f"{x:5}", *map(str.rjust, columns, widths), sep="   ")
    for loss, each in found.items():
        print(f"change in {loss + ':':6} {plus_minus(each, digits=4)}")
    if test.n > 1:
        verdict = "significant" if test.significant else "not significant (n.s.)"
        print(f"change in test is {verdict} at the 95% level: p = {test.p:.2g}, {test.n} {pair}s")
        needed = pairs_needed(test, SHOWN)
        print(f"detecting a change of {SHOWN} with 80% power takes {needed} {pair}s")


if __name__ == "__main__":
    run(main)
