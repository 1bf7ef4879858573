"""The blocks of the pages on the chain: tables and lists, as pages show them.

Each is a function of what was measured and of the page's folder, from which links start.
"""

import math
from itertools import pairwise

import numpy as np

from lib.amounts import SIZES, by_amount
from lib.chain import chain
from lib.command import Failure
from lib.known import BEST, CHOSEN, LAST, LONG, MAKEMORE, NORMS, SAMPLED, TUNED, WITHOUT
from lib.look import CORRECT, LIKELY, START, loss_of
from lib.markdown import (
    NONE,
    average,
    cell,
    change,
    link,
    number,
    plus_minus,
    signed,
    table,
)
from lib.measured import VALIDATE, ngram_label
from lib.stats import Interval, interval
from lib.steps import untuned
from lib.tables import Condition


# --- Tables with a row per step ---
def parameters(m, step):
    rows = m.runs(step)
    return f"{rows[max(rows)]['params']:,}" if rows else NONE


def holm(family, step):
    """Whether an idea's change remains significant after Holm's correction."""
    return "yes" if step.key in family.surviving else "no" if step.key in family else NONE


COLUMNS = {  # {header: function of what was measured and the step}
    "width": lambda m, step: m.settings(step)["n_embd"],
    "heads": lambda m, step: m.settings(step).get("n_head", 1),
    "layers": lambda m, step: m.settings(step).get("n_layer", 1),
    "steps": lambda m, step: f"{m.settings(step)['steps']:,}",
    "parameters": parameters,
    "builds on": lambda m, step: m.label(step.builds_on),
    "seeds": lambda m, step: len(m.beside_change(step)),
    "train": lambda m, step: average(m.beside_change(step, "train")),
    "test": lambda m, step: average(m.beside_change(step)),
    "seed 0": lambda m, step: number(m.values(step.key).get(0)),
    "unseen": lambda m, step: average(m.beside_change(step, "test_unseen")),
    "change in test": lambda m, step: change(m.effect(step.key)),
    "Holm": lambda m, step: holm(m.family, step),
    "change, both tuned": lambda m, step: change(m.tuned_effect(step)),
    "Holm, both tuned": lambda m, step: holm(m.tuned_family, step),
    "relative step time": lambda m, step: number(m.speeds.get(step.key, {}).get("ratio"), 2),
}


def columns(headers):
    return {header: COLUMNS[header] for header in headers.split(",")}


def of_steps(m, folder, steps, columns, first="step", more=()):
    """A table whose first column links the steps; `more` are further rows, {header: cell}.

    Where the number of seeds is not the same for all, it has a column.
    """
    seeds = {COLUMNS["seeds"](m, step) for step in steps if m.runs(step)}
    if len(seeds) > 1 and "seeds" not in columns:
        columns = {"seeds": COLUMNS["seeds"]} | columns
    rows = [[link(x, folder), *(column(m, x) for column in columns.values())] for x in steps]
    rows += [[row.get(header, NONE) for header in (first, *columns)] for row in more]
    heads = ["splits" if x == "seeds" and m.condition.by_split else x for x in columns]
    return table([first, *heads], rows)


def mean_cell(found):
    """A mean, and below it half its 95% interval if it has one."""
    if found is None or math.isnan(found.half):
        return number(found and found.mean)
    return plus_minus(found, number, 4).replace(" ", "<br>", 1)


def change_from_above(steps):
    """A column: the change in test; what the step builds on is named if it is not the row above."""
    above = {step.key: before.key for before, step in pairwise(steps)}

    def column(m, step):
        found = m.effect(step.key)
        other = found and step.builds_on != above.get(step.key)
        return change(found) + (f"<br>vs {m.label(step.builds_on)}" if other else "")

    return column


def ngram_rows(m, losses):
    """The n-gram models as further rows, with the losses {header: loss}."""
    return [
        {"step": ngram_label(row)} | {header: number(row[x]) for header, x in losses.items()}
        for row in m.ngrams().values()
    ]


# --- Blocks ---
def comparison(m, folder):
    """The chain; under a condition those of its steps that have runs."""
    steps = [x for x in m.chain if m.runs(x)] if m.condition.flags else m.chain
    own = columns("width,heads,layers,parameters,train,test")
    own |= {} if m.condition.flags else columns("seed 0")
    own["change in test"] = change_from_above(steps)
    if not m.condition.flags and any(map(m.tuned_effect, steps)):
        own |= {"change, both tuned": COLUMNS["change, both tuned"]}
    ngrams = ngram_rows(m, {"train": "train", "test": "test"})
    return of_steps(m, folder, steps, own, more=ngrams)


def losses(m, folder):
    """The chain and the presets, in all columns."""
    names = {"train": "train", "test": "test", "from 2nd": "test_from_2nd", "unseen": "test_unseen"}
    errors = {row["step"]: f"±{row['error']:.4f}" for row in m.current("over-names.csv")}

    def loss(name):
        return lambda m, step: mean_cell(interval(m.beside_change(step, name)))

    own = columns("seeds") | {header: loss(name) for header, name in names.items()}
    own["change in test"] = change_from_above(m.compared)
    own["test-sampling error of the change"] = lambda m, step: errors.get(step.key, NONE)
    own |= columns("relative step time")
    return of_steps(m, folder, m.compared, own, more=ngram_rows(m, names))


def published(m, folder):
    """The published results beside their reimplementation and ours."""
    loss, rows = "test_from_2nd", []
    for step in [step for step in m.compared if step.key in m.published]:
        row, base = m.published[step.key], m.published.get(step.builds_on, {})
        exact, again = ([x.get(column) for x in (row, base)] for column in ("exact", "rebuilt"))
        rows.append(
            [
                link(step, folder),
                f"{row['train']:.2f} / {row['test']:.2f}",
                number(exact[0], 3),
                plus_minus(m.mean(again[0], loss), number) if again[0] else NONE,
                plus_minus(m.mean(step.key, loss), number),
                NONE if None in exact else signed(exact[0] - exact[1], 3),
                change(m.effect(*again, loss)) if all(again) else NONE,
                change(m.effect(step.key, loss=loss)),
            ]
        )
    header = "step|published train/test|published, full test set|reimplemented|ours"
    header += "|change as published, full test set|change reimplemented|change here"
    return table(header.split("|"), rows)


def group(m, folder, *words):
    """The ideas of a group, the largest fall of the test loss first."""
    name = " ".join(words)
    if not m.group(name):
        raise Failure(f"there is no group of ideas {name!r}")
    steps = [step for step in m.group(name) if m.runs(step)]  # some are run with presets alone
    own = columns("builds on,parameters,seeds,test,change in test,Holm,relative step time")
    if any(map(m.tuned_effect, steps)):
        own |= {x: COLUMNS[x] for x in ("change, both tuned", "Holm, both tuned")}
    if name not in m.groups:  # controls and replications
        own = {header: cell for header, cell in own.items() if not header.startswith("Holm")}
    return of_steps(m, folder, steps, own, first="idea")


def with_rates(m, folder, steps):
    """Steps with the tuned recipe: validation losses at each peak rate, and what was chosen."""
    losses = {step.key: m.rates(step) for step in steps}
    rates = sorted({rate for found in losses.values() for rate in found})
    rows = []
    for step in steps:
        cells = {rate: average(losses[step.key].get(rate)) for rate in rates}
        chosen, published = step.config.learning_rate, untuned(m.steps, step)
        cells |= {chosen: f"**{cells[chosen]}**"} if chosen in cells else {}
        changes = [change(m.tuned_effect(published)), change(m.effect(published.key))]
        rows.append(
            [link(published, folder), *cells.values(), average(m.beside_change(step)), *changes]
        )
    header = ["step", *(f"{rate:g}" for rate in rates), "test", "change in test"]
    return table([*header, "as published"], rows)


def tuned(m, folder):
    """The chain with the tuned recipe."""
    return with_rates(m, folder, [x for x in map(m.tuned, m.chain) if x])


def tuned_ideas(m, folder, what="ideas"):
    """Ideas with the tuned recipe, or controls: `ideas` or `controls`."""
    steps = [(step, untuned(m.steps, step)) for step in m.group(TUNED)]
    groups = m.groups if what == "ideas" else [what]
    return with_rates(m, folder, [tuned for tuned, step in steps if step.group in groups])


NEAR = 0.02  # as close to the lowest loss a rate still counts as good


def norms(m, folder):
    """Each kind of normalization: its lowest validation loss, and which rates come close to it."""
    rows = []
    for kind, name in NORMS.items():
        step = m.step(name)
        row = [f"{kind}: {link(step, folder)}" if step else kind]
        for found in m.norms.values():
            means = {rate: np.mean([*losses.values()]) for rate, losses in found[kind].items()}
            best = min(means, key=means.get, default=None)
            near = [f"{rate:g}" for rate, mean in means.items() if mean <= means[best] + NEAR]
            chosen = NONE if best is None else f"{best:g}"
            row += [number(means.get(best)), chosen, ", ".join(near) or NONE]
        rows.append(row)
    header = ["normalization"]
    for layers in m.norms:
        header += [f"{layers} layers, validation", "at the rate", f"rates within {NEAR} of it"]
    return table(header, rows)


def rounding(m, folder):
    """How far rounding alone moves the test loss of a step, beside the spread over its seeds."""
    rows = []
    for step in [*m.chain, *filter(None, [m.step("train-2-relu")])]:
        if pairs := m.rounding(step).values():
            moved = [abs(plain - usual) for usual, plain in pairs]
            spread = np.std([*m.values(step.key).values()], ddof=1)
            figures = np.mean(moved), max(moved), spread
            rows.append([link(step, folder), len(moved), *(number(x, 6) for x in figures)])
    header = "step,seeds,mean difference,largest difference,standard deviation over seeds"
    return table(header.split(","), rows)


def long(m, folder):
    """What was tried for the preset long, on the validation set."""
    own = tuple(getattr(m.steps[LONG].config, x) for x in CHOSEN) if LONG in m.steps else ()
    rows = []
    for tried, name in m.long_candidates.items():
        losses = m.values(name, condition=VALIDATE)
        found = average(losses) if tried != own else f"**{average(losses)}**"
        rows.append([*(f"{x:g}" for x in tried), len(losses), found])
    return table(["peak learning rate", "dropout", "weight decay", "seeds", "validation"], rows)


def recipes(m, folder):
    """The parts of the long presets' recipes."""
    ideas = [x for x in m.steps.values() if x.is_idea and not x.is_preset]
    ideas = [x for x in ideas if x.builds_on in (f"{LAST}@20k", f"{LAST}@final")]
    ideas.sort(key=lambda x: (x.builds_on, x.label))
    own = {"against": COLUMNS["builds on"]} | columns("train,test")
    own["change"] = COLUMNS["change in test"]
    return of_steps(m, folder, ideas, own, first="what")


def unseen(m, folder):
    """The loss of test names that are not in the training split, n-gram models included."""
    own = columns("test,unseen")
    own["difference"] = lambda m, step: change(m.mean(step.key, "test_unseen-test"))
    ngrams = ngram_rows(m, {"test": "test", "unseen": "test_unseen"})
    gaps = [signed(row["test_unseen"] - row["test"]) for row in m.ngrams().values()]
    more = [row | {"difference": gap} for row, gap in zip(ngrams, gaps, strict=True)]
    return of_steps(m, folder, m.compared, own, more=more)


def robust(m, folder):
    """What each step of the chain changes under other conditions."""
    rows = []
    for step in [step for step in m.chain if step.builds_on]:
        found = [changes.get(step.key) for changes in m.by_condition.values()]
        rows.append([link(step, folder), *(change(x, digits=3) for x in found)])
    return table(["step", *m.by_condition], rows)


def taken(m, folder):
    """What each part changes: where it is added, in the last step, in `fast`."""
    rows = [
        [
            part,
            *map(
                change,
                [m.effect(step, base), m.part_effect(idea), m.part_effect(idea, f"{LAST}@fast")],
            ),
        ]
        for part, (step, base, idea) in WITHOUT.items()
    ]
    return table(["part", "where it is added", "in the last step", "in `fast`"], rows)


def lists(m, folder):
    """The n-gram baselines of every list, and what the last step and two presets have on it."""
    models, rows = [m.steps[x] for x in (LAST, LONG, BEST) if x in m.steps], []
    for name in dict.fromkeys(row["data"] for row in m.tables["ngram.csv"]):
        at = m.of_list(name)
        if at and m.values(LAST, condition=at):
            ngrams = [number(row["test"]) for row in m.ngrams(at).values()]
            longest = m.ngrams(at)["kneser-ney"]["context"] + 1
            against = [m.effect(x.key, "kneser-ney", condition=at) for x in models]
            rows.append([name, *ngrams, longest, *map(change, against)])
    header = ["list", "bigram", "Kneser-Ney", "its n"]
    return table([*header, *(f"{x.label} against Kneser-Ney" for x in models)], rows)


def amounts(m, folder):
    """Kneser-Ney and two sizes of the last step for each number of training names of two lists."""
    rows = []
    for of in by_amount(m):
        cells = [number(of.lowest, 3), number(of.kneser_ney, 3)]
        for size in SIZES:
            step, loss = of.steps.get(size), of.losses.get(size)
            cells += [plus_minus(loss, number) if loss else NONE]
            cells += [f"{step.config.steps:,}; {step.config.dropout:g}" if step else NONE]
        rows.append([of.list, f"{of.names:,}", *cells])
    header = "list,training names,lowest possible,Kneser-Ney"
    sizes = [x for size in SIZES for x in (size, "its steps; dropout")]
    return table([*header.split(","), *sizes], rows)


def makemore(m, folder):
    """makemore's Transformer on two splits, beside Kneser-Ney on each."""

    def kneser_ney(m, step):
        row = m.ngrams(step=step).get("kneser-ney")
        return f"{row['test']:.3f} ± {row['test_error']:.3f}" if row else NONE

    own = columns("parameters,steps") | {
        "test at the end": lambda m, step: plus_minus(m.mean(step.key), number),
        "lowest test": lambda m, step: plus_minus(m.mean(step.key, "lowest"), number),
        "Kneser-Ney ± test-sampling error": kneser_ney,
    }
    return of_steps(m, folder, [m.steps[x] for x in MAKEMORE if x in m.steps], own, first="model")


BLIND = math.log(27)  # the loss of a guess among 26 letters and the end


def floor(m, folder):
    """How much of what can be learned of the made-up list each step learns."""
    rows = []
    if made_up := m.made_up:
        at, floor = Condition(data_hash=made_up["data_hash"]), made_up["test"]
        found = {step.label: m.mean(step.key, condition=at) for step in m.chain}
        found |= {ngram_label(row): interval(row["test"]) for row in m.ngrams(at).values()}
        found["blind guess"] = interval(BLIND)
        for label, column in ("the distribution itself", "test"), ("its entropy", "entropy"):
            found[label] = Interval(made_up[column], made_up[f"{column}_error"], 1)
        found = {label: loss for label, loss in found.items() if loss}
        for label, loss in sorted(found.items(), key=lambda item: -item[1].mean):
            fraction = f"{(BLIND - loss.mean) / (BLIND - floor):.1%}"
            rows.append([label, plus_minus(loss, number), signed(loss.mean - floor, 3), fraction])
    return table("model,test,above the floor,fraction learned".split(","), rows)


def texts(m, folder):
    """What texts the steps were trained on by stream.py, and what is published for them."""
    names = ("text_hash", "block_size", "n_layer", "n_embd")
    known = {tuple(row[x] for x in names): row["loss"] for row in m.tables["published/texts.csv"]}
    lines = []
    for (script, text_hash, block_size, _), rows in m.texts().items():
        first, *_ = rows.values()
        settings = first["settings"]
        key = text_hash, block_size, settings.get("n_layer", 1), settings["n_embd"]
        sizes = f"{first['params']:,}", block_size, f"{settings['steps']:,}", len(rows)
        found = [{x: row[y] for x, row in rows.items()} for y in ("loss", "random_windows")]
        model, published = f"{script} on {first['text']}", number(known.get(key), 2)
        lines.append([model, *sizes, *(mean_cell(interval(x)) for x in found), published])
    header = "model,parameters,block,steps,seeds,held-out loss,by random windows,published"
    return table(header.split(","), lines)


def samples(m, folder):
    """Ten names of three models, of each the lowest seed."""
    lines = []
    for key in SAMPLED:
        rows = m.runs(m.steps[key]) if key in m.steps else {}
        if rows:
            names = ", ".join(name or "(empty)" for name in rows[min(rows)]["samples"])
            lines.append(f"- **{m.label(key)}**: {cell(names)}")
    return "\n".join(lines) or "No run is recorded yet."


def first_run(m, folder):
    """What seed 0 of the last step prints at its end, but for its names."""
    row = m.runs(m.steps[LAST]).get(0)
    losses = "train test test_from_2nd test_unseen".split()
    lines = [f"{loss:14} {row[loss]:.4f} nats per token" for loss in losses] if row else []
    return "\n".join(["```", *lines, "```"]) if lines else "No run is recorded yet."


def look_rows(m, kind):
    """The rows of that kind in look.csv, {step: rows}, in the order of the chain."""
    found = {step.key: [] for step in m.chain}
    for row in m.current("look.csv"):
        if row["kind"] == kind and row["step"] in found:
            found[row["step"]].append(row)
    return {m.steps[key]: rows for key, rows in found.items() if rows}


def look(m, folder):
    """The probability that each step gives to each correct character of a name, and its loss."""
    found, header = [], []
    for step, rows in look_rows(m, CORRECT).items():
        header = ["step", *(row["char"] for row in rows), "loss"]
        values = [row["value"] for row in rows]
        cells = *(f"{value:.1%}" for value in values), number(loss_of(values), 2)
        found.append([link(step, folder), *cells])
    return table(header, found)


def likeliest(m, folder):
    """What the last step expects after each part of the name, the likeliest first."""
    found, places = [], {}
    for rows in look_rows(m, LIKELY).values():
        for row in rows:
            places.setdefault((START + row["name"])[: row["position"]], []).append(row)
    for before, rows in places.items():
        found.append([f"`{before}`", *(f"{row['char']} {row['value']:.1%}" for row in rows)])
    return table(["after", *range(1, 1 + len(found and found[0][1:]))], found)


def runs(m, folder):
    """What made the figures."""
    rows = m.canonical
    if not rows:
        return "No run is recorded yet."

    def every(values):
        return cell(", ".join(map(str, sorted(set(values)))))

    days = sorted(f"{row['finished']:%Y-%m-%d}" for row in rows)
    threads = every(row["settings"].get("threads", 1) for row in rows)
    others = every(row[x] for row in rows for x in ("device", "torch"))
    return (
        f"{len(rows)} runs: seeds {every(row['seed'] for row in rows)}; {others}; threads: "
        f"{threads}; finished {' to '.join(dict.fromkeys([days[0], days[-1]]))}."
    )


BLOCKS = [
    samples,
    first_run,
    comparison,
    chain,
    losses,
    published,
    group,
    tuned,
    tuned_ideas,
    norms,
    long,
    recipes,
    unseen,
]
BLOCKS += [robust, taken, lists, amounts, makemore, floor, texts, look, likeliest, rounding, runs]
BLOCKS = {function.__name__: function for function in BLOCKS}
