"""The fine-tuning recipe, in the notebooks and from the command line.

A chapter calls the functions below one at a time. The command runs them in the same order,
on one process or, through Accelerate, on many::

    accelerate launch -m helpers.finetuning --help
    accelerate launch -m helpers.finetuning --train-reviews 3000 --output runs/imdb

It trains, chooses the best checkpoint on the validation split, reads the test split once,
and leaves the model and ``metrics.json`` in the output folder. If it is interrupted, the same
command with ``--resume`` goes on from the newest checkpoint that is whole. For several GPUs and
hosts, ``helpers/configurations`` has files that ``--config_file`` reads.
"""

from helpers.finetuning.calibration import add_to_bias, fit_bias
from helpers.finetuning.checkpoints import SealCheckpoints, newest_checkpoint
from helpers.finetuning.classifier import (
    PlainProgress,
    build_classifier,
    build_trainer,
    choose_trainable,
    compute_accuracy,
    predict_logits,
    save_classifier,
    training_arguments,
    training_memory,
)
from helpers.finetuning.command import main, run
from helpers.finetuning.recipe import Recipe, Trainable
from helpers.finetuning.splits import (
    FILM_GAP,
    drop_linked,
    linked_reviews,
    prepare,
    rare_names,
    review_texts,
    split_by_film,
)
from helpers.finetuning.texts import clean, head_and_tail, tokenize

__all__ = [
    "FILM_GAP",
    "PlainProgress",
    "Recipe",
    "SealCheckpoints",
    "Trainable",
    "add_to_bias",
    "build_classifier",
    "build_trainer",
    "choose_trainable",
    "clean",
    "compute_accuracy",
    "drop_linked",
    "fit_bias",
    "head_and_tail",
    "linked_reviews",
    "main",
    "newest_checkpoint",
    "predict_logits",
    "prepare",
    "rare_names",
    "review_texts",
    "run",
    "save_classifier",
    "split_by_film",
    "tokenize",
    "training_arguments",
    "training_memory",
]
