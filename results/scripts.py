"""What the tools share: the training scripts as modules, the scripts with their presets, one-line errors."""
import argparse, hashlib, os, sys, types
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
BIGRAM = "train-2-2head-4layer.py"  # without its layers it is one
STREAMED = "train-2-baseline.py", "train-2.py"  # on these it is measured what padding is worth

def fail(text, status=2):
    """End with one line on stderr: 2 is wrong use or input, 1 is work that failed."""
    print("error:", " ".join(str(text).split()), file=sys.stderr)
    sys.exit(status)

def say(text):
    """Print a line; a reader that goes away (`| head -1`) does not end the work."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

def guarded(main):
    """Run a tool's main(); Ctrl-C ends it in one line."""
    try:
        main()
    except KeyboardInterrupt:
        fail("stopped; nothing is half-written", 130)

def fingerprint(source, settings):
    """Short hash of all that a trained model depends on but its seed."""
    knobs = sorted((name, value) for name, value in settings.items() if name not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {knobs}".encode()).hexdigest()[:12]

def parser(doc):
    """A command line whose mistakes end in one line, too."""
    ap = argparse.ArgumentParser(description=doc, allow_abbrev=False, formatter_class=argparse.RawTextHelpFormatter)
    ap.error = lambda message: fail(f"{message}; see --help")
    return ap

def load(script):
    """A training script as a module; a name is looked up here, then beside the other scripts."""
    path = next((path.resolve() for path in (Path(script), ROOT / script) if path.is_file()), None)
    if not path: fail(f"there is no script {script}")
    module = types.ModuleType(path.stem.replace("-", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(path.read_bytes(), path, "exec"), vars(module))  # unlike an import, this leaves no __pycache__
    except (Exception, SystemExit) as error:  # a script in the making may raise anything
        fail(f"cannot load {script} ({type(error).__name__}: {error})")
    if not {"Config", "PRESETS", "Transformer", "main"} <= vars(module).keys(): fail(f"{script} is no training script")
    return module

class Target(NamedTuple):
    """What is trained and recorded: a script, a preset of it, or a variant."""
    name: str  # "train-2.py --preset 64x4": what others call it by, and the command that runs it
    module: types.ModuleType  # with CONFIG, BUILDS_ON and PRESETS as they are for this target
    preset: str | None
    knobs: dict  # other than the script's defaults

def targets_of(module):
    """The script itself and its presets."""
    name = Path(module.__file__).name
    found = [Target(name, module, None, {})]
    try:
        found += [Target(f"{name} --preset {preset}", module, preset, value["knobs"])
                  for preset, value in module.PRESETS.items()]
        for target in found: module.Config(**target.knobs)
    except (AttributeError, KeyError, TypeError) as error:  # a script in the making
        fail(f"the PRESETS of {name} are not dictionaries of knobs that its Config has ({error})")
    return found

def variants_of(module):
    """What is recorded of the script besides: the bigram below the baseline, and training without padding."""
    path = Path(module.__file__)
    found = []
    if path.name == BIGRAM:
        module = load(path)
        module.CONFIG, module.BUILDS_ON = "bigram", None
        found.append(Target(f"{path.name} --n-layer 0", module, None, {"n_layer": 0}))
    if path.name in STREAMED:
        import stream  # which imports this module
        module = stream.as_preset(load(path))
        found.append(Target(f"results/stream.py {path.name}", module, "stream", module.PRESETS["stream"]["knobs"]))
    return found

def targets(only=(), variants=True):
    """Every script with its presets, and the variants; `only` takes their names, a script's for all its presets."""
    words = {word for text in only for word in text.split()}
    modules = [load(path) for path in sorted(ROOT.glob("train-2*.py"))
               if not only or {path.name, "results/stream.py"} & words]
    found = [target for module in modules
             for target in targets_of(module) + (variants_of(module) if variants else [])]
    chosen = {text: [name for name, *_ in found if f"{name} ".startswith(f"{text} ")] for text in only}
    for text, names in chosen.items():
        if not names: fail(f"--only {text!r} is neither a script here nor one with a preset of it")
    return [target for target in found if not only or any(target.name in names for names in chosen.values())]
