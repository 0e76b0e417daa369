"""Evaluate stage: every seed's model of one variant on the test set. The only reader of the test images."""

import argparse
import os

import numpy as np
import pandas as pd

from stages import params, records
from stages.evaluate.scores import calibration, cross_entropy, hardest, squared_error

BATCH = 500
HARDEST = 60  # images of which the pixels are kept: enough to have those that are hard for all variants


def evaluate(variant: str, seeds: list[int], is_network: bool) -> None:
    images, truth = records.read_images(records.TEST)
    rows, bins, outputs = [], [], []
    weights = None
    for seed in seeds:
        run = records.run_path(variant, seed)
        facts = records.read_facts(run)
        model = records.read_model(run, facts)
        output = predict(model, images)
        loss = cross_entropy if is_network else squared_error
        rows.append(
            {
                **{"seed": seed, "key": facts["key"], "data": facts["digests"]["data"]},
                "test_loss": loss(output, truth),
                "test_accuracy": float((output.argmax(axis=1) == truth).mean()),
                **{name: facts[name] for name in records.TEST_COLUMNS[5:]},
            }
        )
        outputs.append(output)
        if is_network:
            table = calibration(output, truth)
            table.insert(0, "seed", seed)
            bins.append(table)
        if weights is None and len(model.get_weights()) == 2 and not is_network:
            weights = model.get_weights()[0].T.reshape(-1, 28, 28)
    predicted = np.stack(outputs).argmax(axis=2).astype(np.uint8)
    indices = hardest(predicted, truth, HARDEST)
    records.write_arrays(
        records.predictions_path(variant),
        compressed=True,
        labels=predicted,
        ensemble=np.mean(outputs, axis=0).argmax(axis=1).astype(np.uint8),
        truth=truth,
        hardest=indices,
        hardest_images=images[indices],
        **({} if weights is None else {"weights": weights}),
    )
    empty = pd.DataFrame(columns=records.CALIBRATION_COLUMNS)
    records.write_table(records.calibration_path(variant), pd.concat(bins) if bins else empty)
    whole = {"epochs": "Int64", "best_epoch": "Int64"}
    table = pd.DataFrame(rows, columns=records.TEST_COLUMNS).astype(whole)
    records.write_table(records.scores_path(variant), table)


def predict(model, images: np.ndarray) -> np.ndarray:  # type: ignore[no-untyped-def]
    """Outputs float32 [n, 10] for images uint8 [n, 28, 28]."""
    import keras

    batches = [model(images[start : start + BATCH], training=False) for start in range(0, len(images), BATCH)]
    return np.concatenate([np.asarray(keras.ops.convert_to_numpy(batch), np.float32) for batch in batches])


@records.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__)
    parser.add_argument("variant", help="a variant in params.yaml")
    variant = parser.parse_args().variant
    study = params.load()
    recipe = study.recipe(variant)
    # One thread: the number of threads decides the last bits of a loss. Set before TensorFlow is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    evaluate(variant, study.seeds, recipe.family == "network")


if __name__ == "__main__":
    main()
