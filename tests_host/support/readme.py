"""The README, taken apart."""

import re

from optoprobe.environment import runtime


def section(name: str) -> str:
    """What stands below a heading, up to the next."""
    text = (runtime.REPO / "README.md").read_text()
    found = re.search(rf"^## {re.escape(name)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, name
    return found[1]


def steps(name: str) -> list[str]:
    """The numbered steps below a heading."""
    found = re.findall(r"^\d\. (.*?)(?=^\d\. |\n\n|\Z)", section(name), re.MULTILINE | re.DOTALL)
    return [" ".join(step.split()) for step in found]


def buttons() -> list[str]:
    """What a person presses in a browser to get a probe, in this order."""
    return [button for step in steps("Onto the board") for button in re.findall(r"\*([^*]+)\*", step)]
