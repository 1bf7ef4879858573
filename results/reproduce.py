"""Run what results.csv lacks: every script, preset and idea, for every seed asked for.

Seeds 0 to 4, two runs at a time:  python results/reproduce.py --seeds 5 --jobs 2
A script with its presets:         python results/reproduce.py train-2
One preset of it:                  python results/reproduce.py train-2@final
One idea, or a group of them:      python results/reproduce.py train-2-swiglu positions
The same with a preset:            python results/reproduce.py positions@64x4
With flags for the scripts:        python results/reproduce.py train-2 -- --n-layer 2 --validate

A run is done when the table has its row for the script's present source and settings. One process
per run, one thread each. A run that was interrupted goes on from its checkpoint; one that fails is
reported at the end and stops no other. Presets of ideas are only run when they are named.

With flags after -- a script's name is not for its presets, and without names all steps of the chain
are run.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.checkpoints import read_checkpoint
from harness.command import ROOT, Failure, Parser, count, run
from harness.ideas import applied
from harness.rows import RESULTS, is_run_of, read_csv
from harness.scripts import Step, chosen, find_steps, fingerprint, names_file, plain

OWN = "--preset --seed --device --data --results-dir --no-record --resume".split()


@dataclass
class Run:
    """A run to be made, of a step with a seed and flags."""

    step: Step
    seed: int
    flags: list

    def __post_init__(self):
        self.words = [*self.step.words, "--seed", str(self.seed), *self.flags]
        _, config, overrides = self.step.module.parse(self.words[1:])
        self.settings = asdict(config)
        self.name = self.step.run_name(self.seed, overrides)
        self.cost = config.steps * config.n_embd * getattr(config, "n_layer", 1)

    def can_go_on(self, results):
        """Whether its checkpoint is there, and of this run."""
        try:
            made_by = read_checkpoint(results / "checkpoints" / f"{self.name}.pt")["run"]
        except Failure:
            return False
        now = fingerprint(self.step.source, self.settings)
        same_data = made_by["data_hash"] == self.step.module.NAMES_SHA256[:12]
        return same_data and fingerprint(made_by["source"], made_by["settings"]) == now

    def command(self, folder, data, results):
        """The command that makes the run from the scripts in the folder, as a list of words."""
        script, *words = self.words
        words += ["--device", "cpu", "--data", data, "--results-dir", results]
        words += ["--resume"] if self.can_go_on(results) else []
        return [sys.executable, *map(str, [folder / script, *words])]


def lacking(steps, seeds, flags, rows):
    """The runs without a row, the longest first: none is left to run alone at the end."""
    runs = []
    for step in steps:
        wanted = [Run(step, seed, flags) for seed in range(seeds)]
        settings = wanted[0].settings  # apart from the seed
        done = {row["seed"] for row in rows if is_run_of(row, step, settings)}
        runs += [each for each in wanted if each.seed not in done]
    return sorted(runs, key=lambda each: each.cost, reverse=True)


def remove_left_overs(root, results):
    """Delete the half-written files of killed runs; a file of the last minute may be in use."""
    for path in [*root.glob("*.tmp"), *root.glob("data/*.tmp"), *results.rglob("*.tmp")]:
        if time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)


def run_all(runs, slots, folder, data, results):
    """Make the runs, some at a time. Returns the logs of those that failed."""
    running, failed = set(), []

    def run_one(run):
        log = results / "logs" / f"{run.name}.log"
        print(f"started   {run.name}", flush=True)
        with open(log, "wb") as file:
            start = time.monotonic()
            words = run.command(folder, data, results)
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
            running.add(process)
            status = process.wait()
            running.remove(process)
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


def reproduce(options, flags, root, folder, results):
    """Make the runs that are lacking from the scripts in the folder."""
    steps = find_steps(root, folder)
    wanted = chosen(steps, options.names)
    if flags and not options.names:
        wanted = [step for step in wanted if not step.patch]
    if flags:  # a script's name is not for its presets here
        presets = {plain(name) for name in options.names if "@" in name}
        wanted = [step for step in wanted if not step.preset or step.names & presets]
    rows = read_csv(results / "results.csv", RESULTS)
    runs = lacking(wanted, options.seeds, flags, rows)
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
    argv = sys.argv[1:] if argv is None else list(argv)
    end = argv.index("--") if "--" in argv else len(argv)
    argv, flags = argv[:end], argv[end + 1 :]
    parser = Parser(__doc__)
    parser.add_step_names()
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--results-dir", type=Path, default=root / "results", metavar="DIR")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    options = parser.parse_args(argv)
    results = options.results_dir.resolve()
    if own := [flag for flag in flags if flag.partition("=")[0] in OWN]:
        raise Failure(f"{own[0]} is not for the scripts here: every run gets its own")
    with applied(root) as folder:
        reproduce(options, flags, root, folder, results)


if __name__ == "__main__":
    run(main, when_stopped="stopped; the same command goes on with what is lacking")
