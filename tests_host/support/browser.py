"""Chromium without a window, driven through its DevTools protocol on two pipes: a page, what it is told, what it says.

`Page.clicks` and its like look through shadow roots, as a person's eye does.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optoprobe.environment import runtime

_ANSWER_S = 120
_START = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 100) for fd in sys.argv[1:3]]
for fd, pipe in zip((3, 4), pipes):
    os.dup2(pipe, fd)
    os.close(pipe)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FIND = """
const everything = function* (root) {
  for (const e of root.querySelectorAll("*")) { yield e; if (e.shadowRoot) yield* everything(e.shadowRoot); }
};
const shown = (e) => e.getClientRects().length > 0;
const nodes = (e) => [...e.childNodes, ...(e.shadowRoot ? e.shadowRoot.childNodes : [])];
const words = (e) => nodes(e).filter((n) => n.nodeType === 3).map((n) => n.data).join(" ");
const own = (e) => words(e).replace(/\\s+/g, " ").trim();
const find = (test) => [...everything(document)].findLast((e) => shown(e) && test(e));
const byText = (text) => find((e) => own(e) === text) || find((e) => own(e).includes(text));
"""


def axe_or_skip() -> None:
    """Have axe-core, which Page.barriers() runs."""
    runtime.setup(str, ("axe",))
    try:
        runtime.axe()
    except runtime.SetupError as error:
        pytest.skip(f"axe-core cannot be had from npm: {error}")


class Page:
    """The browser's one page. `console`: what it has logged, `requests`: the addresses it asked for."""

    def __init__(self, profile: Path, width: int = 390, height: int = 844) -> None:
        program = runtime.chromium()
        assert program is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # The protocol lies on the descriptors 3 and 4. A test runs as root in a container: there is no sandbox in one.
        options = ["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        options += ["--mute-audio", "--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _START, str(to_read), str(to_write), program, *options, "about:blank"],
            pass_fds=(to_read, to_write), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=(profile / "said").open("wb"), start_new_session=True,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.console: list[str] = []
        self.requests: list[str] = []
        self.called: Callable[[str], object] = lambda text: None  # what the page gives to __call()
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._calls: queue.Queue[str | None] = queue.Queue()
        self._number = 0
        self._lock = threading.Lock()
        self._session: str | None = None
        for work in (self._read, self._hand_on):
            threading.Thread(target=work, daemon=True).start()
        target = next(t for t in self.ask("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self.ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Runtime.addBinding", name="__call")
        self.sized(width, height)

    def __enter__(self) -> "Page":
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)
        self._process.kill()  # its helpers end with their pipes
        self._process.wait(10)
        for fd in (self._to, self._from):
            os.close(fd)

    # --- the protocol ---

    def _send(self, method: str, parameters: dict[str, Any]) -> queue.Queue[dict[str, Any]]:
        with self._lock:
            self._number += 1
            message = {"id": self._number, "method": method, "params": parameters}
            if self._session is not None:
                message["sessionId"] = self._session
            answer = self._answers[self._number] = queue.Queue()
            data = memoryview(json.dumps(message).encode() + b"\0")
            while data:
                data = data[os.write(self._to, data) :]
        return answer

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What the browser answers to a command."""
        said = self._send(method, parameters).get(timeout=_ANSWER_S)
        assert "error" not in said, f"{method}: {said['error']}"
        return said["result"]

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                data = os.read(self._from, 1 << 20)
            except OSError:
                return
            if not data:
                return
            *whole, rest = (rest + data).split(b"\0")
            for text in whole:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers.pop(message["id"]).put(message)
            return
        what, about = message["method"], message["params"]
        if what == "Runtime.bindingCalled":
            self._calls.put(about["payload"])
        elif what == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif what == "Log.entryAdded":
            self.console.append(f"{about['entry']['level']}: {about['entry']['text']}")
        elif what == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.console.append(f"error: {details['text']} {details.get('exception', {}).get('description', '')}")
        elif what == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])

    def _hand_on(self) -> None:
        while (text := self._calls.get()) is not None:
            self.called(text)

    # --- what a test does ---

    def sized(self, width: int, height: int, scale: float = 1, dark: bool = False) -> None:
        """A screen of this many points."""
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.ask("Emulation.setDeviceMetricsOverride", **screen)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[feature])

    def before_load(self, script: str) -> None:
        self.ask("Page.addScriptToEvaluateOnNewDocument", source=script)

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def tell(self, script: str) -> None:
        """Run a script, and wait for nothing."""
        self._send("Runtime.evaluate", {"expression": script})

    def value(self, script: str) -> Any:
        """What an expression gives; `byText`, `find` and `everything` are there."""
        expression = f"(() => {{ {_FIND} return ({script}); }})()"
        said = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def until(self, script: str, limit_s: float = 120) -> Any:
        """The first value of an expression that is true."""
        end_s = time.monotonic() + limit_s
        while True:
            try:
                value = self.value(script)
            except AssertionError:
                if time.monotonic() > end_s:
                    raise
                value = None
            if value:
                return value
            if time.monotonic() > end_s:
                shown = self.value("[...everything(document)].filter(shown).map(own).filter((t) => t).slice(-25)")
                raise AssertionError(f"{script}\n{shown}\n{self.console[-20:]}")
            time.sleep(0.05)

    def click(self, text: str) -> None:
        """The thing that shows `text`, once it is there."""
        self.until(f"(() => {{ const e = byText({json.dumps(text)}); if (e) e.click(); return !!e; }})()")

    def sees(self, text: str, limit_s: float = 120) -> None:
        self.until(f"!!byText({json.dumps(text)})", limit_s)

    def barriers(self) -> list[str]:
        """What axe-core finds serious or critical: it keeps somebody out of the page as it is now."""
        if not self.value("!!window.axe"):
            self.ask("Runtime.evaluate", expression=runtime.axe().read_text(encoding="utf-8") + "\n0")
        found = self.value("axe.run({resultTypes: ['violations']}).then((all) => all.violations"
                           ".filter((v) => ['serious', 'critical'].includes(v.impact))"
                           ".map((v) => v.id + ': ' + v.nodes.map((n) => n.html).join(' ')))")  # fmt: skip
        assert isinstance(found, list)
        return found

    def picture(self, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        shot = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])
