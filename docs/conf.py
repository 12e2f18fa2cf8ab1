"""Configuration of the documentation; `make docs` builds it without a network."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from surefoot import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "surefoot"
author = "The surefoot authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "mathml",
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
default_role = "code"

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
napoleon_numpy_docstring = False
napoleon_attr_annotations = False
napoleon_custom_sections = ["Keywords"]
# Types and bases come from packages whose own documentation is not at hand offline.
nitpick_ignore_regex = [("py:.*", r"(keras|tensorflow|tf|jax|torch|numpy)\..*")]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["formulas.css"]
html_title = f"surefoot {version}"
html_math_renderer = "mathml"
html_show_sourcelink = False


def _is_for_the_package(
    app: Any, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out methods of optimizers that only the package calls: they explain no arguments."""
    del app, what, options
    function = getattr(member, "__func__", member)
    if skip or name == "get_config" or not inspect.isfunction(function):
        return None
    if not re.match(r"surefoot\.(base|legacy_api|optimizers)\.", function.__module__):
        return None
    sections = r"^(Args|Returns|Yields|Raises|Example):$"
    return None if re.search(sections, inspect.getdoc(function) or "", re.M) else True


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("autodoc-skip-member", _is_for_the_package)
