"""The one name of a step: its script, a preset, and settings that differ from these.

    train-2-2head    train-2@final    train-2@20k,grad_clip=1.0

`find` in lib/steps.py says which step a name calls. Here a name is text that is taken apart and
put together.
"""

import itertools
import re

from lib.command import Failure
from lib.known import CHAIN

OF_A_RUN = {"seed", "threads"}  # every run has its own


def expand(name):
    """The names that one with alternatives in braces stands for: train-2,n_layer={2,4} for two.

    `chain` stands for the eight scripts.
    """
    name = re.sub(r"^chain(?=[@,]|$)", "{" + ",".join(CHAIN) + "}", name)
    parts = re.split(r"\{([^{}]*)\}", name)
    if any(brace in "".join(parts) for brace in "{}"):
        raise Failure(f"{name!r}: braces do not match, or are nested")
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(found) for found in itertools.product(*choices)]


def split(name):
    """The script or preset in a name, and its settings as they are written, {field: text}."""
    if re.search(r"\s", name):
        raise Failure(f"{name!r}: a name has no blanks")
    base, *words = re.sub(r"\.py(?=[@,]|$)", "", name).split(",")  # a shell completes the .py
    settings = {}
    for word in words:
        field, equals, value = word.partition("=")
        if not (field and equals and value):
            raise Failure(f"{name!r}: {word!r} is no setting such as n_layer=2")
        if field in OF_A_RUN:
            raise Failure(f"{name!r}: {field} is no part of a name, since runs differ in it")
        if field in settings:
            raise Failure(f"{name!r} has {field} twice")
        settings[field] = value
    return base, settings


def join(base, settings):
    """The name of a script or preset with settings, {field: value}."""
    return ",".join([base, *(f"{field}={value}" for field, value in sorted(settings.items()))])


def script_of(name):
    return split(name)[0].partition("@")[0]


def preset_of(name):
    return split(name)[0].partition("@")[2]


def with_preset(name, preset):
    """The name with another preset or none: train-2,n_head=1 at fast is train-2@fast,n_head=1."""
    return join(script_of(name) + (f"@{preset}" if preset else ""), split(name)[1])


def with_settings(name, settings):
    """The name with some settings changed."""
    base, own = split(name)
    return join(base, own | settings)


def flags(settings):
    """The settings as words of a script's command line."""
    words = []
    for field, value in sorted(settings.items()):
        flag = field.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words
