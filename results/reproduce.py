"""Run what results.csv lacks: every script and preset, for every seed asked for.

Seeds 0 to 4, two runs at a time:  python results/reproduce.py --seeds 5 --jobs 2
A script with its presets:         python results/reproduce.py train-2.py
One preset of it:                  python results/reproduce.py "train-2.py --preset final"

A run is done when the table has its row for the script's present source and settings. One process
a run, one thread each. A run that was interrupted goes on from its checkpoint; one that fails is
reported at the end and stops no other.
"""

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from harness.command import ROOT, Failure, Parser, count, run
from harness.rows import RESULTS, assign, read_csv
from harness.scripts import chosen, find_steps, load_names


def lacking(steps, seeds):
    """The (step, seed) without a row, the longest first: none is left to run alone at the end."""

    def cost(job):
        config = job[0].config
        return config.steps * config.n_embd * getattr(config, "n_layer", 1)

    jobs = [(step, seed) for step in steps for seed in range(seeds) if seed not in step.rows]
    return sorted(jobs, key=cost, reverse=True)


def command(step, seed, results):
    """The command that makes the run, as a list of words."""
    preset = ["--preset", step.preset] if step.preset else []
    options = ["--device", "cpu", "--resume", "--results-dir", str(results)]
    return [sys.executable, str(step.path), *preset, "--seed", str(seed), *options]


def remove_left_overs(root, results):
    """Delete the half-written files of killed runs; a file of the last minute may be in use."""
    folders = [root, root / "data", results, *results.glob("*/")]
    for path in [path for folder in folders for path in folder.glob("*.tmp")]:
        if time.time() - path.stat().st_mtime > 60:
            path.unlink(missing_ok=True)


def run_all(jobs, slots, results):
    """Make the runs, some at a time. Returns the logs of those that failed."""
    running, failed = set(), []

    def run_one(step, seed):
        log = step.file("logs", seed, ".log", results)
        print(f"started   {step.key} --seed {seed}", flush=True)
        with open(log, "wb") as file:
            start = time.monotonic()
            words = command(step, seed, results)
            process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
            running.add(process)
            status = process.wait()
            running.remove(process)
        return f"{step.key} --seed {seed}", status, log, time.monotonic() - start

    pool = ThreadPoolExecutor(slots)
    try:
        futures = [pool.submit(run_one, step, seed) for step, seed in jobs]
        for ended, future in enumerate(as_completed(futures), start=1):
            name, status, log, seconds = future.result()
            how = "failed" if status else "finished"
            print(f"{how:9} {name} in {seconds:.0f} s; {ended} of {len(jobs)}", flush=True)
            if status:
                failed.append(log)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
    return failed


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a script, or one with a preset")
    parser.add_argument("--seeds", type=count, default=1, metavar="N", help="seeds 0 to N - 1")
    parser.add_argument("--jobs", type=count, default=1, metavar="N", help="runs at a time")
    parser.add_argument("--results-dir", type=Path, default=root / "results", metavar="DIR")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be run")
    options = parser.parse_args(argv)
    results = options.results_dir.resolve()
    steps = find_steps(root)
    assign(read_csv(results / "results.csv", RESULTS), steps)
    jobs = lacking(chosen(steps, options.names), options.seeds)
    print(f"{len(jobs)} runs are lacking")
    if options.dry_run or not jobs:
        for step, seed in jobs:
            print(f"{step.key} --seed {seed}")
        return
    load_names(jobs[0][0].module)
    (results / "logs").mkdir(parents=True, exist_ok=True)
    remove_left_overs(root, results)
    failed = run_all(jobs, options.jobs, results)
    for log in failed:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        print(f"failed: {log}: {''.join(last)}")
    if failed:
        raise Failure(f"{len(failed)} of {len(jobs)} runs failed; the others have their rows", 1)


if __name__ == "__main__":
    run(main, when_stopped="stopped; the same command goes on with what is lacking")
