import pytest

from actors.anthropic_errors import MESSAGE_CHARS_MAX, Refusal, refused


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (Refusal(status=400, type="invalid_request_error"), "never", "bad_request"),
        (Refusal(status=400, type="billing_error"), "never", "billing"),
        (Refusal(status=401, type="authentication_error"), "never", "unauthorized"),
        (Refusal(status=402, detail="linked_organization_spend_limit_reached"), "never", "spend_limit"),
        (Refusal(status=403, type="permission_error"), "never", "forbidden"),
        (Refusal(status=404, type="not_found_error"), "never", "not_found"),
        (Refusal(status=408), "back_off", "provider_error"),
        (Refusal(status=413, type="request_too_large"), "never", "too_large"),
        (Refusal(status=418), "never", "bad_request"),
        (Refusal(status=429, type="rate_limit_error"), "back_off", "rate_limited"),
        (Refusal(status=429, type="rate_limit_error", retry_after="7"), "retry_after", "rate_limited"),
        (Refusal(status=429, detail="enforced_spend_limit_reached"), "never", "spend_limit"),
        (Refusal(status=429, detail="enforced_spend_limit_reached", retry_after="7"), "never", "spend_limit"),
        (Refusal(status=500, type="api_error"), "back_off", "provider_error"),
        (Refusal(status=504, type="timeout_error"), "back_off", "provider_error"),
        (Refusal(status=529, type="overloaded_error"), "back_off", "overloaded"),
        (Refusal(status=529, type="overloaded_error", retry_after="2.5"), "retry_after", "overloaded"),
        (Refusal(status=200, type="overloaded_error"), "back_off", "overloaded"),
        (Refusal(status=200, type="api_error"), "back_off", "provider_error"),
        (Refusal(status=200, type="rate_limit_error"), "back_off", "rate_limited"),
        (Refusal(status=200, type="invalid_request_error"), "never", "bad_request"),
        (Refusal(status=200, type="a_type_of_tomorrow"), "back_off", "provider_error"),
    ],
)
def test_a_refusal_says_whether_another_try_can_help(refusal: Refusal, kind: str, code: str) -> None:
    error = refused(refusal)
    assert (error.kind, error.code) == (kind, code)
    assert (error.retry_after_seconds is not None) == (kind == "retry_after")


def test_the_wait_that_the_provider_names_is_kept() -> None:
    assert refused(Refusal(status=429, retry_after="2.5")).retry_after_seconds == 2.5


@pytest.mark.parametrize("header", ["", "soon", "nan", "inf", "-1", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_wait_that_is_no_number_of_seconds_is_none(header: str) -> None:
    assert refused(Refusal(status=429, retry_after=header)).kind == "back_off"


def test_the_message_says_what_to_do_and_stays_short() -> None:
    message = str(refused(Refusal(status=401, message="x" * 10_000, request_id="req_1")))
    assert "ANTHROPIC_API_KEY" in message
    assert "req_1" in message
    assert len(message) < MESSAGE_CHARS_MAX + 200
