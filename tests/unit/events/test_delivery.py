"""A delivery's place is read from its reply subject, in each form a server writes."""

from typing import cast

import pytest

from events.jetstream.connection import Bus, Msg
from events.jetstream.pull import Delivery, delivery

NO_BUS = cast("Bus", None)


def delivered(reply: str) -> Delivery:
    return delivery(NO_BUS, Msg("cb.w.evt.r.-.-.k.f.run", {"a": "b"}, b"body", reply))


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.CALLBOARD.agent-x.2.417.31.1795248393590151342.9",
        "$JS.ACK._.hash.CALLBOARD.agent-x.2.417.31.1795248393590151342.9",
        "$JS.ACK.hub.hash.CALLBOARD.agent-x.2.417.31.1795248393590151342.9.random",
    ],
)
def test_each_form_of_reply_is_read(reply: str) -> None:
    got = delivered(reply)
    assert (got.stream, got.delivered, got.seq, got.consumer_seq) == ("CALLBOARD", 2, 417, 31)
    assert (got.subject, got.headers, got.body, got.reply) == ("cb.w.evt.r.-.-.k.f.run", {"a": "b"}, b"body", reply)
    assert got.received > 0


@pytest.mark.parametrize("reply", ["", "_INBOX.x", "$JS.ACK.S.c.1.2.3", "$JS.FC.S.c.1.2.3.4.5"])
def test_a_message_that_no_consumer_delivered_is_refused(reply: str) -> None:
    with pytest.raises(ValueError, match="not a delivery"):
        delivered(reply)
