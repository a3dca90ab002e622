"""Settings of the documentation site: ``make docs`` builds it into ``docs/_build/html``."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main
from docutils import nodes
from rich.text import Text
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util import logging
from typer.cli import get_docs_for_click

from cell_lm import __version__
from cell_lm.cli import build_app

HERE = Path(__file__).parent
ROOT = HERE.parent
REPOSITORY = "https://github.com/cell-lm/cell-lm"
LOG = logging.getLogger(__name__)

project = "cell-lm"
author = "The cell-lm developers"
copyright = author  # noqa: A001
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinxcontrib.bibtex",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "_templates", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
html_static_path = ["_static"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
"""Notebooks are shown as they are committed; ``make tutorials`` runs them."""

autosummary_generate = True
FOREIGN = "Module, BaseEstimator, ClassifierMixin, BaseModel, Exception, tuple, dict, Sampler"
autodoc_default_options = {"inherited-members": FOREIGN}
"""The members of these bases, of other packages, are left out."""
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_param = False
napoleon_use_ivar = True
strip_signature_backslash = True  # keeps the underscore that fitted attributes end in
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

html_theme = "sphinx_book_theme"
html_title = "cell-lm"
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": REPOSITORY,
    "path_to_docs": "docs",
    "use_repository_button": True,
    "use_issues_button": True,
    "show_navbar_depth": 1,
    "max_navbar_depth": 2,
    "collapse_navbar": True,
    "home_page_in_toc": True,
    "navbar_start": [],
    "navbar_persistent": [],
}

LINK = re.compile(r"(?<=\]\()(?P<path>\.{2}/[^)#\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
"""A link of a Markdown page to a file by a path that goes up."""


def link_to_repository(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links to files outside of ``docs`` into links to the repository; warn of files that are not there."""
    folder = (HERE / page).parent

    def rewritten(link: re.Match[str]) -> str:
        target = (folder / link["path"]).resolve()
        if target.is_relative_to(HERE):
            return link[0]
        if not target.exists():
            LOG.warning("no such file: %s", link["path"], location=page)
        kind = "tree" if target.is_dir() else "blob"
        return f"{REPOSITORY}/{kind}/main/{target.relative_to(ROOT)}{link['anchor'] or ''}"

    source[0] = LINK.sub(rewritten, source[0])


def write_commands(app: Sphinx) -> None:
    """Write the page of all verbs and their options, from the command line itself."""
    command = typer.main.get_command(build_app())
    context = typer.Context(command, info_name="cell-lm")
    page = get_docs_for_click(obj=command, ctx=context, name="cell-lm", title="Command line")
    (HERE / "commands.md").write_text(Text.from_markup(page).plain)


ROUTING = re.compile(r"set_\w+_request|get_metadata_routing")
"""Methods that scikit-learn adds to every estimator."""
OF_SUBCLASSES = {"unsaved", "kinds", "refuses_gaps", "reads_z_scores", "cut_like_fit", "placed", "labelled", "caller_"}
"""What the estimators of this package are written with, and their users do not need."""


def skip_internals(app: Sphinx, kind: str, name: str, member: object, skip: bool, options: object) -> bool | None:
    """Leave out methods that are not for users."""
    return True if ROUTING.fullmatch(name) or name in OF_SUBCLASSES else None


def unlink_plain_words(app: Sphinx, doctree: nodes.document) -> None:
    """Take words of a type or shape, such as ``cells`` in ``int32 [cells]``, for words, not for attributes so named."""
    for link in list(doctree.findall(pending_xref)):
        if link.get("refdomain") == "py" and link.get("refspecific") and re.fullmatch("[a-z]+", link["reftarget"]):
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", skip_internals)
    app.connect("builder-inited", write_commands)
    app.connect("source-read", link_to_repository)
    app.connect("doctree-read", unlink_plain_words)
