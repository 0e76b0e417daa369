"""The report: one page that stands by itself."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2

from stages import git
from stages.aggregate.present import Shown
from stages.params import Params

PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Picture:
    """A figure of the report: an <svg> element, and the sentence under it."""

    name: str
    svg: str
    caption: str


@dataclass(frozen=True)
class Section:
    id: str
    title: str
    intro: str
    parts: Sequence[Shown | Picture]


def render(
    title: str, sentence: str, first: Sequence[Shown | Picture], sections: Sequence[Section], study: Params
) -> str:
    """The page as HTML: no file, font or script from elsewhere."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.tests["picture"] = lambda part: isinstance(part, Picture)
    page = environment.get_template("report.html.j2").render(
        title=title,
        sentence=sentence,
        first=first,
        sections=sections,
        data=study.data.name,
        seeds=study.seeds,
        variants=list(study.variants),
        dev_percent=f"{100 * study.split.dev_fraction:g}",
        versions=pinned_versions(),
        commit=git.code_commit(),
    )
    return page.replace(" %", "\N{NO-BREAK SPACE}%")


def pinned_versions(pyproject: Path = Path("pyproject.toml")) -> list[str]:
    """The pins, such as "keras 3.15.1", of the packages that results depend on."""
    project = tomllib.loads(pyproject.read_text())["project"]
    pins = [*project["optional-dependencies"]["cpu"], *project["dependencies"]]
    named = [pin.split(";")[0].strip().split("==") for pin in pins]
    return [f"{name} {version}" for name, version in named if name in PACKAGES]
