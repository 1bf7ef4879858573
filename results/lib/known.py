"""What is known of single steps, in one place: all else holds for whatever steps there are."""

CHAIN = (  # the eight scripts; any other in the root is somebody's own, and on no page
    "train-2-baseline",
    "train-2-double-embd",
    "train-2-2head",
    "train-2-2head-4layer",
    "train-2-2head-4layer-mlp",
    "train-2-2head-4layer-mlp-ln",
    "train-2-2head-4layer-mlp-ln-rope",
    "train-2",
)
LAST = CHAIN[-1]  # on which most ideas build
BEST, LONG = f"{LAST}@best", f"{LAST}@long"
CHOSEN = "learning_rate", "dropout", "weight_decay"  # of LONG, on the validation set
SAMPLED = CHAIN[0], LAST, BEST  # whose names the first page shows
GENERATED = LAST, f"{LAST}@final", BEST  # whose names are counted
BY_POSITION = CHAIN[5], CHAIN[6], f"{LAST}@final"
MAKEMORE = f"{LAST}@64x4", "train-2-published-makemore", "train-2-published-makemore-split"
ALL_NAMES = 25_626  # training names of names.txt
FEWER = "train-2-fewer-names"  # the last step on as many names as train_names says
QUESTIONS = {  # that the diff of a step answers
    "train-2-double-embd": "Does a wider head help?",
    "train-2-2head": "Are two narrow heads better than one wide one?",
    "train-2-2head-4layer": "What do depth and residuals add?",
    "train-2-2head-4layer-mlp": "What does computing at each position add?",
    "train-2-2head-4layer-mlp-ln": "Does normalizing the input of each layer help?",
    "train-2-2head-4layer-mlp-ln-rope": "Does it help to know how far apart two characters are?",
    "train-2": "Does a smooth activation help?",
}
WITHOUT = {  # part: a step with it, the same without it, and the last step without it
    "heads": ("train-2-2head", "train-2-2head,n_head=1", "train-2,n_head=1"),
    "layers 2 to 4": ("train-2-2head-4layer", "train-2-residual", "train-2,n_layer=1"),
    "residual connections": ("train-2-residual", "train-2-2head", "train-2-without-residual"),
    "MLP": ("train-2-2head-4layer-mlp", "train-2-2head-4layer", "train-2-without-mlp"),
    "LayerNorm": ("train-2-2head-4layer-mlp-ln", "train-2-2head-4layer-mlp", "train-2-no-norm"),
    "RoPE": (
        "train-2-2head-4layer-mlp-ln-rope",
        "train-2-2head-4layer-mlp-ln",
        "train-2-no-positions",
    ),
    "GELU for ReLU": ("train-2", "train-2-2head-4layer-mlp-ln-rope", "train-2-relu"),
}
NORMS = {  # the last step with each kind of normalization
    "none": "train-2-no-norm",
    "pre-norm": LAST,
    "post-norm": "train-2-post-norm",
    "RMSNorm": "train-2-rmsnorm",
    "QK-norm": "train-2-qk-norm",
}
PARTS = {  # what is made of several ideas
    "train-2-modern": [
        "train-2-token-shift",
        "train-2-swiglu",
        "train-2-rmsnorm",
        "train-2-final-layernorm",
    ],
    "train-2@best": [
        "train-2@final,learning_rate=0.003",
        "train-2@final,lr_decay_to=0.0",
        "train-2@final,dropout=0.1",
        "train-2@final,weight_decay=0.1",
    ],
}
MODERN, DISTILLED = "train-2-modern", "train-2-distilled"
PRESETS_ONLY = "modern"  # a group whose ideas have runs with presets alone
# The models with the lowest losses, and one that is trained alone for as long as a student.
LOWEST = [f"{MODERN}@best", f"{MODERN}@best,steps=80000"]
LOWEST += [f"{script}@best" for script in (DISTILLED, f"{DISTILLED}-ngram")]
NO_CANDIDATES = set(  # settings that make another task, and are not chosen on the validation set
    "n_embd n_head n_layer steps batch_size eval_interval seed split_seed threads validate".split()
)
# Controls isolate a cause, replications repeat what was published, tuned steps are the same with
# another recipe: they are no ideas, and no part of the family of tests of Holm's correction.
CONTROLS, REPLICATIONS, TUNED = "controls", "as published", "tuned"
# The tuned recipe but for its learning rate, which is chosen for every model.
RECIPE = {"warmup_steps": 200, "lr_decay_to": 0.0, "grad_clip": 1.0}
