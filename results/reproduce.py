"""Run what the table of results lacks: every script, preset and variant, for every seed asked for.

Seeds 0 to 4, two runs at a time:  python results/reproduce.py --seeds 5 --jobs 2
Only some, with their presets:     python results/reproduce.py --only train-2.py --only train-2-2head.py
Only one preset:                   python results/reproduce.py --only "train-2.py --preset final"
The same by other means:           python results/reproduce.py --seeds 5 --dry-run | parallel

A run is done when the table has its row for the script's present source and settings. One process a run, one thread
each. An interrupted run goes on from its checkpoint. One that fails is reported at the end and stops no other.
"""
import csv, hashlib, json, shlex, signal, subprocess, sys, time
from dataclasses import asdict, dataclass
from pathlib import Path
from scripts import ROOT, fail, parser, say, targets

@dataclass(frozen=True)
class Job:
    """One run to do."""
    name: str  # train-2.py --preset final --seed 0
    stem: str  # train-2-final-seed0, what its files are called
    cost: int

    def command(self, options):
        words = [str(ROOT / word) if word.endswith(".py") else word for word in self.name.split()]
        return [sys.executable, *words, "--device", "cpu", *options]

def key(script, preset, overrides, seed, source, settings):
    """What a row must agree in to be the one that a job would write."""
    knobs = frozenset((name, value) for name, value in settings.items() if name not in ("seed", "threads"))
    return script, preset, overrides, int(seed), source, knobs

def done(table, data_hash):
    """The keys of the table's rows on names.txt and the CPU; their settings tell which of them are canonical."""
    keys, reader = set(), None
    if not table.exists(): return keys
    try:
        with open(table, newline="", encoding="utf-8") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for row in (dict(zip(header, values, strict=True)) for values in reader if values):
                if row["data_hash"] != data_hash or not row["device"].startswith("cpu"): continue
                settings = json.loads(row["settings"])
                keys.add(key(*(row[name] for name in ("script", "preset", "overrides", "seed", "source")),
                             settings))
    except (OSError, csv.Error, ValueError, KeyError, TypeError, AttributeError) as error:
        line = f", line {reader.line_num}" if reader else ""
        fail(f"cannot read {table}{line} ({type(error).__name__}: {error}); mend it or move it away")
    return keys

def lacking(found, seeds, table):
    """The jobs without a current row, the longest first, so that none of them is left to run alone at the end."""
    rows = {sha: done(table, sha[:12]) for sha in {target.module.SHA256 for target in found}}
    jobs = []
    for name, module, preset, knobs in found:
        config = module.Config(**knobs)
        path, source = Path(module.__file__), module.source_hash()
        overrides = "" if preset else " ".join(f"{name}={value}" for name, value in sorted(knobs.items()))
        own = ascii((overrides, "", "")).encode()  # as the script's run() names its files
        other = hashlib.sha256(own).hexdigest()[:8] if overrides else ""
        for seed in range(seeds):
            if key(path.name, preset or "", overrides, seed, source, asdict(config)) in rows[module.SHA256]: continue
            stem = "-".join(filter(None, [path.stem, preset, other, f"seed{seed}"]))
            cost = config.steps * config.n_embd * getattr(config, "n_layer", 1)
            jobs.append(Job(f"{name} --seed {seed}", stem, cost))
    return sorted(jobs, key=lambda job: -job.cost)

def check_data(module):
    """End where the runs would not be on names.txt: none of their rows would ever count."""
    data = module.load_data(None, module.Config(), "cpu")  # downloads it on first use
    if data.hash != module.SHA256[:12]:
        fail("the runs would not be on the names.txt that the comparison is made with; see data/README.md")

def start(job, resume, log, options):
    """Its process, in a session of its own: Ctrl-C at the terminal reaches only this one, which passes it on once."""
    say(f"started   {job.name}{' --resume' * resume}")
    with open(log, "wb") as file:
        return subprocess.Popen(job.command([*options, *["--resume"] * resume]), stdin=subprocess.DEVNULL,
                                stdout=file, stderr=subprocess.STDOUT, start_new_session=True)

def sweep(jobs, slots, results, options, signals):
    """Run the jobs, `slots` at a time, until a signal comes. Returns those that failed, and how many ended."""
    waiting, running, refused, failed, ended = jobs[::-1], {}, set(), [], 0
    try:
        while (waiting or running) and not signals:
            while waiting and len(running) < slots:
                job = waiting.pop()
                resume = (results / "checkpoints" / f"{job.stem}.pt").exists() and job not in refused
                process = start(job, resume, results / "logs" / f"{job.stem}.log", options)
                running[process] = job, resume, time.monotonic()
            time.sleep(0.1)
            for process in [process for process in running if process.poll() is not None]:
                job, resume, began = running.pop(process)
                if process.returncode == 2 and resume:  # the checkpoint is of another source, or damaged
                    refused.add(job)
                    waiting.append(job)
                    continue
                ended += 1
                if process.returncode: failed.append((job, process.returncode))
                how, seconds = "failed" if process.returncode else "finished", time.monotonic() - began
                say(f"{how:9} {job.name} in {seconds:.0f} s; {ended} of {len(jobs)} done, {len(failed)} failed")
    finally:
        stop(running, signals)
    return failed, ended

def stop(processes, signals):
    """End what still runs: each run saves its state at the first signal. At a second Ctrl-C, end them at once."""
    for process in processes: process.terminate()
    while any(process.poll() is None for process in processes):
        if len(signals) > 1: [process.kill() for process in processes]
        time.sleep(0.1)

def last_line(log):
    """The end of a log, which is where a run says what went wrong."""
    return "".join(log.read_text("utf-8", errors="replace").strip().splitlines()[-1:])

def main(argv=None):
    ap = parser(__doc__)
    ap.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds 0 to N - 1 (default: 1)")
    ap.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    ap.add_argument("--only", action="append", default=[], metavar="NAME", help="a script, or a script and a preset")
    ap.add_argument("--results-dir", type=Path, metavar="DIR", help="where the runs record (default: results)")
    ap.add_argument("--dry-run", action="store_true", help="print the commands, one a line, and run none")
    args = ap.parse_args(argv)
    if args.seeds < 1 or args.jobs < 1: fail("--seeds and --jobs take numbers from 1 up")
    results = (args.results_dir or ROOT / "results").resolve()
    options = ["--results-dir", str(results)] if args.results_dir else []
    signals = []
    for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda number, _: signals.append(number))
    found = targets(args.only)
    jobs = lacking(found, args.seeds, results / "results.csv")
    if args.dry_run:
        for job in jobs: say(shlex.join(job.command(options)))
        return
    say(f"{len(jobs)} of {len(found) * args.seeds} runs to do, logs in {results / 'logs'}")
    if not jobs: return
    check_data(found[0].module)
    try:
        (results / "logs").mkdir(parents=True, exist_ok=True)
        failed, ended = sweep(jobs, args.jobs, results, options, signals)
    except OSError as error:
        fail(f"cannot run these ({error})", 1)
    for job, status in failed:
        log = results / "logs" / f"{job.stem}.log"
        say(f"failed (status {status}): {job.name}: {last_line(log)}; its log is {log}")
    if signals:
        left = len(jobs) - ended
        fail(f"stopped with {left} of {len(jobs)} runs left; the same command goes on from there", 128 + signals[0])
    if failed: fail(f"{len(failed)} of {len(jobs)} runs failed; the others have their rows", 1)

if __name__ == "__main__":
    main()
