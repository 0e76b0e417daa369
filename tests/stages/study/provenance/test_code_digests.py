"""The edits of code that change a digest that follows imports, in a folder like stages/recipes."""

import pytest

from many_seeds.errors import UserError
from stages.study.provenance.code_digests import closure, import_digest

SOURCES = {
    "__init__.py": "",
    "shared/__init__.py": '"""What families share."""\n',
    "family.py": '''
"""A family."""

import math

import numpy as np

from many_seeds.errors import UserError
from stages.recipes.shared import rates
from stages.recipes.shared.fit import fit_model as fit, tolerance

LIMIT = 0.5  # of all


def train(x):
    """Train."""
    from stages.recipes.shared.saved import model_bytes

    if x > LIMIT:
        raise UserError(f"x should be small, received {x}")
    return model_bytes(fit(np.asarray(x), rates.constant(math.pi), tolerance))
''',
    "other.py": "from stages.recipes.shared.saved import model_bytes\n",
    "shared/rates.py": "from stages.recipes.shared.steps import scaled\n\n\ndef constant(x):\n    return scaled(x)\n",
    "shared/steps.py": "def scaled(x):\n    # by two\n    return x * 2\n",
    "shared/fit.py": "tolerance = 0.1\n\n\ndef fit_model(*x):\n    return x\n",
    "shared/saved.py": "def model_bytes(x):\n    return bytes(x)\n",
    "shared/unused.py": "def scaled(x):\n    return x * 2\n\n\ndef more(x):\n    return x\n",
}


def digest(sources: dict[str, str], *roots: str) -> str:
    return import_digest(roots or ("family.py",), tuple(sources.items()))


def edited(*edits: tuple[str, str, str]) -> dict[str, str]:
    """The sources with edits: file, old text, new text."""
    sources = dict(SOURCES)
    for file, old, new in edits:
        assert old in sources[file], (file, old)
        sources[file] = sources[file].replace(old, new)
    return sources


def moved(old: str, new: str, *edits: tuple[str, str, str]) -> dict[str, str]:
    """The sources with a file at another place, and edits of those that import it."""
    return {new if file == old else file: source for file, source in edited(*edits).items()}


def test_the_code_of_a_file_includes_its_transitive_imports() -> None:
    shared = {f"shared/{name}.py" for name in ("__init__", "rates", "steps", "fit", "saved")}
    assert set(closure(["family.py"], SOURCES)) == {"__init__.py", "family.py", *shared}
    assert closure(["other.py"], SOURCES) == ["__init__.py", "other.py", "shared/__init__.py", "shared/saved.py"]


@pytest.mark.parametrize(
    "sources",
    [
        edited(("family.py", "# of all", "# of each"), ("shared/steps.py", "    # by two\n", "")),
        edited(("family.py", '"""Train."""', '"""Fit."""'), ("shared/__init__.py", "What", "All that")),
        edited(("family.py", "x should be small, received {x}", "{x} is too much")),
        edited(("family.py", "from many_seeds.errors import UserError\n", "import many_seeds.errors\n")),
        edited(("family.py", "import math\n\nimport numpy as np\n", "import numpy as np\nimport math\n")),
        edited(
            ("family.py", "from stages.recipes.shared import rates\n", ""),
            ("family.py", "tolerance\n\nLIMIT", "tolerance\nfrom stages.recipes.shared import rates\n\nLIMIT"),
        ),
        edited(
            (
                "family.py",
                "fit_model as fit, tolerance\n",
                "tolerance\nfrom stages.recipes.shared.fit import fit_model as fit\n",
            )
        ),
        edited(("family.py", "from stages.recipes.shared.fit", "from .shared.fit")),
        edited(("shared/rates.py", "from stages.recipes.shared.steps", "from .steps")),
        moved("shared/fit.py", "shared/train/fit.py", ("family.py", "shared.fit", "shared.train.fit")),
        moved("shared/steps.py", "shared/factors.py", ("shared/rates.py", "shared.steps", "shared.factors")),
        moved(
            "shared/rates.py",
            "shared/learning_rates.py",
            ("family.py", "shared import rates", "shared import learning_rates"),
            ("family.py", "rates.constant", "learning_rates.constant"),
        ),
        moved(
            "shared/rates.py",
            "rates_of_all.py",
            (
                "family.py",
                "from stages.recipes.shared import rates",
                "from stages.recipes import rates_of_all as rates",
            ),
        ),
        edited(
            ("family.py", "from stages.recipes.shared import rates", "import stages.recipes.shared.rates"),
            ("family.py", "rates.constant", "stages.recipes.shared.rates.constant"),
        ),
        edited(("shared/unused.py", "x * 2", "x * 3"), ("other.py", "model_bytes", "missing")),
        {**SOURCES, "new.py": "import numpy\n", "shared/deep/__init__.py": ""},
    ],
    ids=[
        *["comments", "docstrings", "the text of an error", "the import of the error", "the order of imports"],
        *["the order of the project's imports", "imports in two lines", "relative imports", "a relative import"],
        *["a moved file", "a renamed file of another", "a renamed module", "a moved module", "the form of an import"],
        *["files that it does not import", "new files"],
    ],
)
def test_edits_that_decide_no_result_change_no_digest(sources: dict[str, str]) -> None:
    assert sources != SOURCES
    assert digest(sources) == digest(SOURCES)


@pytest.mark.parametrize(
    "sources",
    [
        edited(("family.py", "LIMIT = 0.5", "LIMIT = 0.6")),
        edited(("shared/steps.py", "x * 2", "x * 3")),
        edited(("shared/saved.py", "return bytes(x)", "return bytes(x + 1)")),
        edited(("shared/rates.py", "shared.steps", "shared.unused")),
        edited(("family.py", "fit_model as fit, tolerance", "tolerance as fit, fit_model as tolerance")),
        edited(("family.py", "import numpy as np", "import jax.numpy as np")),
        edited(("shared/__init__.py", "share.", 'share."""\nimport os\n"""')),
        edited(
            (
                "family.py",
                "from stages.recipes.shared import rates",
                "from stages.recipes.shared import unused as rates",
            )
        ),
        edited(
            ("family.py", "from stages.recipes.shared import rates", "import stages.recipes.shared.unused"),
            ("family.py", "rates.constant", "stages.recipes.shared.unused.scaled"),
        ),
    ],
    ids=[
        *["a constant", "a file that an imported one imports", "an import inside a function"],
        *["a name from another file", "swapped names", "another package", "code in a package", "another module"],
        "another module by its full name",
    ],
)
def test_edits_that_may_decide_a_result_change_the_digest(sources: dict[str, str]) -> None:
    assert digest(sources) != digest(SOURCES)


def test_a_local_name_is_distinguished_from_a_module_of_that_name() -> None:
    """The argument `rates` is not the module `rates`."""
    used, hidden = (
        f"from stages.recipes.shared import {name}\n\n\ndef f(rates):\n    return {name.split()[-1]}.constant(1)\n"
        for name in ("rates as module", "rates")
    )
    assert digest({**SOURCES, "family.py": used}) != digest({**SOURCES, "family.py": hidden})


def test_modules_with_functions_that_swap_a_name_have_different_digests() -> None:
    one, two = (
        "def f():\n    from stages.recipes.shared import {} as m\n    return m.scaled(1)\n"
        "def g():\n    from stages.recipes.shared import {} as m\n    return m.scaled(1)\n".format(*names)
        for names in (("steps", "unused"), ("unused", "steps"))
    )
    assert digest({**SOURCES, "family.py": one}) != digest({**SOURCES, "family.py": two})


def test_the_digest_of_two_roots_is_the_same_in_any_order_and_depends_on_both() -> None:
    both = digest(SOURCES, "family.py", "other.py")
    assert both == digest(SOURCES, "other.py", "family.py")
    assert both not in (digest(SOURCES, "family.py"), digest(SOURCES, "other.py"))


def test_a_cycle_of_imports_is_refused_with_its_files() -> None:
    sources = {**SOURCES, "shared/steps.py": "def scaled(x):\n    from stages.recipes.shared import rates\n"}
    with pytest.raises(UserError, match=r"in a cycle: shared/rates\.py → shared/steps\.py → shared/rates\.py"):
        digest(sources)


@pytest.mark.parametrize("line", ["import stages.recipes.shared", "from stages import recipes", "from . import shared"])
def test_the_import_of_a_whole_package_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"stages/recipes/family\.py imports stages\.recipes.*should name a module"):
        digest({**SOURCES, "family.py": line})


def test_the_import_of_a_missing_module_is_refused() -> None:
    with pytest.raises(UserError, match=r"stages/recipes/family\.py imports stages\.recipes\.shared\.gone\.f"):
        digest({**SOURCES, "family.py": "from stages.recipes.shared.gone import f"})
