"""The ideas: one family of effects, and the tables of them; steps at other learning rates."""

import math

from harness.evidence import speeds
from harness.markdown import NONE, link, mean, parameters, table
from harness.stats import effect, holm, in_words, interval, mean_in_words, signed


def family(evidence):
    """The effects of the ideas with three seeds or more, {key: interval}, and who survives Holm."""
    found = {step.key: effect(step, evidence.steps[step.builds_on]) for step in evidence.ideas}
    found = {key: change for key, change in found.items() if change and change.seeds > 2}
    return found, holm({key: change.p for key, change in found.items()})


def by_group(evidence):
    """{group: its ideas, the largest fall of the test loss first, those not measured last}."""
    found, _ = family(evidence)
    groups = {}
    for step in evidence.ideas:
        groups.setdefault(step.group, []).append(step)
    for steps in groups.values():
        steps.sort(key=lambda step: found[step.key].mean if step.key in found else math.inf)
    return dict(sorted(groups.items()))


def ideas(evidence, folder):
    """A table a group: what each idea changes, and whether that survives Holm's correction."""
    found, surviving = family(evidence)
    measured, parts = speeds(evidence), []
    for group, steps in by_group(evidence).items():
        rows = []
        for step in steps:
            change = effect(step, evidence.steps[step.builds_on])
            cost = measured.get(step.key, {}).get("ratio")
            verdict = "yes" if step.key in surviving else "no" if step.key in found else NONE
            rows.append(
                [
                    link(step, folder),
                    evidence.steps[step.builds_on].label,
                    parameters(step),
                    len(step.rows),
                    mean(step.values("test")),
                    in_words(change) if change else "not run yet",
                    verdict,
                    NONE if cost is None else f"{cost:.2f}",
                ]
            )
        header = "idea,builds on,parameters,seeds,test,change in test,survives Holm".split(",")
        found_here = table([*header, "cost of a training step"], rows)
        parts.append(f"#### {group.capitalize()}\n\n{found_here}")
    return "\n\n".join(parts) or "No idea is there yet."


def at_two_sizes(evidence):
    """Ideas with three seeds with preset 64x4, too: [(step, interval, interval there)]."""
    found, _ = family(evidence)
    pairs = []
    for step in evidence.ideas:
        wide = evidence.steps.get(f"{step.key}@64x4")
        change = wide and effect(wide, evidence.steps[wide.builds_on])
        if change and change.seeds > 2 and step.key in found:
            pairs.append((step, found[step.key], change))
    return sorted(pairs, key=lambda pair: pair[1].mean)


def transfer(evidence, folder):
    """What each idea changes at the width of train-2, and what with preset 64x4."""
    rows = [
        [link(step, folder), in_words(small), in_words(wide)]
        for step, small, wide in at_two_sizes(evidence)
    ]
    header = ["idea", "change in test", "change at 64x4"]
    return table(header, rows) if rows else "No run is recorded yet."


def rebuilt(evidence):
    """The published steps that were reimplemented, [(step, its exact figure, interval of ours)]."""
    found = []
    for step in evidence.compared:
        ours, exact = evidence.steps.get(step.published.get("rebuilt")), step.published.get("exact")
        if exact is not None and ours is not None and ours.rows:
            found.append((step, exact, interval(ours.values("test_from_2nd"))))
    return found


def replication(evidence, folder):
    """The published steps reimplemented, beside their exact evaluation, from the 2nd letter on."""
    rows = [
        [
            step.label,
            f"{exact:.3f}",
            mean_in_words(found),
            signed(found.mean - exact, 3),
            mean(step.values("test_from_2nd")),
        ]
        for step, exact, found in rebuilt(evidence)
    ]
    header = ["step", "published, exact", "rebuilt", "rebuilt against published", "ours"]
    return table(header, rows) if rows else "No run is recorded yet."


def rates(evidence, folder):
    """The chain at other learning rates: validation losses, and the changes from step to step."""
    found = {step.key: evidence.at_rates.get(step.key, {}) for step in evidence.chain}
    columns = sorted({rate for tried in found.values() for rate in tried})
    rows = []
    for step in evidence.chain:
        cells = []
        for rate in columns:
            here, base = found[step.key].get(rate), found.get(step.builds_on, {}).get(rate)
            change = here and base and effect(here, base)
            words = f"<br>{in_words(change)}" if change else ""
            cells.append(mean(here.values("test")) + words if here else NONE)
        rows.append([link(step, folder), *cells])
    header = ["step", *(f"{rate:g}" for rate in columns)]
    return table(header, rows) if columns else "No run is recorded yet."


def tried(evidence, folder):
    """The ideas that were evaluated on the validation set, one line per learning rate."""
    rows = []
    for step in evidence.ideas:
        for rate, here in evidence.at_rates.get(step.key, {}).items():
            base = evidence.at_rates.get(step.builds_on, {}).get(rate)
            change = base and effect(here, base)
            words = signed(change.mean) if change else NONE
            loss = mean(here.values("test"))
            rows.append([link(step, folder), f"{rate:g}", len(here.rows), loss, words])
    header = "idea,learning rate,seeds,validation,change at the same rate".split(",")
    return table(header, rows) if rows else "No run is recorded yet."
