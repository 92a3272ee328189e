"""The bill of materials: what CycloneDX asks for, by its own library's strict check, and whole."""

import json
import tomllib

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from optoprobe import source_tree
from optoprobe.environment import npm_packages, runtime, sbom


@pytest.fixture(scope="module")
def bill() -> dict:
    return sbom.bill()


def test_it_is_cyclonedx_by_the_strict_check(bill: dict) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps(bill | {"components": [{"name": "x"}]})) is not None


def test_every_pin_is_in_it_and_what_these_bring(bill: dict) -> None:
    project = tomllib.loads((source_tree.CLONE / "pyproject.toml").read_text())["project"]
    pins = [text for texts in [project["dependencies"], *project["optional-dependencies"].values()] for text in texts]
    there = {(one["name"], one["version"]) for one in bill["components"]}
    for text in pins:
        name, _, version = text.partition("==")
        if version:  # else it is optoprobe itself, with an extra
            assert (name.partition("[")[0].replace("_", "-"), version) in there, text
    references = {one["bom-ref"] for one in bill["components"]}
    for row in bill["dependencies"]:
        assert set(row["dependsOn"]) <= references
    rows = {row["ref"]: row["dependsOn"] for row in bill["dependencies"]}
    assert any(reference.startswith("pkg:pypi/cffi@") for reference in references)  # brought by cryptography
    own = rows[bill["metadata"]["component"]["bom-ref"]]
    assert any(reference.startswith("pkg:pypi/cryptography@") for reference in own)
    assert not any(reference.startswith("pkg:pypi/cffi@") for reference in own)


def test_what_is_fetched_by_checksum_has_it(bill: dict) -> None:
    hashes = {one["name"]: one["hashes"][0]["content"] for one in bill["components"] if "hashes" in one}
    assert hashes["micropython-umqtt-simple"] == runtime.UMQTT_SHA256
    assert hashes["esp-web-tools"] == npm_packages.ESP_WEB_TOOLS.sha256


def test_what_only_the_tests_use_is_said_to_be(bill: dict) -> None:
    scope = {one["name"]: one["scope"] for one in bill["components"]}
    assert (scope["pytest"], scope["gurux-dlms"], scope["cryptography"], scope["esptool"]) == (
        "excluded", "excluded", "required", "required",
    )  # fmt: skip


def test_the_same_environment_gives_the_same_bytes(bill: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1780000000")
    again = sbom.bill()
    assert again["metadata"].pop("timestamp") == "2026-05-28T20:26:40Z"
    assert again == bill | {"metadata": {"component": bill["metadata"]["component"]}}
