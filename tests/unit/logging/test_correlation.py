"""The correlation id and the trace of the current call."""

import asyncio
from uuid import uuid4

import pytest

from omnibase_core.logging.correlation import correlated, current_correlation_id, current_traceparent, trace_ids

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_block_sets_what_is_given_and_puts_back_the_rest() -> None:
    """Nested blocks inherit; after an exception too everything is as before."""
    first, second = uuid4(), uuid4()

    with correlated(first, f"00-{TRACE}-{SPAN}-01"):
        with pytest.raises(KeyError), correlated(second):
            assert (current_correlation_id.get(), trace_ids()) == (second, (TRACE, SPAN))
            raise KeyError
        assert current_correlation_id.get() == first
    assert (current_correlation_id.get(), current_traceparent.get(), trace_ids()) == (None, None, None)


async def test_tasks_do_not_see_each_other() -> None:
    """Each task has its own id."""
    ids = [uuid4() for _ in range(5)]

    async def work(number: int) -> bool:
        with correlated(ids[number]):
            await asyncio.sleep(0)
            return current_correlation_id.get() == ids[number]

    assert all(await asyncio.gather(*map(work, range(5))))


@pytest.mark.parametrize(
    ("header", "ids"),
    [
        (f"00-{TRACE}-{SPAN}-00", (TRACE, SPAN)),
        (f"cc-{TRACE}-{SPAN}-01-more", (TRACE, SPAN)),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}-01\n", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
        ("x" * 1000, None),
    ],
)
def test_traceparent_headers(header: str, ids: tuple[str, str] | None) -> None:
    """As W3C Trace Context has them; one that is not well formed counts as none."""
    with correlated(traceparent=header):
        assert trace_ids() == ids
