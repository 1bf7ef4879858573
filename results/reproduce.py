"""Run what results.csv lacks: every script, preset and idea, for every seed asked for.

Seeds 0 to 4, two runs at a time:  python results/reproduce.py --seeds 5 --jobs 2
A script with its presets:         python results/reproduce.py train-2.py
One preset of it:                  python results/reproduce.py "train-2.py --preset final"
One idea, or a group of them:      python results/reproduce.py train-2-swiglu.py positions
The same through a preset:         python results/reproduce.py "positions --preset 64x4"

A run is done when the table has its row for the script's present source and settings. One process
a run, one thread each. A run that was interrupted goes on from its checkpoint; one that fails is
reported at the end and stops no other. Presets of ideas are only run when they are named.

With --rates 5e-4,1e-3 the runs are made at these learning rates and evaluated on the validation
lines; their rows go into learning-rates.csv. Without names these are the steps of the chain.
"""

import csv
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from harness.command import ROOT, Failure, Parser, count, run
from harness.evidence import at_rates
from harness.ideas import applied
from harness.rows import RESULTS, assign, read_csv
from harness.scripts import Step, chosen, find_steps, names_file


@dataclass
class Run:
    """A run to be made, of a step with a seed; at a learning rate if not at the step's own."""

    step: Step
    seed: int
    rate: float | None = None

    @property
    def name(self):
        rate = "" if self.rate is None else f" --learning-rate {self.rate} --validate"
        return f"{self.step.key} --seed {self.seed}{rate}"

    @property
    def cost(self):
        config = self.step.config
        return config.steps * config.n_embd * getattr(config, "n_layer", 1)

    def command(self, folder, data, results):
        """The command that makes the run from the scripts in the folder, as a list of words."""
        script, *words = self.name.split()
        options = ["--device", "cpu", "--resume", "--data", data, "--results-dir", results]
        return [sys.executable, *map(str, [folder / script, *words, *options])]


def numbers(text):
    """Numbers above zero with commas between them, as the type of a flag: each once."""
    found = sorted({float(number) for number in text.split(",")})
    if not all(0 < number < math.inf for number in found):
        raise ValueError(text)
    return found


def lacking(steps, seeds, rates, results):
    """The runs without a row, the longest first: none is left to run alone at the end."""
    rows = read_csv(results / "learning-rates.csv", RESULTS)
    found = at_rates({step.key: step for step in steps}, rows)
    runs = []
    for step in steps:
        tried = found.get(step.key, {})
        for seed in range(seeds):
            if rates:
                runs += [Run(step, seed, x) for x in rates if seed not in tried.get(x, {})]
            elif seed not in step.rows:
                runs.append(Run(step, seed))
    return sorted(runs, key=lambda run: run.cost, reverse=True)


def remove_left_overs(root, results):
    """Delete the half-written files of killed runs; a file of the last minute may be in use."""
    for path in [*root.glob("*.tmp"), *root.glob("data/*.tmp"), *results.rglob("*.tmp")]:
        if time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)


def keep_rate(run, own, results):
    """Move the row of a run at another rate to learning-rates.csv."""
    with open(own / "results.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            run.step.module.append_row(results / "learning-rates.csv", row)


def run_all(runs, slots, folder, data, results):
    """Make the runs, some at a time. Returns the logs of those that failed."""
    running, failed = set(), []

    def run_one(run):
        log = results / "logs" / (run.name.replace(" --", "-").replace(" ", "=") + ".log")
        own = results if run.rate is None else results / "checkpoints" / "rates" / log.stem
        print(f"started   {run.name}", flush=True)
        with open(log, "wb") as file:
            start = time.monotonic()
            words = run.command(folder, data, own)
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
            running.add(process)
            status = process.wait()
            running.remove(process)
        if run.rate is not None and not status:
            keep_rate(run, own, results)
        return run.name, status, log, time.monotonic() - start

    pool = ThreadPoolExecutor(slots)
    try:
        futures = [pool.submit(run_one, run) for run in runs]
        for ended, future in enumerate(as_completed(futures), start=1):
            name, status, log, seconds = future.result()
            how = "failed" if status else "finished"
            print(f"{how:9} {name} in {seconds:.0f} s; {ended} of {len(runs)}", flush=True)
            if status:
                failed.append(log)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
            process.wait()  # it may still be writing
    return failed


def reproduce(options, root, folder, results):
    """Make the runs that are lacking from the scripts in the folder."""
    steps = find_steps(root, folder)
    assign(read_csv(results / "results.csv", RESULTS), steps)
    wanted = chosen(steps, options.names)
    if options.rates and not options.names:
        wanted = [step for step in wanted if not step.patch]
    if options.rates:  # a script's name is not for its presets here
        names = {name for name in options.names if " --preset " in name}
        wanted = [step for step in wanted if not step.preset or step.names & names]
    runs = lacking(wanted, options.seeds, options.rates, results)
    print(f"{len(runs)} runs are lacking")
    if options.dry_run or not runs:
        for run in runs:
            print(run.name)
        return
    data = names_file(root, steps)
    (results / "logs").mkdir(parents=True, exist_ok=True)
    remove_left_overs(root, results)
    failed = run_all(runs, options.jobs, folder, data, results)
    for log in failed:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"failed: {log}: {''.join(last)}")
    if failed:
        raise Failure(f"{len(failed)} of {len(runs)} runs failed; the others have their rows", 1)


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_step_names()
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--rates", type=numbers, metavar="R,R", help="learning rates")
    parser.add_argument("--results-dir", type=Path, default=root / "results", metavar="DIR")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    options = parser.parse_args(argv)
    results = options.results_dir.resolve()
    with applied(root) as folder:
        reproduce(options, root, folder, results)


if __name__ == "__main__":
    run(main, when_stopped="stopped; the same command goes on with what is lacking")
