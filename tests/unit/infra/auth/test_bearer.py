"""The token of the header Authorization is found in any case of its scheme, and only with it."""

from __future__ import annotations

import pytest

from infra.auth.bearer import bearer_token


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        *(("Bearer sgk_1", "sgk_1"), ("bearer  sgk_1 ", "sgk_1"), ("BEARER sgk_1", "sgk_1")),
        *(("", ""), ("Bearer", ""), ("Basic sgk_1", ""), ("sgk_1", ""), ("Bearersgk_1", "")),
    ],
)
def test_bearer_token_is_the_text_behind_the_scheme(authorization: str, token: str) -> None:
    assert bearer_token(authorization) == token
