"""Configuration of the documentation; `make docs` builds it without a network."""

from __future__ import annotations

import sys
from pathlib import Path

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
