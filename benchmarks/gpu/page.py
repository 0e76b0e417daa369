"""Write README.md from gpu.json: `python -m benchmarks.gpu.page`."""

from pathlib import Path
from typing import Any

from benchmarks.gpu.forms import FORMS, TODAYS
from benchmarks.gpu.roofline import step_of
from many_seeds.commands import console
from stages.recipes.network import Recipe
from stages.recipes.shared.models import layer_seeds
from stages.study import files, params

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ROOFLINE_LANES = 64  # where the device is busy
IMAGE_SHAPE, CLASSES = (28, 28), 10  # of MNIST


def page(facts: dict[str, Any]) -> str:
    parts = [
        _opening(facts["device"]),
        "## Speed of batched seeds\n\n" + _speed(facts),
        "## Against the limits of the device\n\n" + _roofline(facts),
        "## Other forms of convolutions\n\n" + _forms(facts),
        "## All 18 variants, ten seeds each\n\n" + _study(facts["study"]),
        "## 64 seeds\n\n" + _seeds(facts),
        _how(),
    ]
    return "\n".join(parts)


def _opening(devices: dict[str, dict[str, Any]]) -> str:
    lines = [
        f"- {name}: {device['device']}, JAX {device['jax']}; measured: {device['tflops']['float32']:.0f} TFLOP/s in "
        f"float32 products as JAX runs them (TF32), {device['tflops']['bfloat16']:.0f} in bfloat16, "
        f"{device['copy_gb_s'] / 1000:.1f} TB/s of copies"
        for name, device in devices.items()
    ]
    title = (
        "# Batched seeds on a GPU\n\nAll seeds of a variant train as one batch; a lane is the place of a seed in it."
    )
    return "\n".join([title, "", *lines, ""])


def _speed(facts: dict[str, Any]) -> str:
    rows = [
        "| variant | lanes | epoch of all lanes, s | seeds per minute | Keras's `fit`, seeds per minute | ratio "
        "| share of peak | memory, GiB | compilation, s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(facts["lanes"].items(), key=lambda item: _order(item[0])):
        variant, lanes = _order(name)
        rows.append(
            f"| {variant} | {lanes} | {row['epoch_seconds']:.3g} | {row['seeds_per_minute']:.3g} "
            f"| {row['fit_seeds_per_minute']:.2g} | {row['ratio_to_fit']:.0f} | {row['share_of_peak']:.1%} "
            f"| {row['gib']:.2g} | {row['compile_seconds']:.0f} |"
        )
    said = (
        "\n\nAn epoch consists of its steps, timed for a second after compilation, and the evaluation on the "
        "validation split. `fit` is an epoch of `model.fit` on arrays, on the same device, one seed after the other. "
        "Seeds per minute are for the mean number of epochs of the study's ten seeds. n = 1.\n\n"
    )
    return "\n".join(rows) + said


def _roofline(facts: dict[str, Any]) -> str:
    study, device = params.load(ROOT / params.PARAMS), facts["device"]["table and study"]
    rows = [
        "| variant | bytes, MB | bytes if fused, MB | operations, 10⁶ | step, ms | share of the bound "
        "| share of the bound if fused | share of peak | greatest share of peak if fused |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(facts["lanes"].items()):
        variant, lanes = _order(name)
        if lanes != ROOFLINE_LANES:
            continue
        recipe = study.recipe(variant)
        assert isinstance(recipe, Recipe)
        step = step_of(recipe.build(IMAGE_SHAPE, CLASSES, layer_seeds(0)), recipe.batch_size)
        milliseconds = row["step_ms"] / lanes
        bound, fused = 1e3 * step.bound(device), 1e3 * step.bound(device, fused=True)
        products = step.operations / (device["tflops"]["float32"] * 1e9)
        rows.append(
            f"| {variant} | {step.bytes / 1e6:.1f} | {step.fused_bytes / 1e6:.1f} | {step.operations / 1e6:,.0f} "
            f"| {milliseconds:.4f} | {bound / milliseconds:.0%} | {fused / milliseconds:.0%} "
            f"| {products / milliseconds:.1%} | {products / fused:.1%} |"
        )
    said = (
        f"\n\nA training step of one lane among {ROOFLINE_LANES}. Bytes and operations are counted from the layers "
        "([roofline.py](roofline.py)). The bound is the time that the device needs for the bytes or the operations, "
        "whichever is longer; here it is the bytes. *Fused*: a layer, its activation, pooling and dropout are one "
        "kernel, and Adam's update is part of the product that gives the gradient. The memory limits these networks: "
        "even fused, they could not reach more of the peak of matrix products than in the last column.\n\n"
    )
    return "\n".join(rows) + said


def _forms(facts: dict[str, Any]) -> str:
    said = (
        "Two forms of convolutions move fewer bytes than today's. *First as shifts*: the first convolution with its "
        "ReLU and pooling is a sum of shifted images, computed again in the backward pass. *Short patches*: patches of "
        "float32 convolutions have 16 bits."
    )
    measured = {name: row for name, row in facts.get("forms", {}).items() if "epoch_seconds" in row}
    if not measured:
        return f"{said} They are not measured on a GPU, and no study uses them.\n\n"
    rows = [
        "| variant | lanes | form | bytes, MB | epoch of all lanes, s | ratio to today's |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_form_row(name, row, measured) for name, row in measured.items()),
    ]
    return "\n".join([said, "", *rows, "", "Bytes are those of a training step of one lane, as above. n = 1.\n\n"])


def _form_row(name: str, row: dict[str, Any], measured: dict[str, Any]) -> str:
    case, form = name.split(": ")
    variant, lanes = _order(case)
    recipe = params.load(ROOT / params.PARAMS).recipe(variant)
    assert isinstance(recipe, Recipe)
    step = step_of(recipe.build(IMAGE_SHAPE, CLASSES, layer_seeds(0)), recipe.batch_size, FORMS[form])
    todays = measured.get(f"{case}: {TODAYS}")
    ratio = f"{row['epoch_seconds'] / todays['epoch_seconds']:.2f}" if todays else "–"
    return f"| {variant} | {lanes} | {form} | {step.bytes / 1e6:.1f} | {row['epoch_seconds']:.3g} | {ratio} |"


def _order(name: str) -> tuple[str, int]:
    variant, _, lanes = name.split()
    return variant, int(lanes)


def _study(study: dict[str, Any]) -> str:
    ((_, took),) = study.items()
    return (
        f"{took['runs']} runs from the first command to the report: **{took['seconds']:.0f} s**, of which training "
        f"{took['train_seconds']:.0f}, evaluation {took['evaluate_seconds']:.0f}, aggregation "
        f"{took['aggregate_seconds']:.0f}; n = 1, compilation included.\n"
    )


def _seeds(facts: dict[str, Any]) -> str:
    rows = ["| variants | lanes | epochs of all lanes | training, s |", "| --- | --- | --- | --- |"]
    for name, row in facts["batches"].items():
        rows.append(f"| {name} | {row['lanes']} | {row['epochs']:,} | {row['train_seconds']:.0f} |")
    study = HERE / "study" / "metrics" / "tables"
    tables = [
        (study / f"{name}.md").read_text(encoding="utf-8").replace("## ", "### ")
        for name in ("comparisons", "ablations_mlp", "ablations_cnn")
    ]
    said = (
        "\n\nSeeds 0–9 are those of the study above, trained on its device. cnn_5_early_stopping, cnn_6_schedule and "
        "cnn_tuned have only these, since the device was no longer available. [study/](study) has all predictions and "
        "curves; `python -m stages.aggregate` in this folder writes all tables, figures and the report.\n\n"
    )
    return "\n".join(rows) + said + "\n".join(tables)


def _how() -> str:
    return (
        "\n## Method\n\n`python -m benchmarks.gpu FOLDER`, on a machine with Python 3.12, JAX for CUDA and a few "
        "wheels. `gpu.json` has the measurements.\n"
        "\n## Reproducibility\n\n"
        "On a GPU, results are reproducible in distribution, not to the bit. The bits of a run depend on how many "
        "seeds share its batch (`lanes` of its `run.json`), on when the other seeds stop, after which the batch "
        "may become narrower, and on the kernels that XLA's autotuning chooses, which may differ between processes. So "
        "the figures on this page and in `study/` belong to the commit that made them: later code, or another run of "
        "the same code, gives other bits with the same distribution.\n"
    )


@console.command
def main() -> None:
    files.write_bytes(HERE / "README.md", page(files.read_json(HERE / "gpu.json")).encode())


if __name__ == "__main__":
    main()
