"""Draw digits in the page of a running server, and count how many are read right.

`python -m benchmarks.drawing` draws the strokes of benchmarks/handwriting.py with the mouse in a headless Chromium, on
the page that `make serve` serves, and writes benchmarks/DRAWING.md.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from benchmarks.handwriting import PENS, SIDE, written
from many_seeds.commands import console
from many_seeds.errors import UserError
from stages.study import files

REPORT = Path("benchmarks/DRAWING.md")
SEED = 1
PATIENCE = 60  # seconds
EVERY = 3  # one of so many points of a stroke is a movement of the mouse


def browser() -> Chrome:
    """A headless Chromium.

    Raises:
        UserError: there is none.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        raise UserError("chromium and chromedriver should be installed")
    options = ChromeOptions()
    options.binary_location = program
    for flag in ("headless", "no-sandbox", "disable-gpu"):
        options.add_argument(f"--{flag}")
    return Chrome(options, ChromeService(driver))


def draw(page: Chrome, strokes: list[np.ndarray]) -> str:
    """The answer of the page to a drawing, empty if it was refused.

    Args:
        page: with the page of the server.
        strokes: points [n, 2] of each, across and down, in pixels of a drawing of SIDE².
    """
    canvas = page.find_element(By.ID, "canvas")
    scale = canvas.rect["width"] / SIDE
    mouse = ActionBuilder(page, duration=0)
    for stroke in strokes:
        (x, y), *rest = np.round((stroke[::EVERY] - SIDE / 2) * scale).astype(int).tolist()
        mouse.pointer_action.move_to(canvas, x, y).pointer_down()
        for x, y in rest:
            mouse.pointer_action.move_to(canvas, x, y)
        mouse.pointer_action.pointer_up()
    mouse.perform()
    return str(WebDriverWait(page, PATIENCE, 0.02).until(_answer)).removeprefix("refused")


def _answer(page: Chrome) -> Any:
    """The class in the answer, "refused" for a problem; None before the whole drawing was classified."""
    if page.find_element(By.ID, "result").get_attribute("aria-busy") == "true":
        return None
    found = page.find_elements(By.CSS_SELECTOR, "#answer strong")
    if found:
        return found[0].text
    return "refused" if page.find_element(By.ID, "problem").is_displayed() else None


@console.command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawing", description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="http://127.0.0.1:5001/", help="of the server (default: %(default)s)")
    parser.add_argument("--digits", type=int, default=200, help="how many are drawn (default: %(default)s)")
    arguments = parser.parse_args()
    generator = np.random.default_rng(SEED)
    labels = (np.arange(arguments.digits) % 10).tolist()
    with browser() as page:
        answers = []
        for label in labels:
            page.get(arguments.url)
            WebDriverWait(page, PATIENCE, 0.02).until(lambda page: page.find_element(By.ID, "canvas").is_displayed())
            strokes, _ = written(label, generator, PENS["pen"])
            answers.append(draw(page, strokes))
        model = page.find_element(By.ID, "model").text.partition(" Chosen by ")[0]
    files.write_bytes(REPORT, report(model, labels, answers).encode())
    print(REPORT.read_text(encoding="utf-8"))


def report(model: str, labels: list[int], answers: list[str]) -> str:
    """The result in Markdown.

    Args:
        model: what the page says about the model.
        labels: the digits.
        answers: of the page.
    """
    pairs = [(str(label), answer) for label, answer in zip(labels, answers, strict=True)]
    right, refused = sum(label == answer for label, answer in pairs), answers.count("")
    wrong = ", ".join(f"{label} as {answer}" for label, answer in pairs if answer not in ("", label)) or "none"
    return f"""\
# Digits drawn in the page of the server

`python -m benchmarks.drawing`: handwriting of [handwriting.py](handwriting.py), drawn stroke by stroke with the mouse
in a headless Chromium. The page says: "{model}"

Read right: {right} of {len(pairs)} digits ({100 * right / len(pairs):.1f} %). Refused: {refused}. Misread: {wrong}.
"""


if __name__ == "__main__":
    main()
