"""What the scripts saved: a trained model from its checkpoint."""

import torch

from lib.command import Failure
from lib.scripts import fingerprint
from lib.tables import CANONICAL

RUN = {"script", "source", "settings", "data_hash", "chars", "max_len"}


def read_checkpoint(path):
    """The state that a script saved: the run, the step, the model and more."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        lacking = RUN - state["run"].keys() | {"model", "step"} - state.keys()
    except FileNotFoundError as error:
        raise Failure(f"there is no checkpoint {path}: train that run first") from error
    except Exception as error:  # a damaged file can raise anything
        raise Failure(f"{path} is no checkpoint, or damaged ({type(error).__name__})") from error
    if lacking:
        raise Failure(
            f"{path} is no checkpoint of a script, it has no {', '.join(sorted(lacking))}"
        )
    return state


def restore(module, state):
    """The model of a checkpoint, ready to sample from."""
    run = state["run"]
    try:
        config = module.Config(**run["settings"])
        model = module.Transformer(config, len(run["chars"]) + 2, run["max_len"])
        model.load_state_dict(state["model"])
    except (TypeError, AttributeError, RuntimeError) as error:
        message = f"{run['script']} has changed since its checkpoint was saved: train it again"
        raise Failure(message) from error
    return model.eval()


def is_finished(state):
    """Whether its run has made all of its steps, those of its teachers included."""
    settings = state["run"]["settings"]
    teachers = len(state.get("teachers", [])) >= settings.get("teachers", 0)
    return teachers and state["step"] >= settings["steps"]


def saved_by(path, step, settings, data_hash):
    """What a run of the step as it is now has saved; None where the file is of something else."""
    try:
        state = read_checkpoint(path)
    except Failure:
        return None
    made_by, now = state["run"], fingerprint(step.source, settings)
    same = fingerprint(made_by["source"], made_by["settings"]) == now
    return state if same and made_by["data_hash"] == data_hash else None


def trained_state(step, seed, results, condition=CANONICAL, seeds=1):
    """What a finished run has saved, which must be of the step as it is now.

    `seeds` is how many the caller needs: what it says of a model that is lacking makes all of them.
    """
    settings, overrides = condition.parse(step, seed)
    path = results / "checkpoints" / f"{step.run_name(seed, overrides)}.pt"
    words = [f"--seeds {max(seeds, seed + 1)}", step.key]
    words += ["--", *condition.rest] if condition.rest else []
    again = f"run python results/reproduce.py --again {' '.join(words)}"
    if not path.exists():
        raise Failure(f"there is no checkpoint {path}: {again}")
    state = saved_by(path, step, settings, condition.data_of(step))
    if not state or not is_finished(state):
        raise Failure(f"{path} is of an earlier state, or unfinished: {again}")
    return state


def trained(step, seed, results, condition=CANONICAL, seeds=1):
    """The model of that run."""
    return restore(step.module, trained_state(step, seed, results, condition, seeds))
