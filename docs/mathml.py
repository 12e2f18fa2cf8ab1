"""Formulas as MathML, made while building: no script and no font is fetched to read them."""

from __future__ import annotations

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator


def _inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: HTML5Translator, node: nodes.math_block) -> None:
    formula = node.astext().strip()
    # Several lines are one aligned block, as in LaTeX's own environments.
    if "\\\\" in formula and "\\begin" not in formula:
        formula = rf"\begin{{split}}{formula}\end{{split}}"
    body = convert(formula, display="block")
    translator.body.append(f'<div class="math notranslate nohighlight">{body}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer under the name `mathml`."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
