"""`python -m support.site_picture FILE`: the page of `optoprobe webflash` in Chromium, as docs/webflash.png shows it.

A board is chosen; MicroPython is a stand-in, which the page does not show.
"""

import sys
import tempfile
import threading
from pathlib import Path

from support import stock_image
from support.browser import Page
from support.serial_bridge import SerialBridge

from optoprobe import source_tree
from optoprobe.commands import webflash as command
from optoprobe.environment import runtime
from optoprobe.webflash import static_site

_WIDTH, _HEIGHT = 390, 780
_BOARD = "hichi_c3"


def main(file: Path) -> None:
    runtime.setup(str, ("webtools", "chromium"))
    with tempfile.TemporaryDirectory() as folder:
        stock = Path(folder, "stock.bin")
        stock.write_bytes(stock_image.make("esp32c3"))
        boards = {_BOARD: source_tree.board_files()[_BOARD]}
        static_site.build(Path(folder, "site"), boards, {"esp32c3": stock}, command._tools(), str)
        with static_site.server(Path(folder, "site"), 0) as server, Page(Path(folder), _WIDTH, _HEIGHT) as page:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with SerialBridge(page, "", lambda: None):
                page.open(f"http://127.0.0.1:{server.server_address[1]}/")
                page.until("!!customElements.get('esp-web-install-button')")
                page.value(f"document.querySelector('input[value={_BOARD}]').click()")
                page.value("document.getElementById('boards').scrollIntoView()")
                file.write_bytes(page.picture())
            server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
