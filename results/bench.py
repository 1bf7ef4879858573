"""What a training step costs, and how far it is from the least that it could cost. Writes no file.

All scripts and presets:  python results/bench.py
Some, at other threads:   python results/bench.py --only train-2.py --only "train-2.py --preset 64x4" --threads 1 4

The floor is the time that the step's matrix products, forward and backward, would take at the rate that one large
matrix product reaches in this process. All steps take turns, so that a busy machine slows them alike; figures are
medians over the turns.
"""
import os, statistics, time
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from scripts import fail, guarded, parser, say, targets

PHASES = "batch", "forward", "backward", "optimizer"

class Subject:
    """A script and preset at a number of threads, in the middle of its training."""
    def __init__(self, target, threads, data):
        module = target.module
        self.name, self.module, self.threads, self.data, self.step = target.name, module, threads, data, 0
        self.turns, self.flops = [], {}
        self.config = config = module.Config(**target.knobs)
        torch.manual_seed(config.seed)
        self.model = module.Transformer(config, len(data.chars) + 2, data.max_len)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), weight_decay=config.weight_decay, fused=True)

    def forward_flops(self, inputs):
        """Floating-point operations of the matrix products of a forward pass, PAD columns included."""
        if inputs.shape not in self.flops:  # of attention, only the written-out form is counted
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                self.model(inputs)
            self.flops[inputs.shape] = counter.get_total_flops()
        return self.flops[inputs.shape]

    def one_step(self):
        """A step as in the script's train(); the five moments at which its phases begin and end, and its batch."""
        module, model, config = self.module, self.model, self.config
        if self.step % config.steps == 0: self.batches, self.step = module.batches(self.data, config), 0
        clock = [time.perf_counter()]
        inputs, targets = next(self.batches)
        clock.append(time.perf_counter())
        loss = module.masked_loss(model(inputs), targets)
        clock.append(time.perf_counter())
        self.optimizer.zero_grad()
        loss.backward()
        clock.append(time.perf_counter())
        if config.grad_clip: torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip)
        self.optimizer.param_groups[0]["lr"] = module.learning_rate(self.step, config)
        self.optimizer.step()
        clock.append(time.perf_counter())
        self.step += 1
        return clock, inputs, targets

    def turn(self, steps):
        """Seconds of each phase, operations, names and tokens over some steps."""
        torch.set_num_threads(self.threads)
        self.one_step()  # not counted: the caches are another subject's
        taken = [self.one_step() for _ in range(steps)]
        sums = {phase: sum(clock[i + 1] - clock[i] for clock, *_ in taken) for i, phase in enumerate(PHASES)}
        sums["flops"] = sum(3 * self.forward_flops(inputs) for _, inputs, _ in taken)  # backward is twice forward
        sums["names"] = sum(len(targets) for *_, targets in taken)
        sums["tokens"] = sum((targets != 0).sum().item() for *_, targets in taken)
        self.turns.append(sums)

def matmul_rate(threads, size=1024):
    """Floating-point operations a second of a large matrix product."""
    torch.set_num_threads(threads)
    a, b, seconds = torch.randn(size, size), torch.randn(size, size), []
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[1:])  # the first warms up

def row(subject, rate, steps):
    """The subject's line of the table."""
    of = lambda figure: statistics.median(map(figure, subject.turns))
    seconds = lambda turn: sum(turn[phase] for phase in PHASES)
    floor = of(lambda turn: turn["flops"]) / rate
    shares = (f"{of(lambda turn: turn[phase] / seconds(turn)):.0%}" for phase in PHASES)
    rates = (f"{of(lambda turn: turn[unit] / seconds(turn)):,.0f}" for unit in ("names", "tokens"))
    return [subject.name, str(subject.threads), f"{1000 * of(seconds) / steps:.2f}", *shares, *rates,
            f"{1000 * floor / steps:.2f}", f"{of(seconds) / floor:.2f}"]

def main(argv=None):
    ap = parser(__doc__)
    ap.add_argument("--only", action="append", default=[], metavar="NAME", help="a script, or a script and a preset")
    ap.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}), metavar="N",
                    help="numbers of threads (default: 1, and as many as the machine has)")
    ap.add_argument("--turns", type=int, default=9, metavar="N", help="turns that each step gets (default: 9)")
    ap.add_argument("--steps", type=int, default=20, metavar="N", help="steps in a turn (default: 20)")
    args = ap.parse_args(argv)
    if min(args.turns, args.steps, *args.threads) < 1 or max(args.threads) > 1024:
        fail("--turns, --steps and --threads take numbers from 1 up, --threads to 1024")
    found = targets(args.only, variants=False)
    modules = {target.module for target in found}
    data = {module: module.load_data(None, module.Config(), "cpu", save=False) for module in modules}
    subjects = [Subject(target, threads, data[target.module]) for target in found for threads in args.threads]
    rates = {threads: [] for threads in args.threads}
    for _ in range(args.turns):
        for threads in rates: rates[threads].append(matmul_rate(threads))
        for subject in subjects: subject.turn(args.steps)
    best = {threads: statistics.median(rate) for threads, rate in rates.items()}
    table = [["script", "threads", "ms/step", *PHASES, "names/s", "tokens/s", "floor ms", "ratio"],
             *(row(subject, best[subject.threads], args.steps) for subject in subjects)]
    widths = [max(map(len, column)) for column in zip(*table)]
    for name, *cells in table:
        say("  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:]))]))
    say("floor: " + ", ".join(f"{rate / 1e9:.0f} GFLOP/s at {n} threads" for n, rate in best.items()) +
        f"; medians of {args.turns} turns of {args.steps} steps")

if __name__ == "__main__":
    guarded(main)
