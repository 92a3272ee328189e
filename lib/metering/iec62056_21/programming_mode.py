"""Single registers of a meter, read in programming mode. Loaded where they take less time than the whole block.

Source: IEC 62056-21:2002, 6.3.3, 6.4.3 and 6.5. Reading only: R1 and R5, and a password where one is set.

    ACK 0 Z 1                     -->
                                  <--        SOH P0 STX (operand) ETX BCC
    SOH P1 STX (password) ETX BCC -->        only where a password is set; once, whatever comes of it
                                  <--        ACK
    SOH R5 STX 1.8.0() ETX BCC    -->        R1 where the meter wants that
                                  <--        STX 1.8.0(0012.345*kWh) ETX BCC      EOT for ETX: ACK brings the next part
    SOH B0 ETX BCC                -->        break
"""

from metering.characters import without_parity
from metering.compat import const
from metering.iec62056_21.exchange import BREAK
from metering.iec62056_21.programming_answers import Answers, block_check, command
from metering.line import LISTEN
from metering.listener import TELEGRAM

_SOH = const(0x01)
_STX = const(0x02)
_ETX = const(0x03)
_ACK = const(0x06)
_FASTEST = const(0x36)  # baud character of mode C
_PARTS = const(32)  # partial blocks of one answer
_MOST_BYTES = const(1024)  # of all single registers together


class ProgrammingMode:
    """Reads registers through `exchange`, and gives them to `listener` as one block.

    `why` says in a few words why the meter's registers were refused.
    """

    def __init__(self, exchange, listener, password):
        self._exchange = exchange
        self._answers = Answers(exchange)
        self._listener = listener
        self._password = password
        self._read = b"R5"
        self.why = ""

    def _refuse(self, why):
        self.why = why
        return "registers refused"

    def read(self, addresses, naming, withhold_password):
        """Generator of line actions: one attempt to read `addresses` (bytes, as printed); returns its outcome, one of
        poll's reasons, "withheld" for a password, "" when it was good.

        Without those of `naming` among them the others would be another meter's, so then nothing is told.
        """
        exchange = self._exchange
        character = yield from exchange.sign_on()
        if character < 0:
            return exchange.outcome
        if not 0x30 <= character <= _FASTEST:
            yield from exchange.hear_out()
            return self._refuse("the meter has no programming mode")
        yield from exchange.acknowledge(character - 0x30, 1)
        if (yield from self._answers.hear_answer()) != _SOH or self._answers.body[:2] != b"P0":
            yield from exchange.hear_out()
            yield from exchange.say(BREAK)  # it may have, unheard
            return self._refuse("the meter does not enter programming mode")
        if self._password:
            outcome = yield from self._give_password(withhold_password)
            if outcome:
                return outcome
        lines = bytearray()
        named = True
        for address in addresses:
            before = len(lines)
            yield from self._read_register(address, lines)
            if not lines:  # or does it want the other command?
                self._read = b"R1" if self._read == b"R5" else b"R5"
                yield from self._read_register(address, lines)
            if len(lines) == before and address in naming:
                named = False
        yield from exchange.say(BREAK)
        if lines and not named:
            return self._refuse("the meter does not tell its number")
        if not lines:
            hint = "" if self._password else " (without a meter password)"
            return self._refuse("the meter answers no single register" + hint)
        return (yield from self._tell(lines))

    def _tell(self, lines):
        """Give the registers read to the listener, as a block under one check: each answer has had its own."""
        listener, exchange = self._listener, self._exchange
        listener.abandon()
        listener.needs_check = listener.compares_form = False
        exchange.feed(without_parity(exchange.identification) if exchange.parity else exchange.identification)
        lines.extend(b"!\r\n\x03")
        exchange.feed(b"\x02")
        exchange.feed(lines)
        exchange.feed(bytes((block_check(lines),)))
        event = yield LISTEN, listener, 0, 0
        listener.compares_form = True
        return "" if event == TELEGRAM else self._refuse("single registers came damaged")

    def _give_password(self, withhold_password):
        exchange = self._exchange
        if withhold_password:
            yield from exchange.say(BREAK)
            return "withheld"
        yield from exchange.say(command(b"P1", b"(" + self._password + b")"))  # once, whatever comes
        if (yield from self._answers.answer()) == _ACK:
            return ""
        yield from exchange.say(BREAK)
        return "password refused"

    def _read_register(self, address, lines):
        """Ask for one register and add what it holds to `lines`; nothing where the meter knows no such register."""
        exchange, answers = self._exchange, self._answers
        kind = yield from answers.ask(command(self._read, address + b"()"))
        begun = len(lines)
        for _ in range(_PARTS):
            if kind != _STX or len(lines) > _MOST_BYTES:
                lines[begun:] = b""
                yield from exchange.hear_out()
                return
            lines.extend(answers.body)
            if answers.last == _ETX:
                break
            yield from exchange.say(b"\x06")
            kind = yield from answers.answer()  # not asked again: it would be this part twice, or the one after next
        text = bytes(memoryview(lines)[begun:])
        opened = text.find(b"(")
        if text.find(b"(ERR") == opened or text.find(b"(#") == opened:  # (ERROR), (ERR1), (#02)
            lines[begun:] = b""
            return
        if opened == 0:  # the value alone
            lines[begun:] = b""
            lines.extend(address + text)
        lines.extend(b"\r\n")
