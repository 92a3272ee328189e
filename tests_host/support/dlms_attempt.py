"""One attempt to read a simulated DLMS meter, without a line between: fast, where only what is said counts."""

from typing import Any

from metering.line import EXPECT, LISTEN, MAX_SENT, SEND, SWITCH, WAIT

MOST_ACTIONS = 3000


def attempt(conversation: Any, meter: Any) -> tuple[list[bytes], float]:
    """Drive one read_out() of a meter (AskedDlmsMeter, GuruxMeter) from its second 0: (messages sent, seconds)."""
    actions = conversation.read_out()
    answer: Any = None
    heard = b""
    sent: list[bytes] = []
    now_s = 0.0
    for _ in range(MOST_ACTIONS):
        try:
            action = actions.send(answer)
        except StopIteration:
            return sent, now_s
        answer = None
        now_s += 0.1
        if action[0] == SEND:
            assert len(action[1]) <= MAX_SENT
            sent.append(bytes(action[1]))
            for value in action[1]:
                meter.receive(value, now_s)
            while (said := meter.poll(now_s + 9, now_s)) is not None:
                heard += said.data
        elif action[0] == EXPECT:
            part = heard[:256]
            taken = (action[1](part, len(part)) if part and action[1] else 0) or len(part)
            now_s += (action[2] if not part else 0) / 1000
            answer, heard = heard[:taken], heard[taken:]
        elif action[0] == LISTEN:
            answer = action[1].next_event()
        elif action[0] == SWITCH:
            heard = b""
        else:
            assert action[0] == WAIT
            now_s += action[1] / 1000
    raise AssertionError("the conversation has no end")
