"""Makes a site of these pages: ``./run sphinx-build -W --keep-going docs build/site``.

Sphinx, since it is kept well, reads Markdown (MyST) and has a search that works without a server;
Furo, since it brings its style along: the pages ask no other host for anything.
"""

project = "xk8s"
html_title = "xk8s"
extensions = ["myst_parser"]
html_theme = "furo"
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"top_of_page_buttons": []}
# Links to a heading are as on GitHub; the names of faults are third-level headings.
myst_heading_anchors = 3
