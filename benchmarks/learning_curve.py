"""Accuracy against the number of training reviews: what chapter 10 does, with more tokens.

    python benchmarks/learning_curve.py 2000 8000 --seeds 0 1 2

For each number and seed it fits TF-IDF, fine-tunes BERT, weighs both by a logistic regression
fitted on the validation split, and reads the test split. BERT's recipe is the chapter's, but for
more tokens: 128 of a review in training instead of 96, and 256 instead of 192 afterwards. Each
result is added to ``learning_curve.json`` beside this file, with its date, versions and processor;
what is there already is not run again. With one thread, 8,000 reviews take 6 minutes where the
processor has bfloat16, else 20 or more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, disable_progress_bars
from results import Results
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from transformers import AutoTokenizer

from helpers import assets, finetuning

RESULTS = Results(Path(__file__).with_suffix(".json"), ("torch", "transformers", "scikit-learn"))
TRAINED, READ = 128, 256  # tokens, in training and afterwards


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reviews", type=int, nargs="+", help="numbers of training reviews")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    options = parser.parse_args()
    disable_progress_bars()
    splits = finetuning.prepare().map(
        lambda review: {"text": finetuning.clean(review["text"])}, load_from_cache_file=False
    )
    for seed in options.seeds:
        for count in options.reviews:
            if not RESULTS.is_there("IMDB", reviews=count, seed=seed):
                RESULTS.record("IMDB", measure(splits, count, seed))


def count_words(train: Dataset, validation: Dataset) -> Pipeline:
    """Fit TF-IDF and a logistic regression, whose C is chosen on the validation split."""
    counter = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    counted, unseen = counter.fit_transform(train["text"]), counter.transform(validation["text"])
    fitted = [
        LogisticRegression(C=C, max_iter=1000).fit(counted, train["label"])
        for C in (3.0, 30.0, 300.0, 3_000.0)
    ]
    best = max(fitted, key=lambda model: model.score(unseen, validation["label"]))
    return make_pipeline(counter, best)


def measure(splits: DatasetDict, count: int, seed: int) -> dict[str, object]:
    """Train both models on ``count`` reviews chosen by ``seed``; return their test accuracies."""
    begin = time.process_time()
    train = splits["train"].shuffle(seed=seed).select(range(count))
    words = count_words(train, splits["validation"])
    recipe = finetuning.Recipe(max_length=TRAINED, read_length=READ, seed=seed)
    weights = assets.model("encoder")
    tokenizer = AutoTokenizer.from_pretrained(weights)
    tokens = {
        name: finetuning.tokenize(
            part,
            tokenizer,
            max_length=TRAINED if name == "train" else READ,
            head_share=recipe.head_share,
        )
        for name, part in (splits | {"train": train}).items()
    }
    with tempfile.TemporaryDirectory() as folder:
        arguments = finetuning.training_arguments(recipe, folder, validate=False, disable_tqdm=True)
        model = finetuning.build_classifier(weights, recipe)
        trainer = finetuning.build_trainer(model, tokenizer, arguments, tokens["train"])
        trainer.train()
        logits = {name: finetuning.predict_logits(trainer, tokens[name])
                  for name in ("validation", "test")}  # fmt: skip

    labels = {name: np.array(splits[name]["label"]) for name in logits}
    bias = finetuning.fit_bias(logits["validation"], labels["validation"])
    odds = {name: (z + bias)[:, 1] - (z + bias)[:, 0] for name, z in logits.items()}
    opinions = {
        name: np.column_stack([odds[name], words.decision_function(splits[name]["text"])])
        for name in odds
    }
    arbiter = LogisticRegression().fit(opinions["validation"], labels["validation"])
    said = {
        "TF-IDF": opinions["test"][:, 1] > 0,
        "BERT": opinions["test"][:, 0] > 0,
        "both": arbiter.predict(opinions["test"]) == 1,
    }
    return {
        "reviews": count,
        "seed": seed,
        **{name: round(float((answer == labels["test"]).mean()), 4)
           for name, answer in said.items()},
        "seconds": round(time.process_time() - begin),
    }  # fmt: skip


if __name__ == "__main__":
    main()
