"""A training script as a module."""

import hashlib
import io
import sys
import types
from contextlib import redirect_stderr
from pathlib import Path

from lib.command import Failure

HASHED = {}  # {what is in a script: its source hash}, which takes its time
NEEDED = set("BUILDS_ON PRESETS NAMES_SHA256 Config load_data parse run_name source_hash".split())


def load(path):
    """The training script as a module; unlike an import, this leaves no __pycache__ behind."""
    path = Path(path)
    if not path.is_file():
        raise Failure(f"there is no script {path.name}")
    module = types.ModuleType(path.stem.replace("-", "_"))
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        code = compile(path.read_bytes(), path, "exec", optimize=0)  # python -OO drops docstrings
        exec(code, vars(module))
    except (Exception, SystemExit) as error:  # a script in the making can raise anything
        reason = f"{type(error).__name__}: {error}"
        raise Failure(f"cannot load {path.name}, {reason}: fix it or move it away") from error
    lacking = NEEDED - vars(module).keys()
    if lacking:
        raise Failure(f"{path.name} is no training script, it has no {', '.join(sorted(lacking))}")
    return module


def load_names(module):
    """makemore's names, downloaded on first use: no other data is comparable."""
    data = module.load_data(None, module.Config(), "cpu")
    if data.hash != module.NAMES_SHA256[:12]:
        raise Failure("data/names.txt is not to be had, or not makemore's: see data/README.md", 1)
    return data


def parsed(module, words, what):
    """What the script's own command line makes of the words: its options, Config and overrides."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):  # argparse's usage is of the script
            return module.parse(words)
    except SystemExit as error:
        reason = said.getvalue().strip() or str(error.code)
        raise Failure(f"{what}: {reason.rpartition('error: ')[2]}") from error


def fingerprint(source, settings):
    """Short hash of all that a result depends on but the seed and the threads."""
    items = sorted(item for item in settings.items() if item[0] not in ("seed", "threads"))
    return hashlib.sha256(f"{source} {items}".encode()).hexdigest()[:12]


def source_of(module):
    """The hash of what in a script makes the results; its presets and its copies share it."""
    content = Path(module.__file__).read_bytes()
    if content not in HASHED:
        HASHED[content] = module.source_hash()
    return HASHED[content]
