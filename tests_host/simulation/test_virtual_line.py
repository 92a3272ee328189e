"""The virtual line: what is sent comes out with the right settings, garbage with wrong ones, and noise is counted.

The invariant of the receiver: any light gives bytes or silence, never an exception.
"""

import itertools
import random
import socket
import time

import pytest

from metering.line import Line
from optoprobe.virtual.channel import Channel, Noise
from optoprobe.virtual.line import VirtualLine
from optoprobe.virtual.optical_server import OpticalServer, parse_header
from optoprobe.virtual.placed_meter import PlacedMeter
from optoprobe.virtual.sml_meter import SmlMeter
from optoprobe.virtual.source import CaptureSource, Transmission
from optoprobe.virtual.uart import NS, Receiver, Transmitter, duration_ns, frame_bits

EVERY_BYTE = bytes(range(256))
SETTINGS = [
    Line(baud, bits, parity, stop, invert)
    for baud in (300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200)
    for bits, parity, stop in ((7, "E", 1), (8, None, 1), (8, "E", 1), (7, "O", 2))
    for invert in (False, True)
]


def shuffled(n, seed=1):
    return bytes(random.Random(seed).randrange(256) for _ in range(n))


def through(sent, data, seen=None, **options):
    """`data` sent with the settings `sent` and read with `seen`: (bytes, receiver)."""
    line = VirtualLine(sent, seen, **options)
    end = line.meter_sends(data, NS // 1000)
    got = line.advance(end + NS)
    return bytes(value for _, value in got), line.receiver


# --- light, by hand ---


def test_light_of_one_byte_is_the_standards():
    # 0x41 at 9600 8N1: start lights the LED, then 1 0 0 0 0 0 1 0 lowest first, then dark. 1 = dark, 0 = light.
    bit = [k * NS // 9600 for k in range(11)]
    assert Transmitter(Line(9600)).send(b"\x41", 1000) == [
        (1000 + bit[0], 1),
        (1000 + bit[1], 0),
        (1000 + bit[2], 1),
        (1000 + bit[7], 0),
        (1000 + bit[8], 1),
        (1000 + bit[9], 0),
    ]
    # the same at 7E1: two ones in 0x41, so the parity bit (the 8th) is 0 = light
    assert Transmitter(Line(9600, 7, "E")).send(b"\x41", 0) == Transmitter(Line(9600)).send(b"\x41", 0)
    # 0x43 has three ones: parity 1; inverted every level is turned round
    assert Transmitter(Line(9600, 7, "E", invert=True)).send(b"\x43", 0) == [
        (bit[0], 0),
        (bit[1], 1),
        (bit[3], 0),
        (bit[7], 1),
    ]


def test_no_error_piles_up_over_an_hour_of_bytes():
    transmitter = Transmitter(Line(300))  # a bit is no whole number of ns
    for _ in range(108):
        transmitter.send(bytes(1000), 0)  # 108,000 bytes back to back are 3,600 s
    assert transmitter.idle_ns == 3600 * NS
    assert duration_ns(Line(300), 108_000) == 3600 * NS


def test_bytes_come_at_the_middle_of_their_stop_bit():
    line = VirtualLine(Line(9600))
    line.meter_sends(b"\x00\xff\x55", 0)
    times = [t for t, _ in line.advance(NS)]
    for k, t in enumerate(times):
        assert abs(t - (k * 10 + 9.6) * NS / 9600) < NS / 9600 / 8


# --- right settings ---


@pytest.mark.parametrize("line", SETTINGS, ids=str)
def test_round_trip(line):
    data = EVERY_BYTE if line.bits == 8 else EVERY_BYTE[:128]
    got, receiver = through(line, data)
    assert got == data
    assert receiver.bytes == len(data)
    assert (receiver.framing_errors, receiver.parity_errors, receiver.false_starts) == (0, 0, 0)


@pytest.mark.parametrize("line", [Line(300, 7, "E"), Line(9600), Line(9600, 8, "E"), Line(115200)], ids=str)
def test_round_trip_with_gaps_and_jitter(line):
    bit_ns = NS // line.baud
    data = shuffled(300) if line.bits == 8 else bytes(b & 0x7F for b in shuffled(300))
    got, receiver = through(line, data, gap_ns=bit_ns // 3, gap_jitter_ns=5 * bit_ns, jitter_ns=bit_ns // 4, seed=7)
    assert got == data
    assert receiver.framing_errors == 0


def test_split_points_never_matter():
    line = Line(9600, 8, "E")
    data = shuffled(60)
    light = Transmitter(line).send(data, 0)
    whole = Receiver(line).receive(light, NS)
    pieces, got, at = Receiver(line), [], 0
    for step in itertools.count(1):  # pieces of 1, 2, 3 ... times 7,001 ns, so most cuts fall inside a bit
        until = at + step * 7001
        got += pieces.receive([x for x in light if at < x[0] + 1 <= until + 1 and not (x[0] <= at and at)], until)
        at = until
        if at > NS:
            break
    assert got == whole
    assert bytes(value for _, value in got) == data


@pytest.mark.parametrize("ppm", [-30_000, -20_000, 20_000, 30_000])
def test_three_percent_of_clock_error_still_reads(ppm):
    assert through(Line(9600), shuffled(500), clock_ppm=ppm)[0] == shuffled(500)


@pytest.mark.parametrize("ppm", [-70_000, 70_000])
def test_seven_percent_does_not(ppm):
    assert through(Line(9600), shuffled(500), clock_ppm=ppm)[0] != shuffled(500)


def test_a_slow_phototransistor_reads_until_a_third_of_a_bit():
    assert through(Line(9600), shuffled(300), noise=Noise(stretch_ns=35_000))[0] == shuffled(300)
    assert through(Line(9600), shuffled(300), noise=Noise(stretch_ns=70_000))[0] != shuffled(300)


# --- wrong settings ---


@pytest.mark.parametrize("baud", [300, 1200, 2400, 4800, 19200, 38400, 115200])
def test_wrong_baud_gives_garbage(baud):
    data = shuffled(200)
    got, receiver = through(Line(9600), data, Line(baud))
    assert got
    assert data not in got
    # At exactly half the rate the stop bit's samples fall on that of every second byte of ours: wrong, but well framed.
    assert receiver.framing_errors or baud == 4800
    if baud < 9600:
        assert len(got) < len(data)  # it sees fewer, longer bytes
    else:
        assert len(got) > len(data)


def test_seven_bits_even_read_as_eight_show_the_parity_in_bit_seven():
    data = bytes(range(128))
    got, _ = through(Line(9600, 7, "E"), data, Line(9600))
    assert got == bytes(b | (b.bit_count() & 1) << 7 for b in data)


def test_eight_even_read_as_eight_none_shows_as_framing():
    data = shuffled(400)
    gap = 20 * NS // 9600  # so that every byte is a start of its own
    got, receiver = through(Line(9600, 8, "E"), data, Line(9600), gap_ns=gap)
    assert got == data
    assert receiver.framing_errors == sum(b.bit_count() & 1 == 0 for b in data)  # parity 0 stands where a stop is due


def test_wrong_parity_is_counted_and_the_byte_kept():
    data = bytes(range(128))
    got, receiver = through(Line(9600, 7, "E"), data, Line(9600, 7, "O"))
    assert got == data
    assert receiver.parity_errors == 128
    assert through(Line(9600, 7, "E"), b"\x43", Line(9600, 7, "E"))[0] == b"\x43"
    light = Transmitter(Line(9600, 7, "E")).send(b"\x43", 0)
    assert Receiver(Line(9600, 7, "E"), strip_parity=False).receive(light, NS)[0][1] == 0xC3


def test_wrong_polarity_gives_garbage():
    got, _ = through(Line(9600), shuffled(200), Line(9600, invert=True))
    assert got != shuffled(200)


def test_steady_light_is_one_zero_and_then_silence():
    channel = Channel()
    channel.hold("ambient", NS, 3 * NS)
    receiver = Receiver(Line(9600))
    got = []
    for k in range(1, 50):
        got += receiver.receive(channel.advance(k * NS // 10), k * NS // 10)
    assert [value for _, value in got] == [0]
    assert receiver.framing_errors == 1
    assert channel.counts["ambient"] == 1


def test_a_flash_shorter_than_half_a_bit_is_no_start():
    receiver = Receiver(Line(9600))
    light = Transmitter(Line(9600))
    assert receiver.receive(light.blink(1000, 30_000), NS // 100) == []
    assert receiver.false_starts == 1
    data = light.send(b"A", NS // 100)
    assert [value for _, value in receiver.receive(data, NS)] == [0x41]


def test_switched_on_in_the_middle_of_a_run_it_finds_the_bytes_after_the_next_pause():
    line = VirtualLine(Line(9600))
    end = line.meter_sends(shuffled(100), 0)
    line.meter_sends(b"telegram", end + NS // 100)
    line.advance(end // 2 + 300_000)
    line.set_head(Line(9600))
    got = bytes(value for _, value in line.advance(2 * NS))
    assert got.endswith(b"telegram")
    assert len(got) < 100


# --- noise, echo ---


def test_noise_is_counted_and_the_same_seed_gives_the_same():
    noise = Noise(glitch_hz=20, dropout_hz=5, burst_hz=2, ambient_hz=1, seed=3)
    runs = []
    for _ in range(2):
        line = VirtualLine(Line(9600), noise=noise)
        got = b""
        for k in range(20):
            line.meter_sends(shuffled(300), k * NS)
            got += bytes(value for _, value in line.advance((k + 1) * NS))
        runs.append((got, dict(line.channel.counts), line.receiver.framing_errors))
    assert runs[0] == runs[1]
    got, counts, framing_errors = runs[0]
    assert got != shuffled(300) * 20
    # 20 s: the expected numbers are 400, 100, 40, 20; four standard deviations around them
    assert 320 <= counts["glitch"] <= 480
    assert 60 <= counts["dropout"] <= 140
    assert 15 <= counts["burst"] <= 65
    assert 2 <= counts["ambient"] <= 38
    assert framing_errors > 0


@pytest.mark.parametrize(
    ("kind", "grows"), [("glitch", None), ("dropout", False), ("burst", True), ("ambient", None)]
)
def test_each_kind_of_noise_does_what_its_name_says(kind, grows):
    noise = Noise(**{kind + "_hz": 8}, seed=5)
    line = VirtualLine(Line(9600), noise=noise)
    data = bytes(2000) if kind == "dropout" else shuffled(2000)
    if kind == "burst":
        data = b""  # all that comes is inserted
    line.meter_sends(data, 0)
    got = bytes(value for _, value in line.advance(3 * NS))
    assert line.channel.counts[kind] > 5
    assert sum(line.channel.counts.values()) == line.channel.counts[kind]
    assert got != data
    if grows is not None:
        assert (len(got) > len(data)) is grows


def test_a_single_glitch_turns_one_bit():
    line = VirtualLine(Line(9600))
    line.channel.hold("glitch", 25 * NS // 96000, 35 * NS // 96000)  # bit times 2.5 to 3.5 hold the middle of bit 2
    line.meter_sends(b"\x00\x00", 5 * NS // 96000)  # so it is bit 2..3 of a byte begun half a bit late: data bit 1
    assert [value for _, value in line.advance(NS)] == [0x02, 0x00]
    assert line.channel.counts["glitch"] == 1


def test_a_dropout_loses_bytes_and_leaves_the_rest():
    line = VirtualLine(Line(9600))
    bits = NS // 9600
    line.meter_sends(b"abcdefgh", 0)
    line.channel.hold("dropout", 20 * bits - bits // 4, 40 * bits - bits // 4)  # the third and the fourth
    assert bytes(value for _, value in line.advance(NS)) == b"abefgh"


def test_hold_refuses_the_past_and_unknown_kinds():
    channel = Channel()
    channel.advance(1000)
    for what, start, end in (("glitch", 500, 2000), ("sun", 2000, 3000), ("glitch", 2000, 2000)):
        with pytest.raises(ValueError, match="hold"):
            channel.hold(what, start, end)


@pytest.mark.parametrize("echo", [False, True])
def test_echo(echo):
    line = VirtualLine(Line(300, 7, "E"), echo=echo)
    end = line.head_sends(b"/?!\r\n", 0)
    line.meter_sends(b"/OPT5\r\n", end + NS // 5)
    got = bytes(value for _, value in line.advance(2 * NS))
    assert bytes(value for _, value in line.to_meter) == b"/?!\r\n"
    assert got == (b"/?!\r\n" if echo else b"") + b"/OPT5\r\n"


def test_echo_over_the_meters_light_collides():
    line = VirtualLine(Line(9600), echo=True)
    line.meter_sends(b"\xff" * 50, 0)
    line.head_sends(bytes(50), 30_000)
    got = bytes(value for _, value in line.advance(NS))
    assert got != b"\xff" * 50


def test_the_meter_hears_a_wrong_baud_rate_as_garbage():
    line = VirtualLine(Line(300, 7, "E"), Line(9600))
    line.head_sends(b"/?!\r\n", 0)
    line.advance(NS)
    assert bytes(value for _, value in line.to_meter) != b"/?!\r\n"


@pytest.mark.parametrize("seed", range(20))
def test_any_light_gives_bytes_or_silence(seed):
    draw = random.Random(seed)
    receiver = Receiver(draw.choice(SETTINGS), light=draw.randrange(2))
    t = 0
    for _ in range(30):
        light = []
        for _ in range(draw.randrange(60)):
            t += draw.choice((0, 1, 50, 3000, 8680, 104_166, 833_333, 20_000_000))
            light.append((t, draw.randrange(2)))
        t += draw.randrange(0, 10**8)
        got = receiver.receive(light, t)
        assert all(0 <= value < 256 and at <= t + NS // 300 for at, value in got)
        assert got == sorted(got, key=lambda pair: pair[0])


@pytest.mark.parametrize(
    "options", [{"jitter_ns": 60_000}, {"gap_ns": -1}, {"gap_jitter_ns": -1}, {"clock_ppm": 600_000}]
)
def test_transmitter_refuses_what_is_no_line(options):
    with pytest.raises(ValueError):
        Transmitter(Line(9600), **options)


def test_it_is_bounded_and_fast_enough_for_simulated_days():
    line = VirtualLine(Line(9600))
    data = shuffled(300)
    known = len(line.receiver._known)
    began = time.process_time()
    for k in range(100):
        line.meter_sends(data, k * NS)
        assert len(line.advance((k + 1) * NS)) == 300
    seconds = time.process_time() - began
    # Measured 500 times real time on a full line (2 us a byte); a crowded machine still has to reach 20 with pauses.
    assert 100 / seconds > 20
    assert line.transitions and not line.channel._meter and not line.channel._events
    assert len(line.receiver._known) <= known + 256


# --- the server ---


def connect(server, line="0 9600 8 N 1 0"):
    board = socket.create_connection(("127.0.0.1", server.port))
    board.sendall(f"uart {line}\n".encode())
    return board


def read_for(board, seconds):
    board.settimeout(0.05)
    got, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            data = board.recv(4096)
        except TimeoutError:
            continue
        if not data:
            break
        got += data
    return got


def wait_for(true, seconds=10.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "nothing happened in time"
        time.sleep(0.01)


def test_header():
    line = parse_header(b"uart 1 300 7 E 1 1")
    assert (line.baud, line.bits, line.parity, line.stop, line.invert) == (300, 7, "E", 1, True)
    assert parse_header(b"uart 1 9600 8 N 1 0").parity is None
    for wrong in (b"", b"uart 1 0 8 N 1 0", b"uart 1 9600 9 N 1 0", b"uart 1 9600 8 X 1 0", b"GET / HTTP/1.1"):
        assert parse_header(wrong) is None


def test_server_counts_what_the_board_could_see():
    meter = SmlMeter(5, period_s=0.4)
    reference = SmlMeter(5, period_s=0.4)
    with OpticalServer(meter) as server:
        time.sleep(0.5)
        assert server.telegrams_sent == 0  # nobody is looking
        board = connect(server)
        got = read_for(board, 2.2)
        sent, log = server.telegrams_sent, list(server.log)
        got += read_for(board, 0.05)
        board.close()
    assert 2 <= sent <= 6
    assert len(log) == sent
    times = [entry.monotonic_s for entry in log]
    assert times == sorted(times)
    assert all(abs(b - a - 0.4) < 0.1 for a, b in itertools.pairwise(times))
    telegrams = [(reference.telegram(k * 0.4), reference.expected()) for k in range(20)]
    seen = [k for k, (telegram, _) in enumerate(telegrams) if telegram in got]
    assert seen == list(range(seen[0], seen[0] + len(seen)))  # whole, none missing
    assert sent <= len(seen) <= sent + 1  # one may have ended after we looked
    assert [entry.expected for entry in log] == [telegrams[k][1] for k in seen[:sent]]
    assert [entry.n_bytes for entry in log] == [len(telegrams[k][0]) for k in seen[:sent]]


@pytest.mark.parametrize("line", [Line(2400, 8, "E"), None])
def test_a_placed_meter_sends_with_its_own_line(line):
    meter = SmlMeter(5)
    if line is not None:
        meter.line = line
    assert str(PlacedMeter(meter).led.line) == str(line or Line(9600))
    assert PlacedMeter(meter, Line(300)).led.line.baud == 300


def test_server_gives_garbage_to_wrong_settings():
    with OpticalServer(SmlMeter(5)) as server:
        right, wrong = connect(server), connect(server, "0 2400 8 N 1 0")
        seen, garbage = read_for(right, 1.5), read_for(wrong, 0.1)
        assert server.boards == 2
        right.close()
        wrong.close()
    assert b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01" in seen
    assert garbage and b"\x1b\x1b\x1b\x1b" not in garbage


def test_server_replays_a_capture_at_the_pace_of_its_line():
    data = shuffled(700)
    with OpticalServer(CaptureSource(data, pause_s=0.2), gap_ns=0) as server:
        board = connect(server)
        began = time.monotonic()
        got = b""
        while data not in got and time.monotonic() - began < 10:
            got += read_for(board, 0.05)
        took = time.monotonic() - began
        wait_for(lambda: server.telegrams_sent >= 1)
        board.close()
    assert data in got
    assert took > 700 * 10 / 9600 * 0.9  # 0.73 s of light
    with pytest.raises(ValueError, match="empty"):
        CaptureSource(b"")


def test_capture_played_once_ends():
    with OpticalServer(CaptureSource(b"x" * 10, loop=False), speed=10) as server:
        board = connect(server)
        read_for(board, 0.3)
        assert server.meter.bytes_sent == 10
        board.close()


def test_server_hands_what_the_head_sends_to_the_meter_and_echoes_it():
    class Listener:
        heard = b""

        def poll(self, now_s, free_s):
            return None

        def receive(self, byte):
            self.heard += bytes((byte,))

    for echo in (False, True):
        meter = Listener()
        with OpticalServer(meter, Line(300, 7, "E"), speed=10, echo=echo) as server:
            board = connect(server, "1 300 7 E 1 0")
            board.sendall(b"/?!\r\n")
            wait_for(lambda meter=meter: meter.heard == b"/?!\r\n")
            assert read_for(board, 0.2) == (b"/?!\r\n" if echo else b"")
            board.close()


def test_server_refuses_what_is_no_board():
    with OpticalServer(CaptureSource(b"x")) as server:
        for text in (b"GET / HTTP/1.1\n", b"x" * 200):
            other = socket.create_connection(("127.0.0.1", server.port))
            other.sendall(text)
            assert read_for(other, 2) == b""
            other.close()
        wait_for(lambda: server.refused == 2)
        assert server.boards == 0


def test_a_board_that_does_not_read_neither_stops_the_meter_nor_the_others():
    class Torrent:
        left = 0  # or a busy machine would never be done with it

        def poll(self, now_s, free_s):
            if not self.left:
                return None
            self.left -= 1
            return Transmission(free_s, bytes(1000))

    meter = Torrent()
    with OpticalServer(meter, Line(115200), speed=60) as server:
        server._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # the boards' inherit it
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(b"uart 0 115200 8 N 1 0\n")
        wait_for(lambda: server.boards == 1, 60)
        meter.left = 200
        wait_for(lambda: server.overruns > 0 and server.telegrams_sent == 200, 120)
        deaf.close()
        wait_for(lambda: server.boards == 0, 60)


def test_what_breaks_in_the_thread_reaches_the_caller():
    class Broken:
        def poll(self, now_s, free_s):
            raise KeyError("no such register")

    server = OpticalServer(Broken()).start()
    time.sleep(0.1)
    with pytest.raises(RuntimeError, match="no such register"):
        server.stop()


def test_noise_reaches_the_board_and_is_counted():
    noise = Noise(glitch_hz=200, seed=1)
    with OpticalServer(SmlMeter(5, period_s=0.3), noise=noise) as server:
        board = connect(server)
        read_for(board, 1.0)
        board.close()
        wait_for(lambda: server.boards == 0)
        assert server.heads.noise_counts()["glitch"] > 50


def test_frame_bits():
    assert [frame_bits(Line(300, 7, "E")), frame_bits(Line(300)), frame_bits(Line(300, 8, "E", 2))] == [10, 10, 12]
