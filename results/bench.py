"""The time of a training step, and that relative to the step it builds on.

All scripts, presets, ideas:  python results/bench.py
Some:                         python results/bench.py train-2-2head train-2@64x4,n_layer=2
An idea, a group of ideas:    python results/bench.py train-2-swiglu positions

Every step takes turns with what it builds on, so that a busy machine slows both alike; one with the
tuned recipe, with the same step without it. The figures are medians over the turns, one thread on
the CPU. They go into results/speed.csv: let nothing else run beside it.
"""

import statistics
import time
from dataclasses import replace
from unittest.mock import patch

import lib  # noqa: F401, first, so that Ctrl-C ends the imports below
import torch
from lib.command import ROOT, Parser, count, run
from lib.names import expand
from lib.scripts import load_names
from lib.steps import chosen, find_steps, timed_against
from lib.tables import read_table, update_table


def stop_the_clock(model, optimizer, data, config, state, checkpoint, start):
    """What is left of a script's evaluate() where steps alone are timed."""
    state["seconds"] += time.perf_counter() - start
    return time.perf_counter()


class Subject:
    """A step in the middle of its training."""

    def __init__(self, step, names, length):
        self.module, self.config, self.length = step.module, step.config, length
        self.data = data = step.module.load_data(names, step.module.Config(), "cpu")
        self.model = self.module.make_model(self.config, data, "cpu")
        self.optimizer = self.module.make_optimizer(self.model, self.config)
        self.state = {"step": 0, "seconds": 0.0, "curve": []}

    def turn(self):
        """The seconds that a step took, over some steps of the script's own training."""
        config = replace(self.config, steps=self.state["step"] + self.length)
        before = self.state["seconds"]
        with patch.object(self.module, "evaluate", stop_the_clock):
            self.module.train(self.model, self.optimizer, self.data, config, self.state, None)
        return (self.state["seconds"] - before) / self.length


def compare(step, base, names, turns, length):
    """Milliseconds of a step, and the ratio to its base's: medians over the turns."""
    subjects = [Subject(each, names, length) for each in (step, base) if each]
    for subject in subjects:
        subject.turn()  # not counted: it warms up
    seconds = [[subject.turn() for subject in subjects] for _ in range(turns)]
    milliseconds = 1000 * statistics.median(times[0] for times in seconds)
    ratio = statistics.median(times[0] / times[-1] for times in seconds)
    return milliseconds, ratio


def main(argv=None, root=ROOT):
    """Time the steps one after the other, each row written at once."""
    parser = Parser(__doc__)
    parser.add_step_names()
    parser.add_argument("--turns", type=count, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--steps", type=count, default=25, metavar="N", help="in a turn (25)")
    options = parser.parse_args(argv)
    read_table(root, "speed.csv")  # what is wrong with it shows now
    torch.set_num_threads(1)
    names = [one for name in options.names for one in expand(name)]
    steps = find_steps(root, names or None)
    wanted = chosen(steps, names)
    load_names(next(step.module for step in steps.values() if not step.is_idea))
    file = root / "data" / "names.txt"
    print(f"{'step':45} ms/step  against its base")
    for step in wanted:
        base = timed_against(steps, step)
        milliseconds, ratio = compare(step, base, file, options.turns, options.steps)
        against = f"{ratio:.2f} times {base.key}" if base else "–"
        print(f"{step.key:45} {milliseconds:7.2f}  {against}", flush=True)
        row = {
            "step": step.key,
            "fingerprint": step.fingerprint,
            "ms_per_step": round(milliseconds, 3),
            "ratio": round(ratio, 3) if base else "",
            "threads": torch.get_num_threads(),
            "device": getattr(torch.cpu, "get_capabilities", dict)().get("cpu_name", ""),
            "torch": torch.__version__,
        }
        update_table(root, "speed.csv", ["step"], [row])


if __name__ == "__main__":
    run(main)
