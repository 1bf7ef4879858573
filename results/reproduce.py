"""Run what results.csv lacks: every script, preset and idea, for every seed asked for.

Seeds 0 to 4, two runs at a time:  python results/reproduce.py --seeds 5 --jobs 2
The eight scripts, a preset:       python results/reproduce.py chain train-2@final
One idea, or a group of them:      python results/reproduce.py train-2-swiglu positions
The same with a preset:            python results/reproduce.py positions@64x4
With other settings, by name:      python results/reproduce.py "train-2,n_layer={2,3,6}"
With flags for the scripts:        python results/reproduce.py train-2 -- --n-layer 2 --validate
Though the table has them:         python results/reproduce.py --again train-2
As commands for other machines:    python results/reproduce.py --seeds 5 --list --each-dir

A run is done when the table has its row for the script's present source and settings. One process
per run, one thread each, on the CPU unless the flags say otherwise. A run that was interrupted goes
on from its checkpoint; one that fails is reported at the end and stops no other. Your own scripts
and presets of ideas are run when they are named. With flags, but without names, the eight scripts
are run, without presets and ideas. --again also makes the runs that the table has, but whose
trained models are not here, as in a fresh clone: their rows go to the end of the table, and the
older ones still count.
"""

import argparse
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

from lib.absent import absent
from lib.checkpoints import is_finished, saved_by
from lib.command import ROOT, Failure, Parser, count, file_path, on_stop, run, split_flags
from lib.measured import Measured
from lib.names import expand
from lib.scripts import load_names
from lib.steps import Step, chosen, refuse_twice
from lib.tables import Condition, counting


@dataclass
class Run:
    """A run to be made, of a step with a seed under a condition."""

    step: Step
    seed: int
    condition: Condition

    def __post_init__(self):
        self.settings, overrides = self.condition.parse(self.step, self.seed)
        self.data_hash = self.condition.data_of(self.step)
        data = self.condition.data and self.condition.data.name
        named = overrides, data, self.data_hash, self.condition.device
        self.name = self.step.run_name(self.seed, *named)
        sizes = self.settings.get("n_embd", 1) * self.settings.get("n_layer", 1)
        self.cost = self.settings["steps"] * sizes

    def checkpoint(self, results):
        """The state that it has saved, or None: nothing, or a checkpoint of something else."""
        path = results / "checkpoints" / f"{self.name}.pt"
        return saved_by(path, self.step, self.settings, self.data_hash)

    def is_trained(self, results):
        state = self.checkpoint(results)
        return state is not None and is_finished(state)

    def command(self, folder, data, results, each_dir=False):
        """The command that makes the run from the scripts in the folder, as a list of words."""
        script, *words = self.step.words
        results_dir = results / "each" / self.name if each_dir else results
        words += ["--seed", self.seed, *self.condition.rest, "--device", self.condition.device]
        words += ["--data", data, "--results-dir", results_dir]
        words += ["--resume"] if each_dir or self.checkpoint(results) else []
        return [sys.executable, *map(str, [folder / script, *words])]


def wanted(steps, names, flags):
    """The steps that are asked for: with flags but without names, the scripts."""
    found = chosen(steps, names)
    if not names and flags:
        return [step for step in found if not (step.is_idea or step.is_preset)]
    return found


def lacking(steps, seeds, condition, rows):
    """The runs without a row, the longest first: none is left to run alone at the end."""
    found = []
    for step in steps:
        done = counting(rows, step, condition)
        found += [Run(step, seed, condition) for seed in seeds if seed not in done]
    return sorted(found, key=lambda each: each.cost, reverse=True)


def seeds_of(text):
    """The seeds that `--seeds` names: 8 stands for 0 to 7, and 5-7 for 5, 6 and 7."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, last = map(int, found.groups("-1")) if found else (0, -1)
    seeds = range(first, last + 1) if found and found[2] else range(first)
    if not seeds:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number from 1 up nor a range")
    return seeds


def run_all(todo, slots, folder, data, results):
    """Make the runs, some at a time. Returns the logs of those that failed."""
    waiting, running, failed, signals = todo[::-1], {}, [], []
    handlers = on_stop(lambda number, frame: signals.append(number))  # no run may start unseen
    try:
        while (waiting or running) and not signals:
            if waiting and len(running) < slots:
                each = waiting.pop()
                log = results / "logs" / f"{each.name}.log"
                with open(log, "wb") as file:
                    words = each.command(folder, data, results)
                    process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
                running[process] = each.name, log, time.monotonic()
                print(f"started   {each.name}", flush=True)
                continue
            time.sleep(0.1)
            for process in [x for x in running if x.poll() is not None]:
                name, log, start = running.pop(process)
                how, took = "failed" if process.returncode else "finished", time.monotonic() - start
                ended = len(todo) - len(waiting) - len(running)
                print(f"{how:9} {name} in {took:.0f} s; {ended} of {len(todo)}", flush=True)
                failed += [log] if process.returncode else []
    finally:
        for process in running:
            process.terminate()
            process.wait()  # it may still be writing
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if signals:
        raise KeyboardInterrupt
    return failed


def print_list(todo, folder, data, results, options):
    """One command per run, of scripts that stay where they are when this command has ended."""
    scripts = (options.list_dir or results / "logs" / "scripts").resolve()
    scripts.mkdir(parents=True, exist_ok=True)
    for script in sorted({each.step.path.name for each in todo}):
        shutil.copy(folder / script, scripts)
    for each in todo:
        words = each.command(scripts, data, results, options.each_dir)
        print(shlex.join(words))


def say_what_is_left_out(m, results, steps, flags):
    """One line for each idea and script of one's own that no page has now, and why."""
    steps = [step for step in steps if step.is_own or step.is_idea]
    if steps:
        m.read_runs(results)
    for step in steps:
        if line := absent(m, step):
            where = f" (report.py -- {shlex.join(flags)} prints them)" if flags else ""
            print(f"note: {line}{where}")


def reproduce(options, flags, root):
    """Make the runs that are lacking, from copies of the scripts as they now are."""
    results, condition = options.results_dir.resolve(), Condition(*flags)
    if condition.by_split:
        raise Failure("--split-seed any is for compare.py: give one split to run")
    names = [one for name in options.names for one in expand(name)]
    m = Measured(root, names or None, results=results)
    asked = wanted(m.steps, names, flags)
    for step in asked:
        refuse_twice(step, condition.rest)
    todo = lacking(asked, options.seeds, condition, [] if options.again else m.rows)
    todo = [each for each in todo if not (options.again and each.is_trained(results))]
    if not todo:
        text = "0 runs are lacking; --again makes those whose trained models are not here"
        return print(text, file=sys.stderr if options.list else sys.stdout)
    if options.dry_run:
        return print("\n".join([f"{len(todo)} runs are lacking", *(each.name for each in todo)]))
    data = condition.data and condition.data.resolve()
    if not data:
        load_names(next(step.module for step in m.steps.values() if not step.is_idea))
        data = root.resolve() / "data" / "names.txt"
    folder = m.steps.made.folder
    if options.list:
        return print_list(todo, folder, data, results, options)
    print(f"{len(todo)} runs are lacking", flush=True)
    (results / "logs").mkdir(parents=True, exist_ok=True)
    failed = run_all(todo, options.jobs, folder, data, results)
    for log in failed:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"failed: {log}: {''.join(last)}")
    say_what_is_left_out(m, results, asked, flags)
    if failed:
        raise Failure(f"{len(failed)} of {len(todo)} runs failed; the others have their rows", 1)


def main(argv=None, root=ROOT):
    argv, flags = split_flags(argv)
    parser = Parser(__doc__)
    parser.add_step_names()
    text = "8 for seeds 0 to 7, 5-7 for these three (default: 1, seed 0)"
    parser.add_argument("--seeds", type=seeds_of, default=range(1), metavar="N", help=text)
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--results-dir", type=file_path, default=root / "results", metavar="DIR")
    text = "also make the runs that the table has, but whose trained models are not here"
    parser.add_argument("--again", action="store_true", help=text)
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    parser.add_argument("--list", action="store_true", help="print a command per run instead")
    text = "each a results folder of its own, in each/ of the other one"
    parser.add_argument("--each-dir", action="store_true", help=f"with --list: {text}")
    text = "with --list: where the scripts are put (default: logs/scripts in the results folder)"
    parser.add_argument("--list-dir", type=file_path, metavar="DIR", help=text)
    options = parser.parse_args(argv)
    if options.each_dir and not options.list:
        parser.error("--each-dir goes with --list")
    reproduce(options, flags, root)


if __name__ == "__main__":
    run(main, when_stopped="stopped; the same command goes on with what is lacking")
