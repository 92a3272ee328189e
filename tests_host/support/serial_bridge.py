"""A serial port of a computer as a web page sees it, with a chip of ours behind it: Web Serial finds no pty.

`navigator.serial` of the page is replaced (BRIDGE): its one port leads through the browser's DevTools to a pty here.
The bridge plays the two transistors of a board's USB chip: RTS without DTR holds the chip's reset, and what DTR and RTS
are when it is let go decides whether the boot ROM or the program in the flash starts. What this does not show: the
dialog in which a person chooses the port, baud rates, and a USB device that vanishes while its chip restarts.
"""

import base64
import contextlib
import json
import os
import select
import threading
import tty
from collections.abc import Callable

from support.browser import Page

BRIDGE = """
(() => {
  const ask = (what) => window.__call(JSON.stringify(what));
  const reset = () => new DOMException("The port is closed.", "InvalidStateError");
  class Port extends EventTarget {
    #isOpen = false; #readable = null; #writable = null; #control = null; #waiting = []; #isLost = false;
    getInfo() { return {}; }
    async open({ baudRate }) {
      this.#isLost = false;
      if (this.#isOpen) throw reset();
      this.#isOpen = true;
      ask({ open: baudRate });
    }
    get readable() {
      if (this.#isOpen && !this.#readable) {
        this.#readable = new ReadableStream({
          start: (control) => { this.#control = control; },
          cancel: () => { this.#readable = this.#control = null; },
        });
        for (const data of this.#waiting.splice(0)) this.#control.enqueue(data);
      }
      return this.#readable;
    }
    get writable() {
      if (this.#isOpen && !this.#writable) {
        this.#writable = new WritableStream({
          write: (data) => {
            if (this.#isLost) throw new DOMException("The device has been lost.", "NetworkError");
            ask({ write: btoa(String.fromCharCode(...new Uint8Array(data))) });
          },
          close: () => { this.#writable = null; },
          abort: () => { this.#writable = null; },
        });
      }
      return this.#writable;
    }
    async setSignals(signals) {
      if (!this.#isOpen) throw reset();
      ask({ signals });
    }
    async getSignals() { return { clearToSend: true, dataCarrierDetect: true, dataSetReady: true }; }
    async close() {
      if (!this.#isOpen) throw reset();
      if (this.#readable?.locked || this.#writable?.locked) throw new TypeError("a stream is locked");
      this.#isOpen = false;
      this.#readable = this.#writable = this.#control = null;
      this.#waiting = [];
      ask({ close: true });
    }
    lose() { // the cable is out: what reads and what writes fails
      const lost = new DOMException("The device has been lost.", "NetworkError");
      this.#control?.error(lost);
      this.#isLost = true;
    }
    take(text) {
      if (!this.#isOpen) return;
      const data = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
      if (this.#control) this.#control.enqueue(data); else this.#waiting.push(data);
    }
  }
  const port = window.__port = new Port();
  const serial = Object.assign(new EventTarget(), { requestPort: async () => port, getPorts: async () => [port] });
  Object.defineProperty(navigator, "serial", { value: serial });
})();
"""


class SerialBridge:
    """Between `page` and a chip: `rom` is the path of the pty of its boot ROM, starts() that of its program's console.

    starts() is called each time the program starts. Who is at the port before is `running`, nobody with None.
    """

    def __init__(
        self, page: Page, rom: str, starts: Callable[[], str | None], running: str | None = None
    ) -> None:
        self._page = page
        self._rom = rom
        self._starts = starts
        self.openings = 0
        self.resets: list[str] = []  # "rom" or "program", whichever started
        self._at = running
        self._fd: int | None = None
        self._is_open = False
        self._signals = {"dataTerminalReady": False, "requestToSend": False}
        self._is_held = False
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        page.called = self._called
        page.before_load(BRIDGE)

    def __enter__(self) -> "SerialBridge":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._connect(None)

    def runs(self, console: str) -> None:
        """Another program's console is behind the port from its next opening on."""
        self._at = console

    def unplug(self) -> None:
        """The cable is pulled; when the page opens the port again it is in."""
        self._page.tell("__port.lose()")

    def _called(self, text: str) -> None:
        said = json.loads(text)
        if "write" in said:
            fd = self._fd
            data = base64.b64decode(said["write"])
            with contextlib.suppress(OSError):
                while data and fd is not None:
                    data = data[os.write(fd, data) :]
        elif "signals" in said:
            self._signals |= said["signals"]
            self._signalled(self._signals["dataTerminalReady"], self._signals["requestToSend"])
        elif "open" in said:
            self.openings += 1
            self._is_open = True
            self._connect(self._at)
        else:
            self._is_open = False
            self._connect(None)

    def _signalled(self, dtr: bool, rts: bool) -> None:
        if rts and not dtr:
            self._is_held = True
        elif self._is_held and not (rts and dtr):  # with both, a capacitor still holds it: what comes next decides
            self._is_held = False
            self.resets.append("rom" if dtr else "program")
            self._at = self._rom if dtr else self._starts()
            self._connect(self._at if self._is_open else None)

    def _connect(self, path: str | None) -> None:
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd = None
            if path is not None:
                self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
                tty.setraw(self._fd)

    def _listen(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                data = b""
                if self._fd is not None and select.select([self._fd], [], [], 0.005)[0]:
                    with contextlib.suppress(OSError):
                        data = os.read(self._fd, 65536)
            if data:
                self._page.tell(f'__port.take("{base64.b64encode(data).decode()}")')
            else:
                self._stop.wait(0.005)
