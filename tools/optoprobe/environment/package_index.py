"""One file of a Python package index, by pip's own settings, where pip itself refuses it. Standard library only."""

import base64
import html
import json
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request

from .subprocesses import DOWNLOAD_TIMEOUT_S, SetupError, run

_PAGES = "application/vnd.pypi.simple.v1+json, text/html;q=0.2"


def download(project: str, file_names: tuple[str, ...]) -> bytes:
    """The file of `project` that is called one of `file_names`.

    Raises SetupError, which never shows an index's address: it may hold a password.
    """
    pip = _pip_settings()
    indexes = [u for u in (*pip.get("index-url", []), *pip.get("extra-index-url", [])) if u.startswith("http")]
    reasons = []
    for index in indexes or [_usual_index()]:
        context = ssl.create_default_context(cafile=pip["cert"][0]) if "cert" in pip else None
        page = f"{index.rstrip('/')}/{re.sub('[-_.]+', '-', project).lower()}/"
        try:
            for address, name in _links(page, context):
                if name in file_names:
                    return _get(urllib.parse.urljoin(page, address), context)[0]
        except (OSError, ValueError) as error:
            reasons.append(type(error).__name__)
    raise SetupError(
        f"{file_names[0]} cannot be had from pip's index ({', '.join(reasons) or 'not listed'}); "
        "check the network or pip's index-url and run the set-up again."
    )


def _links(page: str, context: ssl.SSLContext | None) -> list[tuple[str, str]]:
    """The address and the name of each file that the project's page lists, as JSON (PEP 691) or HTML (PEP 503)."""
    content, kind = _get(page, context, _PAGES)
    if "json" in kind:
        return [(file["url"], file["filename"]) for file in json.loads(content)["files"]]
    addresses = re.findall(r"<a\s[^>]*?href=[\"']([^\"']+)", content.decode("utf-8", "replace"))
    links = [html.unescape(address).partition("#")[0] for address in addresses]
    return [(link, urllib.parse.unquote(link.rpartition("/")[2])) for link in links]


def _get(address: str, context: ssl.SSLContext | None, accept: str = "*/*") -> tuple[bytes, str]:
    """What stands at `address`, and of what kind it is; a user and a password in it are sent as HTTP wants them."""
    parts = urllib.parse.urlsplit(address)
    headers = {"Accept": accept, "User-Agent": "optoprobe"}
    if parts.username is not None:
        user = urllib.parse.unquote(parts.username) + ":" + urllib.parse.unquote(parts.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    request = urllib.request.Request(address, headers=headers)
    with urllib.request.urlopen(request, timeout=DOWNLOAD_TIMEOUT_S, context=context) as answer:
        return answer.read(), answer.headers.get("Content-Type", "")


def _usual_index() -> str:
    from pip._internal.models.index import PyPI  # the one address that pip itself would take

    return PyPI.simple_url


def _pip_settings() -> dict[str, list[str]]:
    """Return pip's own settings by name (index-url, cert ...), the strongest source last as pip lists them."""
    listed = run((sys.executable, "-m", "pip", "config", "list"), "pip cannot list its settings")
    found = re.findall(r"^(global|install|:env:)\.\.?([\w-]+)='(.*)'$", listed, re.MULTILINE)
    rank = {"global": 0, "install": 1, ":env:": 2}
    return {name: value.split() for _, name, value in sorted(found, key=lambda row: rank[row[0]])}
