"""The review page: one HTML file that holds its data, style and program."""

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

CHUNK = 50  # samples whose contents are read together
#: What could end a script element, or a line of a program.
UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")


def as_json(data):
    """Write data as JSON that can stand in a script element."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def hash_source(text):
    """Name a script or a style in a Content-Security-Policy by its hash."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def page_of(review, contents):
    """Write the page.

    Parameters
    ----------
    review : dict
        ``title``, ``kind``, ``classes``, ``rows`` and what else the program reads.
    contents : list
        What is seen of every row.

    Returns
    -------
    page : str
    """
    folder = files("sknonlin._review")
    template, style, program = (
        folder.joinpath(f"page.{ending}").read_text(encoding="utf-8")
        for ending in ("html", "css", "js")
    )
    key = hashlib.sha256(as_json([review["classes"], review["rows"]]).encode()).hexdigest()
    review = review | {"key": f"sknonlin-review-{key[:24]}", "chunk": CHUNK}
    chunks = [
        f'<script type="application/json" id="contents-{start // CHUNK}">'
        f"{as_json(contents[start : start + CHUNK])}</script>"
        for start in range(0, len(contents), CHUNK)
    ]
    parts = {
        "policy": (
            f"default-src 'none'; script-src {hash_source(program)}; "
            f"style-src {hash_source(style)}; img-src data:; media-src data:; "
            "base-uri 'none'; form-action 'none'"
        ),
        "title": html.escape(review["title"]),
        "style": style,
        "program": program,
        "review": as_json(review),
        "contents": "\n".join(chunks),
    }
    # In one go, so that nothing within the data is taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
