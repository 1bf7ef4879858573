"""What a training step costs, and how that compares with the step it builds on.

All scripts and presets:  python results/bench.py
Some:                     python results/bench.py train-2-2head.py "train-2.py --preset 64x4"

Every step takes turns with what it builds on, so that a busy machine slows both alike; the figures
are medians over the turns, one thread on the CPU. They go into results/speed.csv: let nothing else
run beside it.
"""

import csv
import io
import statistics

import torch
from harness.command import ROOT, Failure, Parser, run, write_whole
from harness.evidence import SPEED
from harness.rows import key_of, read_csv
from harness.scripts import find_steps


class Subject:
    """A step in the middle of its training."""

    def __init__(self, step, data, turn):
        self.module, self.data = step.module, data
        self.config = type(step.config)(**{**vars(step.config), "eval_interval": turn})
        torch.manual_seed(0)
        self.model = self.module.Transformer(self.config, len(data.chars) + 2, data.max_len)
        self.optimizer = self.module.make_optimizer(self.model, self.config)
        self.batches = self.module.draw_batches(data, self.config)
        self.state = {"step": 0, "seconds": 0.0}

    def turn(self):
        """The seconds that a step took, over eval_interval steps of the script's own training."""
        if self.state["step"] == self.config.steps:
            self.state["step"] = 0
        start, before = self.state["step"], self.state["seconds"]
        parts = self.model, self.optimizer, self.data, self.batches, self.config, self.state
        self.module.train(*parts)
        return (self.state["seconds"] - before) / (self.state["step"] - start)


def compare(step, base, data, turns, length):
    """Milliseconds of a step, and the ratio to its base's: medians over the turns."""
    subjects = [Subject(each, data, length) for each in (step, base) if each]
    for subject in subjects:
        subject.turn()  # not counted: it warms up
    seconds = [[subject.turn() for subject in subjects] for _ in range(turns)]
    milliseconds = 1000 * statistics.median(times[0] for times in seconds)
    ratio = statistics.median(times[0] / times[-1] for times in seconds)
    return milliseconds, ratio


def record(path, step, milliseconds, ratio):
    """Put the step's figures into speed.csv, in the place of its earlier ones."""
    rows = {key_of(row): row for row in read_csv(path, SPEED)}
    rows[step.key] = {
        "script": step.path.name,
        "preset": step.preset,
        "fingerprint": step.fingerprint,
        "ms_per_step": f"{milliseconds:.3f}",
        "ratio": f"{ratio:.3f}" if ratio else "",
        "threads": torch.get_num_threads(),
        "device": torch.cpu.get_capabilities().get("cpu_name", ""),
        "torch": torch.__version__,
    }
    text = io.StringIO()
    writer = csv.DictWriter(text, SPEED, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    write_whole(path, text.getvalue().encode())


def main(argv=None, root=ROOT):
    parser = Parser(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a script, or one with a preset")
    parser.add_argument("--turns", type=int, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--steps", type=int, default=25, metavar="N", help="a turn (default: 25)")
    options = parser.parse_args(argv)
    if min(options.turns, options.steps) < 1:
        raise Failure("--turns and --steps take numbers from 1 up")
    torch.set_num_threads(1)
    steps = find_steps(root)
    for name in options.names:
        if name not in steps:
            raise Failure(f"{name!r} is neither a script here nor one with a preset of it")
    module = steps["train-2.py"].module
    data = module.load_data(None, module.Config(), "cpu", save=False)
    print(f"{'step':45} ms/step  against what it builds on")
    for key in options.names or steps:
        step, base = steps[key], steps.get(steps[key].builds_on)
        milliseconds, ratio = compare(step, base, data, options.turns, options.steps)
        against = f"{ratio:.2f} times {base.key}" if base else "–"
        print(f"{key:45} {milliseconds:7.2f}  {against}", flush=True)
        record(root / "results" / "speed.csv", step, milliseconds, ratio if base else None)


if __name__ == "__main__":
    run(main)
