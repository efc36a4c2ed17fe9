"""The site: sphinx-build -W -b html doc FOLDER, without a network connection."""

import pathlib
import re
import shutil
import sys
import tomllib

from docutils import nodes
from sphinx.util import logging

import sknonlin

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for gallery.py

logger = logging.getLogger(__name__)

project = "sknonlin"
author = "the developers of sknonlin"
project_copyright = author
version = release = sknonlin.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
html_static_path = ["_static"]
exclude_patterns = ["examples", "auto_examples/**/*.ipynb", "auto_examples/README.rst"]
nitpicky = True
autodoc_typehints = "none"  # the docstrings say more

# Markdown -------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3


def link_gallery(app, document, content):
    """Pages link to an example's script, which GitHub can show; here, to its page."""
    if pathlib.Path(app.env.doc2path(document)).suffix == ".md":
        content[0] = re.sub(
            r"\]\((?:\.\./)*examples/(plot_\w+)\.py\)",
            r"](/auto_examples/\1.rst)",
            content[0],
        )


def keep_numbers_together(app, doctree):
    """Mark the cells of tables that have nothing but numbers, which must not break."""
    for cell in doctree.findall(nodes.entry):
        if re.fullmatch(r"[\d.,/()%x± -]+", cell.astext()):
            cell["classes"].append("number")


# API ------------------------------------------------------------------------------

autosummary_generate = True
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

SKLEARN = "https://scikit-learn.org/stable/modules/generated"


def resolve_short_names(app, env, node, contnode):
    """Find public names written without their module, and scikit-learn's pages."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if target.startswith("sklearn."):
        uri = f"{SKLEARN}/{target}.html"
        return nodes.reference("", "", contnode, internal=False, refuri=uri)
    domain = env.get_domain("py")
    found = [name for name in domain.objects if name.endswith(f".{target}")]
    if len(found) != 1:
        return None
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], found[0], node, contnode
    )


# Gallery --------------------------------------------------------------------------

if shutil.which("espeak-ng") is None:
    logger.info("plot_spoken_digits.py is shown but not run: espeak-ng is missing")
    to_run = "plot_(?!spoken_digits)"
else:
    to_run = "plot_"

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": to_run,
    "within_subsection_order": "gallery.place",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("sknonlin",),
    "remove_config_comments": True,
    "abort_on_example_error": False,
    "download_all_examples": False,
    "show_signature": False,
    "thumbnail_size": (800, 540),
    "nested_sections": False,
}

# Pages ----------------------------------------------------------------------------


def repository_links():
    """Link the repository, where pyproject.toml names it."""
    text = (pathlib.Path(__file__).parent.parent / "pyproject.toml").read_text()
    url = tomllib.loads(text)["project"].get("urls", {}).get("Repository")
    if url is None:
        return []
    return [{"name": "Repository", "url": url, "icon": "fa-solid fa-code-branch"}]


html_theme = "pydata_sphinx_theme"
html_title = "sknonlin"
html_logo = html_favicon = "_static/logo.svg"
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "sknonlin", "alt_text": "sknonlin: home"},
    "icon_links": repository_links(),
    "navbar_end": ["package-version", "theme-switcher", "navbar-icon-links"],
    "navbar_align": "left",
    "navbar_persistent": ["search-button"],
    "header_links_before_dropdown": 8,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
}
html_sidebars = {
    "index": [],
    "install": [],
    "whats_new": [],
    "contributing": [],
    "citing": [],
}


def setup(app):
    """Connect the functions above."""
    app.connect("source-read", link_gallery)
    app.connect("doctree-read", keep_numbers_together)
    app.connect("missing-reference", resolve_short_names)
