"""URLs and targets as messages show them; known secrets are tested where they are fetched."""

import pytest

from omnibase_core.logging.redaction import masked_url, shown_target


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:///a.db", "sqlite:///a.db"),
        ("mysql://root@h/x", "mysql://***@h/x"),
        ("postgresql://u:p@ss@h/x#f", "postgresql://***@h/x?***"),
        ("smtp://u:p#ss@h", "smtp://***?***"),
        ("smtp:u:p@h", "smtp:***@h"),
        ("https://h/x?token=t", "https://h/x?***"),
        ("not a url", "***"),
    ],
)
def test_what_stands_before_the_last_at_sign_is_masked(url: str, shown: str) -> None:
    """A password may itself hold an `@`, a `?` or a `#`; a query may be one."""
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    ("target", "shown"),
    [("orders", "orders"), ("bills/1.txt", "bills/1.txt"), ("smtp://u:p@h", "smtp://***@h"), ("crm:17", "crm:17")],
)
def test_a_target_that_is_no_url_is_shown_as_it_is(target: str, shown: str) -> None:
    """It names a table, a topic or a file."""
    assert shown_target(target) == shown
