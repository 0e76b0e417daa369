"""Images as people have them, and what the study's best model makes of them."""

import io
import json
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from stages import files, predict, records
from stages.aggregate import summary
from stages.aggregate.runs import read_runs
from stages.errors import StudyError
from stages.evaluate import __main__ as evaluate
from stages.params import Params
from tests.conftest import ROOT

EXAMPLE = ROOT / "stages" / "example.png"
ORIENTATION = 0x0112  # of EXIF
LEFT_DOWN = 8  # to be turned by 90 degrees against the clock

STROKES = {
    "four": [[(170, 60), (70, 240), (240, 240)], [(180, 160), (180, 350)]],
    "seven": [[(70, 70), (230, 70), (130, 345)]],
    "one": [[(120, 110), (150, 60), (150, 340)]],
    "minus": [[(40, 200), (260, 190)]],
}


def drawn(name: str = "four", *, size: tuple[int, int] = (300, 400), width: int = 28) -> Image.Image:
    """A digit in black on white, by a thick pen."""
    image = Image.new("L", (300, 400), 255)
    for stroke in STROKES[name]:
        ImageDraw.Draw(image).line(stroke, fill=0, width=width, joint="curve")
    return image.resize(size)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def declared(width: int, height: int) -> bytes:
    """A PNG file that says it has so many pixels, and has none."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of two images in grey levels."""
    return float(np.abs(a.astype(int) - b).mean())


def transparent(ink: int) -> Image.Image:
    """The drawing in one brightness, on nothing."""
    image = Image.new("LA", (300, 400), (ink, 0))
    image.putalpha(ImageOps.invert(drawn()))
    return image


def photographed(image: Image.Image, *, grain: float) -> Image.Image:
    """The image on grey paper, darker to one side, with noise and a little out of focus."""
    grey = 60 + np.asarray(image, float) * (150 / 255) + np.linspace(-15, 15, image.width)
    noise = np.random.default_rng(0).normal(0, grain, grey.shape)
    return Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.5))


@pytest.mark.parametrize("name", STROKES)
@pytest.mark.parametrize("width", [6, 28])
def test_a_digit_fills_a_box_of_20_pixels_with_its_centre_of_mass_where_mnist_has_it(name: str, width: int) -> None:
    image = predict.prepare(saved(drawn(name, width=width)))
    assert image.shape == (28, 28)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 == 20
    assert image.max() == 255
    for axis in (0, 1):
        centre = (image.sum(axis=1 - axis) * np.arange(28.0)).sum() / image.sum()
        # MNIST's 70,000 digits all have it within half a pixel of 14, so far as the box stays in the image.
        at_edge = [rows, columns][axis][-1] == 27
        assert abs(centre - 14) <= 0.51 or at_edge


def test_the_proportions_of_a_digit_stay() -> None:
    image = predict.prepare(saved(drawn("one")))
    high, wide = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    box = ImageOps.invert(drawn("one")).getbbox()
    assert box is not None
    drawn_ratio = (box[2] - box[0]) / (box[3] - box[1])
    assert (wide[-1] - wide[0] + 1) / (high[-1] - high[0] + 1) == pytest.approx(drawn_ratio, abs=0.05)


def test_light_on_dark_is_prepared_as_dark_on_light() -> None:
    np.testing.assert_array_equal(
        predict.prepare(saved(drawn())), predict.prepare(saved(ImageOps.invert(drawn()))), strict=True
    )


def test_an_image_in_the_models_own_format_is_left_as_it_is(split_study: Path) -> None:
    images, _ = records.read_images(split_study / records.TEST)
    for image in images:
        np.testing.assert_array_equal(predict.prepare(saved(Image.fromarray(image))), image, strict=True)


def test_the_negative_of_such_an_image_is_turned_to_light_on_dark(split_study: Path) -> None:
    images, _ = records.read_images(split_study / records.TEST)
    negative = predict.prepare(saved(Image.fromarray(255 - images[0])))
    assert np.median(negative) == 0
    assert negative.max() == 255


@pytest.mark.parametrize(
    "content_of",
    [
        pytest.param(lambda: saved(drawn(), "JPEG", quality=90), id="jpeg"),
        pytest.param(lambda: saved(drawn().convert("CMYK"), "JPEG", quality=90), id="jpeg for print"),
        pytest.param(
            lambda: saved(drawn(), "MPO", save_all=True, append_images=[drawn("one")]), id="two pictures of a phone"
        ),
        pytest.param(lambda: saved(ImageOps.colorize(drawn(), "navy", "lightyellow")), id="blue ink on yellow paper"),
        pytest.param(lambda: saved(drawn().convert("RGBA")), id="opaque rgba"),
        pytest.param(lambda: saved(transparent(0)), id="black ink on nothing"),
        pytest.param(lambda: saved(transparent(255)), id="white ink on nothing"),
        pytest.param(lambda: saved(drawn().convert("P")), id="palette"),
        pytest.param(lambda: saved(drawn().convert("P"), transparency=255), id="palette with a transparent colour"),
        pytest.param(
            lambda: saved(drawn().convert("RGB"), transparency=(255, 255, 255)), id="rgb with a transparent colour"
        ),
        pytest.param(lambda: saved(drawn().convert("1")), id="one bit"),
        pytest.param(lambda: saved(Image.fromarray(np.asarray(drawn()).astype(np.uint16) * 100 + 20_000)), id="16 bit"),
        pytest.param(
            lambda: saved(drawn(), save_all=True, append_images=[drawn("one")]), id="the first frame of an animation"
        ),
        pytest.param(lambda: saved(drawn(size=(3000, 4000))), id="12 megapixels"),
        pytest.param(lambda: saved(photographed(drawn(), grain=8), "JPEG", quality=60), id="a photo"),
        pytest.param(
            lambda: saved(photographed(drawn(size=(1500, 2000)), grain=40), "JPEG"), id="a large photo in bad light"
        ),
    ],
)
def test_the_same_digit_stored_otherwise_is_prepared_alike(content_of: Callable[[], bytes]) -> None:
    expected = predict.prepare(saved(drawn()))
    assert distance(predict.prepare(content_of()), expected) < 3
    assert distance(predict.prepare(saved(drawn("seven"))), expected) > 20  # another digit


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photo_is_turned_as_its_camera_says(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = LEFT_DOWN
    turned = saved(drawn().transpose(Image.Transpose.ROTATE_270), kind, exif=exif)
    assert distance(predict.prepare(turned), predict.prepare(saved(drawn()))) < 3


SOUND = saved(drawn())
NOISE = saved(Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 300), np.uint8)), "JPEG")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "the image is empty", id="empty"),
        pytest.param(b"a digit", "expected an image in PNG or JPEG format, received.*b'a digit'", id="text"),
        pytest.param(saved(drawn(), "GIF"), r"PNG or JPEG format.*b'GIF8", id="gif"),
        pytest.param(saved(drawn(), "WEBP"), r"PNG or JPEG format.*b'RIFF", id="webp"),
        pytest.param(saved(drawn(), "TIFF"), r"PNG or JPEG format.*b'II", id="tiff"),
        pytest.param(saved(drawn(), "PDF"), r"PNG or JPEG format.*b'%PDF", id="pdf"),
        pytest.param(SOUND[:6], "PNG or JPEG format", id="the start of a signature"),
        pytest.param(SOUND[: len(SOUND) // 2], "damaged or cut off", id="half a png"),
        pytest.param(NOISE[: len(NOISE) // 2], "damaged or cut off", id="half a jpeg"),
        pytest.param(SOUND[:60] + b"\0\0\0\0" + SOUND[64:], "damaged or cut off", id="overwritten"),
        pytest.param(declared(60_000, 60_000), "at most 16 megapixels", id="3,600 megapixels"),
        pytest.param(declared(10_000, 10_000), "at most 16 megapixels", id="100 megapixels"),
        pytest.param(declared(4_001, 4_000), "at most 16 megapixels", id="just too many pixels"),
        pytest.param(declared(4_000, 4_000), "damaged or cut off", id="just few enough pixels"),
        pytest.param(SOUND + bytes(10_000_000), "at most 10 MB", id="too many bytes"),
        pytest.param(saved(Image.new("L", (300, 400), 255)), "the image is blank", id="white"),
        pytest.param(saved(Image.new("L", (28, 28), 0)), "the image is blank", id="black"),
        pytest.param(
            saved(photographed(Image.new("L", (300, 400), 255), grain=2)), "the image is blank", id="a photo of paper"
        ),
        pytest.param(saved(Image.new("RGBA", (300, 400))), "the image is blank", id="nothing"),
        pytest.param(saved(Image.new("L", (1, 1), 9)), "the image is blank", id="one pixel"),
    ],
)
def test_a_bad_image_has_an_error_of_its_own(content: bytes, said: str) -> None:
    """Of too many pixels it says so before it finds out that there are none: nothing was decoded."""
    with pytest.raises(StudyError, match=said):
        predict.prepare(content)


@pytest.fixture(params=["ridge", "watched"])
def champion(request: pytest.FixtureRequest, evaluated: Path, study: Params) -> str:
    """The variant that is made the champion of the study in the current folder."""
    variant: str = request.param
    files.write_json(records.CHAMPION, summary.champion({variant: read_runs(study)[variant]}))
    return variant


def image_files(folder: Path, count: int) -> list[str]:
    """The first test images as PNG files."""
    names = []
    for number, image in enumerate(records.read_images(records.TEST)[0][:count]):
        path = folder / f"{number}.png"
        path.write_bytes(saved(Image.fromarray(image)))
        names.append(str(path))
    return names


def run_main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["predict", *arguments])
    predict.main()


@pytest.mark.parametrize("other", [{"key": "of a run that was replaced"}, {"seed": 7}])
def test_a_champion_of_other_runs_than_those_evaluated_is_refused(
    champion: str, other: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_json(records.CHAMPION, files.read_json(records.CHAMPION) | other)
    with pytest.raises(SystemExit, match=r"champion\.json names seed \d of other runs than .*test\.csv has: run `dvc"):
        run_main(monkeypatch, *image_files(tmp_path, 1))


@pytest.mark.parametrize("vote", [False, True])
def test_files_get_the_labels_that_evaluate_found(
    champion: str, vote: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_main(monkeypatch, *image_files(tmp_path, 360), "--json", *(["--vote"] if vote else []))
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    predictions = files.read_arrays(records.predictions_path(champion))
    best = predict.read_champion()["seed"]  # also the place of its row: the seeds are 0 and 1
    expected = predictions["ensemble"] if vote else predictions["labels"][best]
    assert [answer["digit"] for answer in answers] == expected.tolist()
    assert [answer["image"] for answer in answers] == [str(tmp_path / f"{number}.png") for number in range(360)]
    for answer in answers:
        assert answer["probability"] == max(answer["probabilities"])
        assert min(answer["probabilities"]) >= 0
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_of_more_seeds_than_vote_the_first_are_asked_and_the_best_one_answers_alone(
    evaluated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one that votes, and another that is the best."""
    assert predict.VOTERS == evaluate.VOTERS
    monkeypatch.setattr(predict, "VOTERS", 1)
    images = records.read_images(records.TEST)[0][:50]
    table, runs = records.read_scores("watched"), records.MODELS / "watched"
    champion = predict.Champion(1, table["key"][1], records.scores_path("watched"), runs, vote=True)
    for vote, seed in ((True, 0), (False, 1)):
        model = records.read_model(runs / str(seed), records.read_facts(runs / str(seed)))
        np.testing.assert_allclose(champion.probabilities(images, vote=vote), model(images), atol=1e-6)


def test_the_nearest_probabilities_are_those_worked_by_hand() -> None:
    outputs = np.array([[0.9, 0.5, -0.2], [0.2, 0.3, 0.5], [3.0, 0.0, 1.0], [0.1, 0.1, 0.1]], np.float32)
    # The first two exceed 1 by 0.4, which each gives back half of; the last three lack 0.7.
    expected = [[0.7, 0.3, 0.0], [0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3]]
    np.testing.assert_allclose(predict.nearest_probabilities(outputs), expected, atol=1e-6)


def test_a_bad_file_is_named_and_the_others_are_classified(
    champion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = image_files(tmp_path, 2)
    (tmp_path / "notes.png").write_text("a digit")
    with pytest.raises(SystemExit, match="1"):
        run_main(monkeypatch, first, f"{tmp_path}/notes.png", f"{tmp_path}/none.png", str(tmp_path), second, second)
    said = capsys.readouterr()
    assert re.findall(r"error: (\S+): (\w+ \w+)", said.err) == [
        (f"{tmp_path}/notes.png", "expected an"),
        (f"{tmp_path}/none.png", "there is"),
        (f"{tmp_path}", "this is"),
    ]
    assert [line.split(":")[0] for line in said.out.splitlines()] == [first, second, second]
    assert all(re.search(r": \d \(-?\d+\.\d\d %\), then \d \(-?\d+\.\d\d %\)$", line) for line in said.out.splitlines())


@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_the_command_says_the_digit_and_nothing_else(champion: str) -> None:
    """In a process of its own: TensorFlow greets whoever starts it."""
    command = [sys.executable, "-m", "stages.predict", str(EXAMPLE)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stderr == ""
    assert len(answer.stdout.splitlines()) == 1


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def another_key(path: Path) -> None:
    facts = files.read_json(path.with_name("run.json"))
    files.write_json(path.with_name("run.json"), {**facts, "key": "of another training"})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            Path.unlink,
            r"models/watched/0/model\.keras is missing: run `dvc pull` where there is a remote, or `dvc repro`",
        ),
        (damage, r"models/watched/0/model\.keras is damaged"),
        (another_key, r"models/watched/0 holds another run than the one that was evaluated: run `dvc repro`"),
    ],
)
@pytest.mark.parametrize("champion", ["watched"], indirect=True)
def test_models_that_are_not_those_of_the_results_are_refused(
    champion: str, change: Callable[[Path], None], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(records.run_path("watched", 0) / "model.keras")
    with pytest.raises(SystemExit, match=said):
        run_main(monkeypatch, str(EXAMPLE), "--vote")


def test_without_a_champion_the_error_says_why(evaluated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"metrics/champion\.json is missing: run `dvc repro`"):
        run_main(monkeypatch, str(EXAMPLE))
    files.write_json(records.CHAMPION, None)
    with pytest.raises(SystemExit, match=r"names no model: no variant in params\.yaml has a dev split"):
        run_main(monkeypatch, str(EXAMPLE))
