"""The tables: reading and writing them, and which row of results.csv counts for which step."""

import csv
import hashlib
import io
import json
import math
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import datetime

from lib.command import Failure, Parser, file_path, write_whole
from lib.files import numbered
from lib.scripts import fingerprint, parsed


# --- Columns, and how each is read ---
def loss(text):
    """A loss or a time: a number from 0 up."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError(f"{text!r} is no loss or time")
    return value


def optional_loss(text):
    """Such a number, or None where there is none."""
    return loss(text) if text else None


def moment(text):
    """A date and time, UTC."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ")


def json_of(kind):
    """What reads JSON of one kind, such as a list."""

    def read(text):
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(f"{text!r} is no {kind.__name__}")
        return value

    return read


def points(text):
    """The curve of a run, [(step, train, test), ...]; it may be blank."""
    return [(int(step), loss(train), loss(test)) for step, train, test in json.loads(text or "[]")]


KINDS = {  # how columns are read, whichever table they are in; those that are not here are text
    int: """seed params context position targets names new models counts n_layer n_embd block_size
    characters threads""",
    loss: """train test test_from_2nd loss random_windows error kept known train_error test_error
    entropy entropy_error seconds ms_per_step ms_per_name weight validation value""",
    # blank: the baseline's ratio, the bigram's discount, where every test name was trained on
    optional_loss: "ratio discount exact test_unseen",
    moment: "finished",
    json_of(dict): "settings",
    json_of(list): "samples",
    points: "curve",
}
READ = {column: kind for kind, columns in KINDS.items() for column in columns.split()}
RESULTS = """script preset overrides seed params train test test_from_2nd test_unseen seconds device
torch data data_hash source finished settings samples curve""".split()
TABLES = {  # besides results.csv
    "speed.csv": "step fingerprint ms_per_step ratio threads device torch",
    "ngram.csv": "step data data_hash model context discount counts seconds train test "
    "test_from_2nd test_unseen test_error",
    "texts.csv": "script text text_hash block_size seed params characters loss random_windows "
    "seconds device torch source finished settings",
    "published/chain.csv": "step train test exact rebuilt",  # rebuilt: by that idea
    "published/texts.csv": "text_hash block_size n_layer n_embd loss",
    "by-position.csv": "step seed fingerprint position targets loss",
    "generated.csv": "step seed fingerprint names new",
    "over-names.csv": "step fingerprint error",
    "look.csv": "step seed fingerprint name kind layer head position char key value",
    "ensemble.csv": "step fingerprint models weight params counts ms_per_name validation test "
    "test_from_2nd test_unseen error",
    "floor.csv": "data data_hash made_by kept known train train_error test test_error entropy "
    "entropy_error",
}
TABLES = {name: columns.split() for name, columns in TABLES.items()}
TIMES = {"seconds", "ms_per_name"}  # beside figures that are the same whenever they are computed


# --- Files ---
def read_csv(path, columns):
    """The rows of a table as dictionaries."""
    return [row for _, row in numbered(path, columns, READ)]


def read_table(root, name):
    """The rows of one of the TABLES."""
    return read_csv(root / "results" / name, TABLES[name])


def write_table(root, name, rows):
    """Write a table whole."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TABLES[name], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(root / "results" / name, text.getvalue().encode())


def update_table(root, name, key, rows, gone=lambda row: False):
    """Put rows into a table, in place of those that have the same values in the columns of the key.

    All other rows stay where they are, less those that are `gone`; new ones go to the end. A row
    that differs in nothing but times stays as it is, so that repeating a command changes nothing.
    Commands may do this side by side.
    """
    columns = TABLES[name]
    rows = [{x: "" if row[x] is None else str(row[x]) for x in columns} for row in rows]
    with locked(root / "results" / "logs" / "tables.lock"):
        old = [row for _, row in numbered(root / "results" / name, columns)]
        write_table(root, name, merge(old, rows, columns, key, gone))


def merge(old, new, columns, key, gone):
    """The rows of a table after an update, see there; their values are text."""

    def part(row, names):
        return tuple(row[x] for x in names)

    figures = [x for x in columns if x not in TIMES]
    known = {part(row, figures): row for row in old}
    groups = {}
    for row in new:
        groups.setdefault(part(row, key), []).append(known.get(part(row, figures), row))
    replaced, result = set(groups), []
    for row in old:
        if part(row, key) in replaced:
            result += groups.pop(part(row, key), [])  # the whole group at the first of its places
        elif not gone(row):
            result.append(row)
    return result + [row for group in groups.values() for row in group]


@contextmanager
def locked(path):
    """Hold the lock of a file, which is made if need be; whoever else asks for it waits."""
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # Windows and some network folders have no locks
            import fcntl

            path.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(stack.enter_context(open(path, "ab+")), fcntl.LOCK_EX)
        yield


def read_results(path):
    """The rows of results.csv, the oldest first."""
    return sorted(read_csv(path, RESULTS), key=lambda row: row["finished"])


def device_of(row):
    """cpu, cuda or mps, without the name of the chip."""
    return row["device"].partition(" ")[0]


# --- Which rows count ---
OWN = "--preset --seed --results-dir --no-record --resume".split()  # every run gets its own


class Condition:
    """What runs are compared under, as flags of the scripts: --validate --learning-rate 2e-3.

    Without flags it is the canonical one: the settings of the script or preset, names.txt, the CPU.
    With `--split-seed any` runs of other splits count, too, and are paired by split. Where a list
    is not at hand, as for the pages, its hash stands for `--data`.
    """

    def __init__(self, *flags, data_hash=None):
        if own := [flag for flag in flags if flag.partition("=")[0] in OWN]:
            raise Failure(f"{own[0]} is not for the scripts here: every run gets its own")
        parser = Parser("", add_help=False)
        parser.add_argument("--device", default="cpu")
        parser.add_argument("--data", type=file_path)
        parser.add_argument("--split-seed")
        own, self.rest = parser.parse_known_args(flags)
        self.flags, self.device, self.data = flags, own.device, own.data
        self.by_split = own.split_seed == "any"
        if own.split_seed and not self.by_split:
            self.rest += ["--split-seed", own.split_seed]
        if own.data and not own.data.is_file():
            raise Failure(f"there is no list {own.data}")
        found = own.data and hashlib.sha256(own.data.read_bytes()).hexdigest()[:12]
        self.data_hash = data_hash or found  # of another list than names.txt

    @property
    def other_split(self):
        """Whether the names are split otherwise than the scripts do without flags."""
        return self.by_split or bool({"--validate", "--split-seed"} & {*self.rest})

    def parse(self, step, seed=0):
        """The settings of the step's runs, and those that are not the script's own, as words."""
        words = [*step.words[1:], "--device", "cpu", "--seed", str(seed), *self.rest]
        what = f"{step.key} does not take {' '.join(self.flags)}"
        _, config, overrides = parsed(step.module, words, what)
        return asdict(config), overrides

    def data_of(self, step):
        """The hash of the list that the step's runs are of."""
        return self.data_hash or step.module.NAMES_SHA256[:12]


CANONICAL = Condition()


def counting(rows, step, condition=CANONICAL):
    """The rows, oldest first, that count for a step as it is now: {seed, or (split, seed): row}."""
    rows = [row for row in rows if (row["script"], row["preset"]) == (step.script, step.preset)]
    rows = [row for row in rows if row["source"] == step.source] if rows else []
    settings, _ = condition.parse(step) if rows else ({}, "")  # which takes its time
    found = {}
    for row in rows:
        split = row["settings"].get("split_seed")
        if condition.by_split:
            settings["split_seed"] = split
        if (
            fingerprint("", row["settings"]) == fingerprint("", settings)
            and row["data_hash"] == condition.data_of(step)
            and device_of(row) == condition.device
        ):
            pair = (split, row["seed"]) if condition.by_split else row["seed"]
            found.setdefault(pair, row)  # the oldest counts: a later one changes no page
    return found


def left_out(rows, steps):
    """The rows that do not count under the overrides that they were recorded with, and `why`."""
    seen, others = set(), []
    for row in rows:
        step = steps.get(f"{row['script']}@{row['preset']}" if row["preset"] else row["script"])
        changed = {word.partition("=")[0] for word in row["overrides"].split()}
        given = {name: row["settings"].get(name) for name in changed}
        made_by = row["overrides"], row["data_hash"], device_of(row), row["seed"]
        if step is None:
            why = "no such script or preset"
        elif row["source"] != step.source:
            why = "made by another source"
        elif fingerprint("", row["settings"]) != fingerprint("", asdict(step.config) | given):
            why = "made with other defaults"
        elif (step.key, *made_by) in seen:
            why = "an older row of this seed counts"
        else:
            seen.add((step.key, *made_by))
            continue
        others.append({**row, "why": why})
    return others
