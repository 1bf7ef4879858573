"""The blocks of the page on ideas; those of the chain are in lib/blocks.py."""

from lib import costs
from lib.blocks import columns, of_steps
from lib.known import DISTILLED, LOWEST, MODERN, PARTS, TUNED
from lib.markdown import NONE, average, change, link, number, table
from lib.measured import VALIDATE
from lib.names import script_of, with_preset
from lib.stats import Interval, edge


def tried(m, folder):
    """The ideas that were evaluated on the validation set, one line per candidate."""
    rows = []
    for step in [x for x in m.steps.values() if x.is_idea and x.group != TUNED]:
        found = m.candidates(step)
        tuned = {name: getattr(step.config, name) for changed, _ in found for name in changed}
        for changed, name in found:
            what = " ".join(f"{key}={value}" for key, value in (tuned | changed).items())
            what += "" if changed or not tuned else " (its own)"
            values = m.values(name, condition=VALIDATE)
            rows.append([link(step, folder), what or "as it is", len(values), average(values)])
    return table("idea,candidate,seeds,validation".split(","), rows)


def transfer(m, folder):
    """What each idea changes at the width of train-2, and what with preset 64x4."""
    rows = [[link(m.steps[key], folder), *map(change, pair)] for key, pair in m.transfer.items()]
    return table(["idea", "change at + GELU", "change at 64x4"], rows)


def parts(m, folder):
    """What is made of several ideas, beside each of them alone and their sum."""
    rows = []
    for whole in PARTS:
        rows += [[label, change(found)] for label, found in m.parts(whole).items()]
    return table(["what", "change in test"], rows)


def ensemble(m, folder):
    """Averages of several seeds, mixtures with Kneser-Ney, and what they gain on one model."""
    rows = []
    for row in m.current("ensemble.csv"):
        if row["models"] == 1 and not row["weight"]:
            single = row["test"]
        gain = Interval(row["test"] - single, row["error"], 1)
        sizes = f"{row['params']:,}", f"{row['counts']:,}", number(row["ms_per_name"], 2)
        losses = [number(row[x]) for x in ("validation", "test", "test_from_2nd", "test_unseen")]
        of = m.label(row["step"]), row["models"], f"{row['weight']:.0%}"
        rows.append([*of, *sizes, *losses, change(gain) if row["error"] else NONE])
    header = "step,models,Kneser-Ney,parameters,counts,ms per name,validation,test,from 2nd,unseen"
    return table([*header.split(","), "change from one model"], rows)


def on_modern(m, folder):
    """What ideas change in the modern model, with its preset fast."""
    lowest = {script_of(name) for name in LOWEST}
    keys = [x.key for x in m.steps.values() if x.builds_on == MODERN and x.script not in lowest]
    steps = [step for step in (m.step(with_preset(key, "fast")) for key in keys) if step]
    own = columns("parameters,seeds,train,test,change in test,relative step time")
    return of_steps(m, folder, steps, own, first="idea")


def distilled(m, folder):
    """The modern model with the preset best, the same trained longer, and students of its size."""
    steps = [m.step(name) for name in LOWEST]

    def against(m, step, base):
        return NONE if step.key == base else change(m.effect(step.key, base))

    def minutes(m, step):
        minutes = costs.training_seconds(m, step) / 60
        return number(minutes or None, 1)  # none where it was not timed

    own = columns("parameters,seeds,train,test,unseen") | {
        "training minutes": minutes,
        "change from modern": lambda m, step: against(m, step, f"{MODERN}@best"),
        "change from distilled": lambda m, step: against(m, step, f"{DISTILLED}@best"),
    }
    return of_steps(m, folder, [step for step in steps if step], own, first="model")


def frontier(m, folder):
    """What models cost to hold and to train, and for what cost none of them has a lower loss."""
    models = costs.frontier(m)
    sizes = edge((model.numbers, model.test) for model in models)
    times = edge((model.seconds, model.test) for model in models)
    rows = []
    for model in models:
        lowest = ["size"] if (model.numbers, model.test) in sizes else []
        lowest += ["time"] if (model.seconds, model.test) in times else []
        cost = f"{model.numbers:,}", number(model.seconds / 60, 2), number(model.test)
        rows.append([model.label, *cost, " and ".join(lowest) or NONE])
    header = "model,numbers that it holds,training minutes,test,lowest for its"
    return table(header.split(","), rows)


BLOCKS = [tried, transfer, parts, ensemble, on_modern, distilled, frontier]
BLOCKS = {function.__name__: function for function in BLOCKS}
