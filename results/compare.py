"""Whether one step is better than another: the change in loss over the same seeds.

Two steps, yours included:      python results/compare.py train-2-swiglu train-2
Presets, or an n-gram model:    python results/compare.py train-2@best kneser-ney
Candidates against the last:    python results/compare.py train-2-swiglu train-2-geglu train-2
Candidates on the validation set:
    python results/compare.py "train-2,learning_rate={2e-3,4e-3}" train-2 -- --validate
Under a condition, as flags:    python results/compare.py train-2 train-2-2head -- --n-embd 64
Over splits in place of seeds:  python results/compare.py train-2@64x4 train-2 -- --split-seed any

Each must have been run, by itself or by reproduce.py with the same flags. Runs count where the
script's code and settings are what they are today. Two names give every seed; more give a table of
the candidates, sorted by their loss. The change is paired by seed where both draw the same batches,
and unpaired (Welch) where they do not.
"""

import csv
import math
import sys
from dataclasses import asdict

from lib.absent import some, why_not
from lib.command import ROOT, Failure, Parser, run, split_flags
from lib.known import LAST
from lib.markdown import change, number, plus_minus, signed
from lib.measured import NGRAMS, Measured
from lib.names import expand
from lib.stats import changes, interval, pairs_needed
from lib.steps import refuse_twice
from lib.tables import Condition

SHOWN = 0.005  # nats per character, about what small ideas change


def set_name(m):
    """On what the losses are that the table calls test."""
    return "validation" if "--validate" in m.condition.rest else "test"


# --- Two names ---
def no_change(m, names, flags):
    """Why there is no change between two, and what to do."""
    if m.pairing(*names) is None:
        means = [f"{x} {plus_minus(m.mean(x), number, 4)}" for x in names if m.mean(x)]
        return f"they have different test sets, so there is no change; means: {', '.join(means)}"
    steps, beside = [*filter(None, map(m.step, names))], {names[0]: names[1], names[1]: names[0]}
    empty = [x for x in names if not m.values(x, beside=m.step(beside[x]))]
    if {*empty} & {*NGRAMS}:
        if m.condition.other_split or not all(step.default_split for step in steps):
            return "n-gram models are recorded for the test set of the default split alone"
        own = [x for x in map(m.counted_on, steps) if x != LAST]
        data = ["--data", str(m.condition.data)] if m.condition.data else []
        words = ["python results/ngram.py", *own, *data]
    else:
        words = ["python results/reproduce.py --seeds 5", *(step.key for step in steps)]
        words += ["--", *flags] if flags else []
    run = f"the two have no seed in common: run {' '.join(words)}"
    return "; ".join([run, *no_runs(m, [x for x in steps if x.key in empty])])


def no_runs(m, steps):
    """Why steps that have rows have no runs under the condition: one text for each."""
    whys = {step.key: some(why_not(m, step)) for step in steps}
    return [f"{key} has {', '.join(why)}" for key, why in whys.items() if why]


def print_two(m, a, b, flags):
    """Every seed of two steps, the change with its interval, and how sure it is."""
    test, how = m.effect(a, b), m.pairing(a, b)
    if test is None:
        raise Failure(no_change(m, (a, b), flags), 1)
    pair, what = "split" if m.condition.by_split else "seed", set_name(m)
    print(f"{a} against {b}{', ' + ' '.join(flags) if flags else ''}")
    if test.n:
        print_seeds(m, a, b, pair)
    for name, loss in (what, "test"), ("train", "train"):
        print(f"change in {name + ':':6} {plus_minus(m.effect(a, b, loss), digits=4)}")
    if test.n > 1:
        verdict = "significant" if test.significant else "not significant (n.s.)"
        p = f"p = {test.p:.2g}" if test.p > 1e-4 else "p < 0.0001"
        unpaired = "" if how == "paired" else ", unpaired: they draw other batches"
        print(f"change in {what} is {verdict} at the 95% level: {p}, {test.n} {pair}s{unpaired}")
        needed = pairs_needed(test, SHOWN) or "more than 1000"
        print(f"detecting a change of {SHOWN} with 80% power takes {needed} {pair}s")


def print_seeds(m, a, b, pair):
    """One line per seed, or split, that both have; where the two are unpaired, that one has."""
    both = {
        loss: [m.values(a, loss, beside=m.step(b)), m.values(b, loss, beside=m.step(a))]
        for loss in ("test", "train")
    }
    paired = {loss: changes(*values) for loss, values in both.items()}
    seeds = paired["test"]
    if m.pairing(a, b) == "unpaired" and pair == "seed":
        seeds, paired = sorted(both["test"][0].keys() | both["test"][1].keys()), {}
    what = set_name(m)
    heads = [f"{a}: {what}", f"{b}: {what}", *([f"change in {what}", "in train"] if paired else [])]
    print(f"{pair:>5}", *heads, sep="   ")
    for seed in seeds:
        cells = [x if isinstance(x, float) else x.get(seed) for x in both["test"]]
        cells = [number(x) for x in cells] + [signed(found[seed]) for found in paired.values()]
        print(f"{seed:5}", *map(str.rjust, cells, map(len, heads)), sep="   ")


# --- Candidates ---
def settings_of(m, name):
    """The script, and all settings, of a step; nothing of an n-gram model."""
    step = m.step(name)
    return (step.script, asdict(step.config)) if step else (name, {})


def candidates(m, names, base):
    """A row per candidate that has runs, the lowest mean first, the base among them."""
    rows = []
    for name in names:
        found, step = m.effect(name, base) if name != base else None, m.step(name)
        values = m.values(name, beside=m.step(base))
        if found and m.pairing(name, base) == "paired" and not isinstance(values, float):
            common = changes(values, m.values(base, beside=step))
            values = {x: values[x] for x in common} if isinstance(common, dict) else values
        if mean := interval(values):
            rows.append({"name": name, "seeds": mean.n, "mean": mean, "change": found})
    return sorted(rows, key=lambda row: row["mean"].mean)


def varied(m, names):
    """{script: {setting: its numbers}} of those settings in which the names of a script differ."""
    found = {}
    for name in names:
        script, settings = settings_of(m, name)
        for key, value in settings.items():
            found.setdefault(script, {}).setdefault(key, set()).add(value)
    return {
        script: {key: sorted(x) for key, x in values.items() if len(x) > 1}
        for script, values in found.items()
    }


def lowest(m, rows):
    """{script: its row with the lowest mean} of the scripts that have several, each by itself.

    Where none has several, the lowest of all.
    """
    scripts = [settings_of(m, row["name"])[0] for row in rows]
    several = [x for x in zip(scripts, rows, strict=True) if scripts.count(x[0]) > 1]
    return dict(several[::-1]) or {scripts[0]: rows[0]}


def edges(m, rows):
    """One line for each setting whose best value is the smallest or the largest that was tried."""
    tried = varied(m, [row["name"] for row in rows])
    for script, row in lowest(m, rows).items():
        settings = settings_of(m, row["name"])[1]
        for key, values in tried[script].items():
            ends = {values[0], values[-1]} - m.step(row["name"]).limits(key)
            if settings[key] in ends and type(values[0]) in (int, float):
                end = "smallest" if settings[key] == values[0] else "largest"
                yield f"{row['name']}: {key}={settings[key]} is the {end} that was tried"


def print_table(m, names, base, as_csv):
    """The candidates, sorted; the lowest of a script is marked on the validation set alone."""
    rows = candidates(m, names, base)
    if not rows:
        raise Failure("none of them has runs; reproduce.py makes them, with the same names", 1)
    validate = set_name(m) == "validation"
    marked = lowest(m, rows).values() if validate else []
    pairs = "splits" if m.condition.by_split else "seeds"
    lines = [["name", pairs, set_name(m), f"change from {base}", ""]]
    for row in rows:
        how = (
            "" if row["change"] is None or m.pairing(row["name"], base) == "paired" else " unpaired"
        )
        text = change(row["change"]) + how
        mark = "lowest" if any(row is x for x in marked) else ""
        lines.append([row["name"], row["seeds"] or "–", f"{row['mean'].mean:.4f}", text, mark])
    if as_csv:
        return write_csv(rows, marked)
    widths = [max(len(str(line[i])) for line in lines) for i in range(5)]
    for name, *cells in lines:
        print(
            name.ljust(widths[0]),
            *(str(x).rjust(y) for x, y in zip(cells, widths[1:], strict=True)),
            sep="  ",
        )
    if len({row["seeds"] for row in rows} - {0}) > 1:
        print(f"the means are over different {pairs}: run the same ones of all")
    for name in [x for x in names if x not in [row["name"] for row in rows]]:
        print("; ".join([f"{name}: no runs", *no_runs(m, filter(None, [m.step(name)]))]))
    if not validate:
        return print("test losses are not for choosing: choose with -- --validate")
    for line in edges(m, rows):
        print(f"{line}: try beyond it")


def write_csv(rows, marked):
    """The same for a program: half is half the 95% interval."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["name", "seeds", "mean", "change", "half", "lowest"])
    for row in rows:
        of = row["change"]
        found = (
            [f"{of.mean:.6f}", "" if math.isnan(of.half) else f"{of.half:.6f}"] if of else ["", ""]
        )
        mark = int(any(row is x for x in marked))
        writer.writerow([row["name"], row["seeds"], f"{row['mean'].mean:.6f}", *found, mark])


def main(argv=None, root=ROOT):
    argv, flags = split_flags(argv)
    parser = Parser(__doc__)
    text = "a step, idea or n-gram model; braces stand for several: train-2,n_layer={2,3}"
    parser.add_argument("names", nargs="+", metavar="NAME", help=text)
    parser.add_argument("--csv", action="store_true", help="print a table for a program")
    options = parser.parse_args(argv)
    names = [one for name in options.names for one in expand(name)]
    m = Measured(root, names, Condition(*flags))
    *names, base = map(m.key, names)
    names = [*dict.fromkeys(name for name in names if name != base), base]
    if len(names) < 2:
        raise Failure(
            "name two steps that differ, or more: the last is what they are compared with"
        )
    for step in filter(None, map(m.step, names)):
        m.settings(step)  # each must take the flags
        refuse_twice(step, m.condition.rest)
    if len(names) == 2 and not options.csv:
        return print_two(m, *names, flags)
    print_table(m, names, names[-1], options.csv)


if __name__ == "__main__":
    run(main)
