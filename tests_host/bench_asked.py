"""Speed of asking a DLMS meter beside gurux-dlms and dlms-cosem, on the same answers, on this machine, in one run.

    bench_asked.py [--rounds N]

Timed is one question and its answer, without a line: the frame that asks is made, the frame that answers is found, its
checks are made, and its value is there as a number or octets. The answers are those recorded of a session between two
other implementations (../shared/corpus/dlms_client beside the clone) or, where there are none, our simulated meter's.
Every decoder must give the same value, else nothing is timed. Rounds take turns; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from metering.dlms.getter import Getter
from metering.dlms.hdlc_link import HdlcLink
from metering.line import EXPECT
from optoprobe.environment import runtime

CORPUS = Path(__file__).resolve().parents[2] / "shared" / "corpus" / "dlms_client"
Pair = tuple[bytes, bytes]  # a question's frame, its answer's


def pairs() -> tuple[list[Pair], str]:
    """Whole GETs and their whole answers in HDLC of client 16 and meter 1, and where they are from."""
    found: list[Pair] = []
    for path in sorted(CORPUS.glob("ln_*.txt")):
        lines = [line.split() for line in path.read_text().splitlines() if line[:1] in "<>"]
        for asked, said in zip(lines, lines[1:], strict=False):
            if asked[0] == ">" and said[0] == "<":
                found.append((bytes.fromhex(asked[1]), bytes.fromhex(said[1])))
    source = "recorded sessions"
    if not found:
        found, source = simulated(), "a simulated meter"
    return [pair for pair in found if is_plain(*pair)], source


def is_plain(asked: bytes, said: bytes) -> bool:
    whole = len(asked) > 24 and len(said) > 18 and asked[:2] == said[:2] == b"\x7e\xa0"
    whole = whole and asked[3] == said[4] == 3
    # of a list, and of the clock of Gurux's server, which it sends twice, dlms-cosem (21.3.2) finds no end
    if not whole or said[15] == 1 or asked[15] == 8:
        return False
    return asked[8:13] == b"\xe6\xe6\x00\xc0\x01" and said[8:13] == b"\xe6\xe7\x00\xc4\x01" and said[14] == 0


def simulated() -> list[Pair]:
    from metering.dlms.asked_values import AskedValues
    from metering.dlms.client import Conversation
    from optoprobe.virtual.conversation_bench import Bench
    from optoprobe.virtual.dlms_asked_meter import AskedDlmsMeter
    from optoprobe.virtual.line import VirtualLine

    class Recorded(AskedDlmsMeter):
        said: list[bytes] = []

        def poll(self, now_s: float, free_s: float) -> Any:
            piece = super().poll(now_s, free_s)
            if piece is not None:
                self.said.append(piece.data)
            return piece

    bench = Bench(meter := Recorded(), VirtualLine(Recorded().line))
    bench.converse(Conversation(AskedValues()).read_out())
    return list(zip(bench.sent, meter.said, strict=True))


def ours() -> Callable[[bytes, bytes], Any]:
    """The device's own code, from the question on."""
    links: dict[int, tuple[HdlcLink, Getter]] = {}

    def ask(asked: bytes, said: bytes) -> Any:
        pair = links.get(asked[4])
        if pair is None:
            link = HdlcLink(asked[3:4], asked[4:5], 1000, 0)
            pair = links[asked[4]] = link, Getter(link)
        link, getter = pair
        link._due, link._sent = said[5] >> 1 & 7, (said[5] >> 5) - 1 & 7
        getter._invoke = (asked[13] & 15) - 1
        actions = getter.get(asked[14] << 8 | asked[15], asked[16:22], asked[22])
        answer: bytes | None = None
        try:
            while True:
                action = actions.send(answer)
                answer = said if action[0] == EXPECT else None
        except StopIteration as end:
            assert end.value == 0, link.why
        value = getter.number()
        return bytes(getter.data[getter.at : getter.end]) if value is None else value

    return ask


def gurux() -> Callable[[bytes, bytes], Any]:
    from gurux_dlms import GXByteBuffer, GXDLMSClient, GXReplyData
    from gurux_dlms.enums import Authentication, InterfaceType
    from gurux_dlms.objects import GXDLMSRegister

    clients: dict[int, Any] = {}

    def ask(asked: bytes, said: bytes) -> Any:
        client = clients.get(asked[4])
        if client is None:
            client = clients[asked[4]] = GXDLMSClient(
                True, asked[4] >> 1, 1, Authentication.NONE, None, InterfaceType.HDLC
            )
            client.settings.checkFrame = lambda *_: True  # each answer is taken by itself, whatever its number
        found = GXDLMSRegister(".".join(map(str, asked[16:22])))
        client.read(found, asked[22])
        reply = GXReplyData()
        client.getData(GXByteBuffer(said), reply, GXReplyData())
        return reply.value

    return ask


def newer_cosem() -> Callable[[bytes, bytes], Any]:
    """That of .runtime/cosem, which no process can have beside .venv's by its name alone. Raises SetupError."""
    path = str(runtime.cosem())
    for name in [name for name in sys.modules if name.partition(".")[0] == "dlms_cosem"]:
        del sys.modules[name]
    sys.path.insert(0, path)
    try:
        return cosem()
    finally:
        sys.path.remove(path)


def cosem() -> Callable[[bytes, bytes], Any]:
    from dlms_cosem import cosem as objects
    from dlms_cosem import enumerations
    from dlms_cosem.hdlc.address import HdlcAddress
    from dlms_cosem.hdlc.frames import InformationFrame
    from dlms_cosem.protocol.xdlms import GetRequestNormal
    from dlms_cosem.protocol.xdlms.get import GetResponseFactory
    from dlms_cosem.utils import parse_as_dlms_data

    def ask(asked: bytes, said: bytes) -> Any:
        attribute = objects.CosemAttribute(
            interface=enumerations.CosemInterface(asked[14] << 8 | asked[15]),
            instance=objects.Obis.from_bytes(asked[16:22]),
            attribute=asked[22],
        )
        InformationFrame(
            destination_address=HdlcAddress(1, None, "server"),
            source_address=HdlcAddress(asked[4] >> 1, None, "client"),
            payload=b"\xe6\xe6\x00" + GetRequestNormal(attribute).to_bytes(),
            send_sequence_number=0,
            receive_sequence_number=0,
        ).to_bytes()
        return parse_as_dlms_data(GetResponseFactory.from_bytes(InformationFrame.from_bytes(said).payload[3:]).data)

    return ask


def is_alike(value: Any, ours_said: Any) -> bool:
    """Do both say the same? Numbers are compared; of others that there is something."""
    return value == ours_said if isinstance(ours_said, int) else value is not None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    given, source = pairs()
    decoders = {"optoprobe": ours(), "gurux-dlms 1.0.203": gurux(), "dlms-cosem 21.3.2": cosem()}
    try:
        decoders["dlms-cosem 25.1.0"] = newer_cosem()
    except runtime.SetupError as error:
        print(f"dlms-cosem 25.1.0 is left out: {error}")
    for asked, said in given:
        wanted = decoders["optoprobe"](asked, said)
        for name, ask in decoders.items():
            got = ask(asked, said)
            assert is_alike(got, wanted), (name, said.hex(), got, wanted)
    times: dict[str, list[float]] = {name: [] for name in decoders}
    for _ in range(rounds):
        for name, ask in decoders.items():
            before = time.process_time()
            for _ in range(20):
                for asked, said in given:
                    ask(asked, said)
            times[name].append((time.process_time() - before) / 20 / len(given) * 1e6)
    figures = {name: statistics.median(found) for name, found in times.items()}
    print(f"DLMS, asked: {len(given)} questions and answers of {source}, {rounds} rounds")
    print("| who asks | us a question | ours is so many times as fast |\n| --- | --- | --- |")
    for name, figure in figures.items():
        print(f"| {name} | {figure:.1f} | {figure / figures['optoprobe']:.1f} |")


if __name__ == "__main__":
    main()
