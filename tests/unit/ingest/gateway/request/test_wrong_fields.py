"""The error for a JSON body with other fields than it must have names them."""

from __future__ import annotations

import pytest

from ingest.gateway.request.json_body import wrong_fields


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "the body is no JSON object"),
        (
            {"flight": "a", "anounced": 3},
            "the fields of the body are not as they must be: unknown 'anounced'; missing 'announced'",
        ),
        ({"flight": "a", "announced": 3, "more": 1}, "the fields of the body are not as they must be: unknown 'more'"),
        ({"flight": "a"}, "the fields of the body are not as they must be: missing 'announced'"),
    ],
)
def test_unknown_and_missing_fields_are_named(body: object, message: str) -> None:
    error = wrong_fields(body, ("flight", "announced"), details="Send it.")
    assert (str(error), error.details) == (message, "Send it.")


def test_many_long_unknown_fields_give_a_short_message() -> None:
    error = wrong_fields({f"{number}{'x' * 5_000}": 0 for number in range(100)}, ("count",), details="Send it.")
    assert len(str(error)) < 500
