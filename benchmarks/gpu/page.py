"""gpu.json as a page that people read: `python -m benchmarks.gpu.page` writes README.md beside it."""

from pathlib import Path
from typing import Any

from many_seeds import console
from stages.study import files

HERE = Path(__file__).parent


def page(facts: dict[str, Any]) -> str:
    parts = [
        _opening(facts["device"]),
        "## How fast lanes are\n\n" + _speed(facts),
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
    return "# All seeds of a variant at once, on a GPU\n\n" + "\n".join(lines) + "\n"


def _speed(facts: dict[str, Any]) -> str:
    rows = [
        "| variant | lanes | an epoch of all, s | seeds a minute | Keras's `fit`, seeds a minute | ratio "
        "| share of peak | memory, GiB | compiled in, s |",
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
        "\n\nAn epoch is its steps, timed for a second after they were compiled, and the look at the dev images. "
        "`fit` is an epoch of `model.fit` with arrays, as people write it, on the same device, one seed after the "
        "other. Seeds a minute are for the mean number of epochs that the study's ten seeds took. n = 1.\n\n"
    )
    return "\n".join(rows) + said


def _order(name: str) -> tuple[str, int]:
    variant, _, lanes = name.split()
    return variant, int(lanes)


def _study(study: dict[str, Any]) -> str:
    ((_, took),) = study.items()
    return (
        f"{took['runs']} runs from the first command to the report: **{took['seconds']:.0f} s**, of which training "
        f"{took['train_seconds']:.0f}, evaluation {took['evaluate_seconds']:.0f}, aggregation "
        f"{took['aggregate_seconds']:.0f}; n = 1, compiling included.\n"
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
        "\n\nSeeds 0–9 are those of the table above, from its device; cnn_5_early_stopping, cnn_6_schedule and "
        "cnn_tuned have no more, as the device's time was over. [study/](study) has every prediction and curve; "
        "`python -m stages.aggregate` there makes every table, figure and the report.\n\n"
    )
    return "\n".join(rows) + said + "\n".join(tables)


def _how() -> str:
    return (
        "\n## Measured how\n\n`python -m benchmarks.gpu FOLDER` on a machine with nothing but Python 3.12, JAX for "
        "CUDA and a few wheels; `gpu.json` has what it found.\n"
        "\n## What can be made again\n\n"
        "On a GPU, results are reproducible in distribution, not to the bit. The bits of a run depend on how many "
        "seeds share its batch (`lanes` of its `run.json`), on when the other seeds stop, after which the batch "
        "may go on narrower, and on the kernels that XLA's autotuning chooses, which may be others in another "
        "process. So the figures on this page and in `study/` belong to the commit that made them: later code, or "
        "the same code once more, gives other bits of the same distribution.\n"
    )


@console.command
def main() -> None:
    files.write_bytes(HERE / "README.md", page(files.read_json(HERE / "gpu.json")).encode())


if __name__ == "__main__":
    main()
