"""The images of the study: how many there are of each class, and which of them it has twice."""

import pandas as pd

from many_seeds.output.plots import drawable
from stages.aggregate.report.parts import Part, Table, number, text
from stages.study.records.data_summary import MOST_NAMED, DataSummary


def parts(data: DataSummary) -> list[Part]:
    counts = pd.DataFrame({"class": list(data.train), "train": data.train.values(), "test": data.test.values()})
    caption = "" if data.between.count else "No test image has the same pixels as a training image."
    columns = [text("class", "class"), number("training images", "train"), number("test images", "test")]
    in_figures = drawable(list(data.train))[0]
    if in_figures != list(data.train):
        counts["in_figures"] = in_figures
        columns.append(text("in figures", "in_figures"))
    found: list[Part] = [Table("images", "Images of each class", caption, counts, columns, fold="Images of each class")]
    if sentences := [sentence for sentence, _ in data.warnings()]:
        rows = pd.DataFrame([copy.model_dump() for _, copies in data.warnings() for copy in copies.named])
        sentences.append(f"The first {MOST_NAMED} of each kind, those of another class first:")
        columns = [
            text("image", "image"),
            text("class", "label"),
            text("same pixels as", "other"),
            text("its class", "other_label"),
        ]
        found.append(Table("copies", "Images with the same pixels", " ".join(sentences), rows, columns))
    return found
