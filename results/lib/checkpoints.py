"""What the scripts saved: a trained model from its checkpoint."""

import torch

from lib.command import Failure

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
