"""What models cost: numbers to hold, and seconds to train."""

from dataclasses import dataclass

from lib.known import DISTILLED, LOWEST, MODERN
from lib.measured import ngram_label
from lib.names import script_of, with_preset
from lib.steps import timed_against


@dataclass
class Model:
    """A point of the frontier: what it costs to hold and to train, and its test loss."""

    label: str
    kind: str
    numbers: int  # parameters and counts
    seconds: float  # of training
    test: float


def milliseconds(m, key):
    """The time of a training step; 0 if it, or what it builds on, was not timed.

    It is a product of ratios from the first step on: each was measured in turns with its base, so
    that a machine which is slower for a while changes none of them.
    """
    row, base = m.speeds.get(key, {}), timed_against(m.steps, m.step(key))
    return row.get("ratio", 0) * milliseconds(m, base.key) if base else row.get("ms_per_step", 0)


def relative_time(m, name, of):
    """The training time as a fraction of another step's; None where one was not timed."""
    times = [training_seconds(m, m.steps[x]) for x in (name, of) if x in m.steps]
    return times[0] / times[1] if all(times) and len(times) == 2 else None


def training_seconds(m, step):
    """The time of all training steps, those of its teachers included; 0 if it was not timed."""
    teachers = [with_preset(MODERN, step.preset)] * getattr(step.config, "teachers", 0)
    ms = [milliseconds(m, key) for key in (step.key, *teachers)]
    return step.config.steps * sum(ms) / 1000 if all(ms) else 0


def frontier(m):
    """What was timed of n-grams, chain, presets, LOWEST, averages and mixtures, by loss."""
    found, ngrams = [], m.ngrams()
    for row in ngrams.values():
        cost = row["counts"], row["seconds"]
        found.append(Model(ngram_label(row), "n-gram", *cost, row["test"]))
    lowest = {script_of(name) for name in LOWEST}
    ideas = [step for step in m.steps.values() if step.script in lowest]
    tuned = [x for x in map(m.tuned, m.chain) if x]
    for step in filter(m.runs, [*m.compared, *tuned, *ideas]):
        own = step.is_idea and step not in tuned
        kind = "idea" if own else "preset" if step.preset else "step"
        kind = "student" if step.script.startswith(DISTILLED) else kind
        (params,) = {row["params"] for row in m.runs(step).values()}
        test = m.mean(step.key).mean
        found.append(Model(step.label, kind, params, training_seconds(m, step), test))
    for row in m.current("ensemble.csv"):
        step, several, mixed = m.steps[row["step"]], row["models"] > 1, row["weight"] > 0
        if not training_seconds(m, step):
            continue
        label = step.label + (f", average of {row['models']}" if several else "")
        numbers, seconds = row["params"] + row["counts"], row["models"] * training_seconds(m, step)
        if mixed and ngrams:
            seconds += ngrams["kneser-ney"]["seconds"]
            label, kind = f"{label}, with Kneser-Ney", "mixture"
            found.append(Model(label, kind, numbers, seconds, row["test"]))
        elif several and not mixed:
            found.append(Model(label, "average", numbers, seconds, row["test"]))
    return sorted((x for x in found if x.seconds), key=lambda model: model.test)
