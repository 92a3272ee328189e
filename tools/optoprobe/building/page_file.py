"""The probe's pages as they lie on a board: one file each, compressed, that runs no script and no style but its own.

A page's Content-Security-Policy names the hashes of its one script and its one style, which are put in here.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re

HEAD_SOURCE = "firmware/page/page_head.html"  # what both begin with; each goes on amid its style
SOURCE = "firmware/page/page.html"
SETUP_SOURCE = "firmware/setup/setup.html"
# Each source's place on a board: firmware.page.page_access and firmware.setup.setup_page send it as it is.
PLACES = {SOURCE: "probe/page.gz", SETUP_SOURCE: "probe/setup.gz"}


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def compressed(head: str, html: str) -> bytes:
    """What a board gets of the two parts of a page's source, the same at every call."""
    lean = "\n".join(line.strip() for line in (head + html).splitlines() if line.strip()) + "\n"
    for element, place in (("script", "SCRIPT-HASH"), ("style", "STYLE-HASH")):
        found = re.findall(rf"<{element}>(.*?)</{element}>", lean, re.DOTALL)
        if len(found) != 1 or lean.count(place) != 1:
            raise ValueError(f"a page: there must be one <{element}> and one {place}")
        lean = lean.replace(place, _hash(found[0]))
    return gzip.compress(lean.encode(), 9, mtime=0)
