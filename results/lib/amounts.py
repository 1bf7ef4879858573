"""How much is learned from how many names: Kneser-Ney, and the last step in two sizes.

The models of a list are those of the idea FEWER, with the presets LONG and BEST. For each number of
training names the one counts that had the lowest loss on the validation set.
"""

from dataclasses import dataclass

from lib.known import ALL_NAMES, BEST, FEWER, LONG
from lib.names import preset_of, with_preset
from lib.tables import Condition

VARIED = "train_names", "steps", "dropout", "eval_interval"  # by candidates
SIZES = {"32 wide": LONG, "64 wide": BEST}
LISTS = "names.txt", "drawn.txt"


@dataclass
class Amount:
    """What was learned from so many names of a list."""

    list: str
    names: int
    lowest: float | None  # the lowest loss possible, where the names are made up
    kneser_ney: float | None
    steps: dict  # {size: the step that was chosen}
    losses: dict  # {size: the interval of its test loss}


def tried(m, size, data_hash):
    """{number of names: {name of a model: its validation loss}} of a list, for a preset."""
    preset, at = with_preset(FEWER, preset_of(size)), Condition("--validate", data_hash=data_hash)
    found = {}
    for name, settings in m.tried(m.steps[preset], VARIED, at).items() if preset in m.steps else ():
        losses = m.values(name, condition=at).values()
        found.setdefault(settings["train_names"], {})[name] = sum(losses) / len(losses)
    return found


def by_amount(m):
    """What is recorded of every list and number of names."""
    floors = {row["data_hash"]: row["test"] for row in m.tables["floor.csv"]}
    found = []
    for name in LISTS:
        at = m.of_list(name)
        models = {}
        for size, preset in SIZES.items() if at else ():
            for number, losses in tried(m, preset, at.data_hash).items():
                models.setdefault(number, {})[size] = m.step(min(losses, key=losses.get))
            if at.data_hash == m.names_hash and preset in m.steps:
                models.setdefault(ALL_NAMES, {})[size] = m.steps[preset]
        for number, steps in sorted(models.items()):
            ngram = m.ngrams(at, next(iter(steps.values()))).get("kneser-ney", {}).get("test")
            losses = {size: m.mean(step.key, condition=at) for size, step in steps.items()}
            found.append(Amount(name, number, floors.get(at.data_hash), ngram, steps, losses))
    return found
