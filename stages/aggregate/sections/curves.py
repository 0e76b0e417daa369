"""Learning curves of the variants that are trained by epochs."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter

from many_seeds.output.plots import BLUE, ORANGE, band, panels, styled
from stages.aggregate.report.figures import log_ticks
from stages.aggregate.report.parts import Part, Plot
from stages.aggregate.runs import Runs, VariantRuns, shared_seeds


def parts(shown: Sequence[VariantRuns]) -> list[Part]:
    return [
        Plot(
            f"curves_{variant.variant}",
            figure(variant),
            f"{variant.variant}: median and range over the seeds that are still training.",
            _numbers(variant),
        )
        for variant in shown
        if "epoch" in variant.curves and variant.curves["loss"].notna().any()  # all may have diverged at once
    ]


def _numbers(variant: VariantRuns) -> str:
    """The medians of the last epoch in words."""
    epoch = variant.curves["epoch"].max()
    last = variant.curves[variant.curves["epoch"] == epoch].median(numeric_only=True)
    shown = {"training loss": "loss", "training accuracy": "accuracy", "validation loss": "val_loss"}
    shown["validation accuracy"] = "val_accuracy"
    scores = [f"{label} {last[column]:.4f}" for label, column in shown.items() if pd.notna(last[column])]
    return f"Medians of epoch {epoch:.0f}: {', '.join(scores)}."


def validation_losses(runs: Runs) -> pd.DataFrame:
    """Mean validation loss by epoch: variant, epoch, n seeds that are still training, val_loss.

    For the variants with a validation split, over the seeds that all of them have.
    """
    validated = [of for of in runs.values() if "epoch" in of.curves and of.curves["val_loss"].notna().any()]
    found = [pd.DataFrame(columns=["variant", "epoch", "n", "val_loss"])]
    for variant in validated:
        seeds = variant.scores["seed"].head(shared_seeds(validated))
        curves = variant.curves[variant.curves["seed"].isin(seeds)]
        by_epoch = curves.groupby("epoch")["val_loss"].agg(["count", "mean"]).reset_index()
        by_epoch.columns = found[0].columns[1:]
        by_epoch = by_epoch[by_epoch["n"] > 0]  # the loss of an epoch in which a run diverged is missing
        found.append(by_epoch.assign(variant=variant.variant)[found[0].columns])
    return pd.concat(found[1:] or found, ignore_index=True)


@styled
def figure(variant: VariantRuns) -> Figure:
    """Loss and accuracy by epoch: median and range over the seeds that are still training."""
    drawn, axes = panels(4.2, rows=2)
    for ax, score in zip(axes[:, 0], ("loss", "accuracy"), strict=True):
        for column, label, color in ((score, "training", ORANGE), (f"val_{score}", "validation", BLUE)):
            table = variant.curves.pivot_table(index="epoch", columns="seed", values=column)
            if table.empty:
                continue
            band(ax, table.index, table.min(axis=1), table.max(axis=1), color)
            lone, named = "o" if len(table) == 1 else "", label if score == "loss" else None
            ax.plot(table.index, table.median(axis=1), color=color, marker=lone, label=named)
        ax.set_ylabel(score)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        ax.grid(axis="y")
    axes[1, 0].set_xlabel("epoch")
    upper = axes[0, 0]
    upper.set_yscale("log")
    upper.set_yticks(log_ticks(*upper.get_ylim()))
    upper.yaxis.set_major_formatter("{x:g}")
    upper.yaxis.set_minor_formatter(NullFormatter())
    drawn.legend(loc="outside upper left", ncols=2)
    return drawn
