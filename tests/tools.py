"""What the tests of the commands share: a small project of its own, with made-up rows or names."""

import csv
import functools
import hashlib
import json
import random
import re
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import renew
from common import CHAIN, ROOT, edit
from lib.measured import Measured
from lib.pages import BLOCKS
from lib.steps import find_steps
from lib.tables import RESULTS, Condition, read_csv

COLUMNS = RESULTS
BASE, WIDE, HEADS, LAYERS, MLP, LN, ROPE, LAST = (name.removesuffix(".py") for name in CHAIN)


def write_table(path, rows):
    """Rows, dictionaries with the same keys, as a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


STUB = '''\
"""stub: a script that ends at once.

What it is for."""
import argparse, csv, json, os, sys, time, types
from dataclasses import asdict, dataclass, replace
from pathlib import Path

BUILDS_ON, NAMES_SHA256 = None, "ab" * 32
Transformer = train = generate = None
HERE = Path(__file__).parent
PRESETS = {"big": {"label": "big", "builds_on": Path(__file__).stem, "settings": {"n_embd": 64}}}

@dataclass
class Config:
    n_embd: int = 32
    n_layer: int = 1
    steps: int = 10
    seed: int = 0
    threads: int = 1

source_hash = lambda: "the source"
load_data = lambda file, config, device: types.SimpleNamespace(hash=NAMES_SHA256[:12])

def run_name(run):
    step = run["script"] + (f"@{run['preset']}" if run["preset"] else "")
    return ",".join([step, *run["overrides"].split()]) + f"-seed{run['seed']}"

def parse(argv):
    parser = argparse.ArgumentParser()
    for name in Config.__annotations__:
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=argparse.SUPPRESS)
    for flag in "--preset", "--device", "--data", "--results-dir":
        parser.add_argument(flag, default="")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(argv)
    base = Config(**PRESETS[options.preset]["settings"] if options.preset else {})
    given = {name: value for name, value in vars(options).items() if hasattr(base, name)}
    own = [f"{x}={y}" for x, y in sorted(given.items()) if x != "seed" and y != getattr(base, x)]
    return options, replace(base, **given), " ".join(own)

def main():
    with open(HERE / "calls", "a") as file:
        print(Path(__file__).name, *sys.argv[1:], file=file)
    options, config, overrides = parse(sys.argv[1:])
    seed, folder = config.seed, Path(options.results_dir)
    pass  # BEHAVIOUR
    row = dict.fromkeys(COLUMNS, "1") | {"script": Path(__file__).stem, "preset": options.preset}
    row |= {"overrides": overrides, "data_hash": NAMES_SHA256[:12], "seed": seed, "device": "cpu"}
    row |= {"source": source_hash(), "finished": "2026-01-01T00:00:00Z", "samples": "[]"}
    row |= {"settings": json.dumps(asdict(config)), "curve": ""}
    with open(folder / "results.csv", "a", newline="") as file:
        csv.writer(file).writerow(row.values())

if __name__ == "__main__":
    main()
'''


def write_stub(root, name, behaviour="pass", **defaults):
    """A script that writes its row without training; `behaviour` is a line of its main()."""
    text = STUB.replace("COLUMNS", repr(COLUMNS)).replace("pass  # BEHAVIOUR", behaviour)
    text = text.replace('"""stub:', f'"""{name.removesuffix(".py")}:')
    text = text.replace("Path(__file__).parent", f"Path({str(root)!r})")
    for option, value in defaults.items():
        text = re.sub(rf"\b{option}: int = \d+", f"{option}: int = {value}", text)
    root.mkdir(exist_ok=True)
    (root / name).write_text(text, "utf-8")


@functools.cache
def real_steps():
    """The eight steps and their presets, {key: step}, and the source hashes of their scripts."""
    with tempfile.TemporaryDirectory() as name:
        for script in CHAIN:
            shutil.copy(ROOT / script, name)
        steps = find_steps(Path(name))
        return steps, {key: step.source for key, step in steps.items()}


class Project:
    """Copies of some scripts in a folder, two pages, and a table of results to fill."""

    def __init__(self, root, scripts=(BASE, WIDE, HEADS)):
        self.root, self.rows, self.made = root, [], 0
        self.results = root / "results"
        self.table = self.results / "results.csv"
        self.page = root / "README.md"
        self.results.mkdir(parents=True)
        for name in scripts:
            shutil.copy(ROOT / self.path(name).name, root)
        shutil.copytree(ROOT / "results" / "published", self.results / "published")
        (self.results / "ideas").mkdir()
        for folder in "", "results", "results/ideas":
            (root / folder / "README.md").write_text("# A page\n", "utf-8")
        self.steps, self.sources = real_steps()

    def path(self, name):
        """The script of a step, with or without .py."""
        return self.root / f"{name.removesuffix('.py')}.py"

    def look_again(self):
        """Rows to come are of the scripts as they now are."""
        self.steps = find_steps(self.root)
        self.sources = {key: step.source for key, step in self.steps.items()}

    def make_row(self, key, seed=0, test=2.0, settings=None, **changes):
        """A row as a run of the step writes it, but for the changes; each newer than the last."""
        step = self.steps[key]
        own = asdict(step.config) | {"seed": seed} | (settings or {})
        self.made += 1
        row = dict.fromkeys(COLUMNS, 1)
        row |= {"script": step.script, "preset": step.preset, "overrides": ""}
        row |= {"data_hash": step.module.NAMES_SHA256[:12], "seed": seed, "params": 12345}
        row |= {"train": test - 0.1, "test": test, "device": "cpu (Some Chip)", "torch": "2.0"}
        row |= {"test_from_2nd": test - 0.2, "test_unseen": test + 0.05, "samples": '["ann"]'}
        row |= {"source": self.sources[key], "settings": json.dumps(own)}
        at = [*range(0, step.config.steps, step.config.eval_interval)][1:]
        row["curve"] = json.dumps([*([x, 9, 9] for x in at), [step.config.steps, 9, test]])
        row |= {"finished": f"2026-01-02T03:{self.made // 60:02}:{self.made % 60:02}Z"}
        assert changes.keys() <= row.keys()
        return row | changes

    def add_row(self, key, seed=0, test=2.0, *args, **changes):
        self.rows.append(self.make_row(key, seed, test, *args, **changes))
        write_table(self.table, self.rows)

    def add_rows(self, key, losses):
        """A row for seed 0, 1 and so on, with these test losses."""
        for seed, test in enumerate(losses):
            self.add_row(key, seed, test)

    def measured(self, *flags):
        return Measured(self.root, condition=Condition(*flags))

    def results_rows(self):
        """The rows of results.csv, as the commands read them."""
        return read_csv(self.table, RESULTS)

    def block(self, name, *words):
        """A block of the first page, as the tables give it."""
        return BLOCKS[name](self.measured(), self.root, *words)

    def cells(self, block, label, *words):
        """The row of a step in a block, {column: text}."""
        lines = [line.strip("| ").split(" | ") for line in self.block(block, *words).splitlines()]
        (row,) = [line for line in lines if line[0].startswith(f"[{label}]")]
        return dict(zip(lines[0], row, strict=True))


def add_idea(project, name, layers=3, group="depth", of=LAST):
    """The name of an idea, whose patch is made in the project as the README says."""
    script = f"train-2-{name}"
    text = project.path(of).read_text("utf-8")
    label = text.removeprefix('"""').partition(":")[0]
    text = text.replace(f'"""{label}: ', f'"""{name}: ', 1)
    text = re.sub("^BUILDS_ON = .*$", f'BUILDS_ON = "{of}"', text, flags=re.M)
    text = re.sub(r"n_layer: int = option\(\d", f"n_layer: int = option({layers}", text)
    project.path(script).write_text(text, "utf-8")
    renew.main([script], project.root)
    edit(project.results / "ideas" / f"{name}.patch", "own steps", group)
    project.path(script).unlink()
    project.look_again()
    return script


def miniature(root, scripts=tuple(CHAIN)):
    """A project whose names.txt is small, and whose scripts and presets train for four steps."""
    project = Project(root, scripts)
    rng = random.Random(3)
    names = ["".join(rng.choices("abehilnotz", k=rng.randint(2, 7))) for _ in range(700)]
    content = "\n".join([*names, "elizabeth"]).encode()
    digest = hashlib.sha256(content).hexdigest()
    (root / "data").mkdir()
    (root / "data" / "names.txt").write_bytes(content)
    for path in map(project.path, scripts):
        text = path.read_text("utf-8")
        text = re.sub('^NAMES_SHA256 = ".*"$', f'NAMES_SHA256 = "{digest}"', text, flags=re.M)
        text = re.sub(r"option\(5000, ", "option(4, ", text)
        text = re.sub(r'"steps": [\d_]+', '"steps": 4', text)
        path.write_text(text, "utf-8")
    project.look_again()
    return project
