"""All that the pages are made from: the steps with their rows, and the small tables."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.command import ROOT
from harness.rows import (
    RESULTS,
    assign,
    is_run_of,
    key_of,
    loss,
    moment,
    optional_loss,
    read_csv,
    settings,
)
from harness.scripts import find_steps, fingerprint

PUBLISHED = {
    **dict.fromkeys("script preset".split(), str),
    **dict.fromkeys("train test exact".split(), optional_loss),
    "rebuilt": str,  # the name of the idea that reimplements it
}
PUBLISHED_TEXTS = {"text_hash": str, "block_size": int, "n_layer": int, "n_embd": int, "loss": loss}
TEXTS = {  # written by stream.py
    **dict.fromkeys("script text text_hash".split(), str),
    **dict.fromkeys("block_size seed params characters".split(), int),
    **dict.fromkeys("loss random_windows seconds".split(), loss),
    **dict.fromkeys("device torch source".split(), str),
    "finished": moment,
    "settings": settings,
}
SPEED = {  # written by bench.py
    **dict.fromkeys("script preset fingerprint".split(), str),
    "ms_per_step": loss,
    "ratio": optional_loss,  # to what it builds on; blank for the baseline
    "threads": int,
    **dict.fromkeys("device torch".split(), str),
}
NGRAM = {  # written by ngram.py
    "model": str,
    "context": int,
    "discount": optional_loss,
    **dict.fromkeys("train test test_from_2nd test_unseen".split(), loss),
}
MODEL = {"script": str, "preset": str, "seed": int, "fingerprint": str}
DISSECTED = {  # written by dissect.py
    "by-position.csv": {**MODEL, "position": int, "targets": int, "loss": loss},
    "attention.csv": {
        **MODEL,
        "name": str,
        **dict.fromkeys("layer head query key".split(), int),
        "weight": float,
    },
    "generated.csv": {**MODEL, "names": int, "new": int},
    "over-names.csv": {"script": str, "preset": str, "fingerprint": str, "error": loss},
}
TABLES = {  # besides results.csv
    "speed.csv": SPEED,
    "ngram.csv": NGRAM,
    "texts.csv": TEXTS,
    "tuning.csv": RESULTS | {"settings": settings},
    "published/chain.csv": PUBLISHED,
    "published/texts.csv": PUBLISHED_TEXTS,
    **DISSECTED,
}


@dataclass
class Evidence:
    """The steps with their rows, and the other rows of results.csv, with why they do not count."""

    root: Path
    steps: dict
    others: list
    at_rates: dict  # {key: {learning rate: the step with its runs at that rate}}
    tables: dict  # the rows of the small tables, by file

    @property
    def chain(self):
        return [step for step in self.steps.values() if not step.patch and not step.preset]

    @property
    def presets(self):
        return [step for step in self.steps.values() if not step.patch and step.preset]

    @property
    def compared(self):
        """The chain and its presets, in the order of the tables."""
        return [step for step in self.steps.values() if not step.patch]

    @property
    def ideas(self):
        return [step for step in self.steps.values() if step.patch and not step.preset]


def gather(root=ROOT):
    """All steps of the folder with what is recorded and published of them."""
    steps = find_steps(root)
    rows = read_csv(root / "results" / "results.csv", RESULTS)
    tried = at_rates(steps, rows)
    others = assign([row for row in rows if rate_of(row, steps) is None], steps)
    tables = {file: read_csv(root / "results" / file, TABLES[file]) for file in TABLES}
    for row in tables["published/chain.csv"]:
        if key_of(row) in steps:
            steps[key_of(row)].published = row
    return Evidence(root, steps, others, tried, tables)


def of_now(evidence, file):
    """The rows of a small table that are of the steps as they are now."""
    now = {key: step.fingerprint for key, step in evidence.steps.items()}
    return [row for row in evidence.tables[file] if row["fingerprint"] == now.get(key_of(row))]


def texts(evidence):
    """The runs of stream.py, {(script, text, block size, settings): {seed: its newest row}}."""
    groups = {}
    sources = {step.path.stem: step.source for step in evidence.chain}
    for row in sorted(evidence.tables["texts.csv"], key=lambda row: row["finished"]):
        if row["source"] != sources.get(row["script"]):
            continue
        settings = fingerprint(row["source"], row["settings"])
        key = row["script"], row["text_hash"], row["block_size"], settings
        groups.setdefault(key, {})[row["seed"]] = row
    return groups


def counted(evidence):
    """What ngram.py counted, {label: row}."""
    return {f"counting, context {row['context']}": row for row in evidence.tables["ngram.csv"]}


def speeds(evidence):
    """What bench.py measured of the steps as they are now, {key: row}."""
    return {key_of(row): row for row in of_now(evidence, "speed.csv")}


def rate_of(row, steps):
    """The learning rate of a run of a step as it is now that was evaluated on the validation set.

    None for a run that differs from the step's own in anything else.
    """
    step = steps.get(key_of(row))
    if step is None:
        return None
    rate = row["settings"].get("learning_rate")
    own = asdict(step.config) | {"learning_rate": rate, "validate": True}
    return rate if is_run_of(row, step, own) else None


def at_rates(steps, rows):
    """The steps at other learning rates, {key: {rate: the step with its runs at that rate}}."""
    found = {}
    for row in sorted(rows, key=lambda row: row["finished"]):
        rate = rate_of(row, steps)
        if rate is not None:  # the oldest row of a seed counts
            tried = found.setdefault(key_of(row), {})
            tried.setdefault(rate, {}).setdefault(row["seed"], row)
    return {
        key: {rate: replace(steps[key], rows=tried[rate]) for rate in sorted(tried)}
        for key, tried in found.items()
    }
