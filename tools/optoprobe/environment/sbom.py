"""A software bill of materials, CycloneDX 1.6 in JSON: `python -m optoprobe.environment.sbom [FILE]` (`make sbom`).

What is in it, each with where it is used:

    on a board      MicroPython (the least version that is taken), umqtt.simple as its images have it
    on a computer   the Python packages pinned in pyproject.toml and what these brought with them, as installed here
    web pages       npm's packages, by their checksum

Versions are those of the environment it is made in; one that is pinned and not installed is named as pinned. The same
environment gives the same bytes, but for the time where SOURCE_DATE_EPOCH is not set.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__, source_tree
from ..flashing.stock_format import LEAST_VERSION
from . import npm_packages, runtime

_PROPERTY = "optoprobe:used"
_ON_A_BOARD, _ON_A_COMPUTER, _FOR_TESTS, _ON_WEB_PAGES = (
    "on a board",
    "on a computer",
    "for tests alone",
    "on web pages",
)
_NAME = re.compile(r"^([A-Za-z0-9._-]+)")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;]+)$")
_TESTS = ("dev", "bench", "typings")  # extras that no owner of a probe installs


def _normal(name: str) -> str:
    return re.sub("[-_.]+", "-", name).lower()


def pinned() -> dict[str, tuple[str, str]]:
    """Normal name -> (version, used where) of each Python package that pyproject.toml pins."""
    project = tomllib.loads((source_tree.CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {"": project["dependencies"]} | project["optional-dependencies"]
    found: dict[str, tuple[str, str]] = {}
    for extra in sorted(groups, key=lambda extra: extra in _TESTS):  # what an owner installs first
        for text in groups[extra]:
            pin = _PIN.match(text)
            if pin:
                found.setdefault(_normal(pin[1]), (pin[2], _FOR_TESTS if extra in _TESTS else _ON_A_COMPUTER))
    return found


def _needs(name: str) -> Iterator[str]:
    """Normal names of what an installed package needs here, extras of its own left out."""
    try:
        requirements = metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return
    for text in requirements:
        requirement, _, marker = text.partition(";")
        match = _NAME.match(requirement)
        if match and "extra" not in marker:
            needed = _normal(match[1])
            try:
                metadata.version(needed)
            except metadata.PackageNotFoundError:
                continue  # of another platform or Python
            yield needed


def _python() -> tuple[dict[str, dict[str, Any]], dict[str, list[str]]]:
    """(component by reference, references it needs by reference) of all Python packages."""
    used = {name: where for name, (_, where) in pinned().items()}
    versions = {name: version for name, (version, _) in pinned().items()}
    edges: dict[str, list[str]] = {}
    waiting = sorted(used, key=lambda name: used[name] == _FOR_TESTS)
    while waiting:
        name = waiting.pop(0)
        if name in edges:
            continue
        edges[name] = sorted(set(_needs(name)))
        for needed in edges[name]:
            used.setdefault(needed, used[name])
            waiting.insert(0, needed)
    for name in used:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    references = {name: f"pkg:pypi/{name}@{versions[name]}" for name in used}
    components = {}
    for name, reference in references.items():
        component = _component(name, versions[name], reference, used[name])
        licence = _licence(name)
        if licence:
            component["licenses"] = [licence]
        components[reference] = component
    return components, {references[name]: [references[n] for n in needed] for name, needed in edges.items()}


def _licence(name: str) -> dict[str, Any] | None:
    try:
        about = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    expressions = about.get_all("License-Expression")
    if expressions:
        return {"expression": expressions[0]}
    named = [text.rpartition(" :: ")[2] for text in about.get_all("Classifier") or [] if text.startswith("License ::")]
    return {"license": {"name": named[0]}} if named else None


def _component(name: str, version: str, reference: str, used: str, kind: str = "library") -> dict[str, Any]:
    scope = "excluded" if used == _FOR_TESTS else "required"
    component = {"type": kind, "bom-ref": reference, "name": name, "version": version, "purl": reference}
    return component | {"scope": scope, "properties": [{"name": _PROPERTY, "value": used}]}


def _others() -> Iterator[dict[str, Any]]:
    version = ".".join(map(str, LEAST_VERSION))
    yield _component("micropython", version, f"pkg:github/micropython/micropython@v{version}", _ON_A_BOARD, "platform")
    sha256 = {"alg": "SHA-256", "content": runtime.UMQTT_SHA256}
    reference = f"pkg:pypi/{_normal(runtime.UMQTT_PROJECT)}@{runtime.UMQTT_VERSION}"
    umqtt = _component(_normal(runtime.UMQTT_PROJECT), runtime.UMQTT_VERSION, reference, _ON_A_BOARD)
    yield umqtt | {"hashes": [sha256], "licenses": [{"license": {"id": "MIT"}}]}
    for package in (npm_packages.ESP_WEB_TOOLS, npm_packages.IMPROV):
        reference = f"pkg:npm/{package.name}@{package.version}"
        component = _component(package.name, package.version, reference, _ON_WEB_PAGES)
        hashes = [{"alg": "SHA-256", "content": package.sha256}]
        yield component | {"hashes": hashes, "licenses": [{"license": {"id": "Apache-2.0"}}]}


def bill() -> dict[str, Any]:
    """The whole of it."""
    components, edges = _python()
    for component in _others():
        components[component["bom-ref"]] = component
    own = f"pkg:generic/optoprobe@{__version__}"
    direct = {f"pkg:pypi/{name}@" for name in pinned()}
    needed = [reference for reference in components if reference.rpartition("@")[0] + "@" in direct]
    needed += [component["bom-ref"] for component in _others()]
    dependencies = [{"ref": own, "dependsOn": sorted(set(needed))}]
    dependencies += [{"ref": reference, "dependsOn": edges.get(reference, [])} for reference in sorted(components)]
    content = json.dumps([components, dependencies], sort_keys=True)
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else datetime.datetime.now(datetime.UTC)
    licence = [{"license": {"id": "MIT"}}]
    subject = {"type": "firmware", "bom-ref": own, "name": "optoprobe", "version": __version__, "licenses": licence}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, own + content)}",
        "version": 1,
        "metadata": {"timestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": subject},
        "components": [components[reference] for reference in sorted(components)],
        "dependencies": dependencies,
    }


def main(arguments: list[str]) -> int:
    """Print it, or write it to the file named; returns the exit code."""
    if len(arguments) > 1:
        print("usage: python -m optoprobe.environment.sbom [FILE]", file=sys.stderr)
        return 2
    if source_tree.IS_INSTALLED:
        print("optoprobe sbom: it is made of pyproject.toml: run it in a clone.", file=sys.stderr)
        return 1
    made = bill()
    text = json.dumps(made, indent=1) + "\n"
    if not arguments:
        print(text, end="")
        return 0
    try:
        Path(arguments[0]).write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"optoprobe sbom: {arguments[0]} cannot be written ({error.strerror}): name another.", file=sys.stderr)
        return 1
    print(f"{len(made['components'])} components in {arguments[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
