"""What the tools share: the training scripts as modules, the scripts with their presets, one-line errors."""
import argparse, os, sys, types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

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

def targets(only=()):
    """(name, module, preset) of every script and preset; `only` takes such names, a script's for all its presets."""
    files = {text.split()[0] for text in only if text.split()}
    modules = [load(path) for path in sorted(ROOT.glob("train-2*.py")) if not only or path.name in files]
    found = [(Path(module.__file__).name + (f" --preset {preset}" if preset else ""), module, preset)
             for module in modules for preset in (None, *module.PRESETS)]
    chosen = {text: [name for name, *_ in found if f"{name} ".startswith(f"{text} ")] for text in only}
    for text, names in chosen.items():
        if not names: fail(f"--only {text!r} is neither a script here nor one with a preset of it")
    return [target for target in found if not only or any(target[0] in names for names in chosen.values())]
