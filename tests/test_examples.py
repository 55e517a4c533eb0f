"""Documentation holds: its Python examples run, those of docstrings too, and no name is missing."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import hybridcore

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
PYTHON_BLOCK = re.compile(
    r"(?P<not_run><!-- not run: .+ -->\s+)?^```python\n(?P<source>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MODULES = [
    "hybridcore",
    *(
        found.name
        for found in pkgutil.walk_packages(hybridcore.__path__, "hybridcore.")
        if not found.name.endswith(".__main__")  # importing it runs the program
    ),
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page(page: Path, tmp_path, monkeypatch) -> None:
    """The Python blocks of a page run one after the other, in an empty directory.

    A block with prompts must print what it says. One below ``<!-- not run: why -->`` is left out.
    """
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    namespace = {"__name__": "__main__"}
    for block in PYTHON_BLOCK.finditer(text):
        source, line = block["source"], text.count("\n", 0, block.start("source"))
        if block["not_run"]:
            continue
        if ">>> " in source:
            examples = doctest.DocTestParser().get_doctest(
                source, namespace, page.name, str(page), line
            )
            runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
            assert runner.run(examples, clear_globs=False).failed == 0
            namespace = examples.globs
        else:
            exec(compile("\n" * line + source, page, "exec"), namespace)


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name: str, tmp_path, monkeypatch) -> None:
    """Every example in a docstring prints what it says."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    assert doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("name", hybridcore.__all__)
def test_reference_tells_of(name: str) -> None:
    """Every public name is found in the reference."""
    module = getattr(hybridcore, name).__module__
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert f":: hybridcore.{name}\n" in reference or f"automodule:: {module}\n" in reference


def test_docstrings_of_native_modules_are_seen() -> None:
    """The walk reaches the compiled modules, or their examples would go unchecked."""
    assert "hybridcore._native.memory" in MODULES
