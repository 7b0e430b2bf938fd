"""No text repeats the secrets of an address, and all else of it stays readable."""

import pytest

from pipeline.redaction import has_secret, redact


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("http://me:opensesame@host:5000/x", "http://***@host:5000/x"),
        ("postgresql://me:open/ses@me@host/db", "postgresql://***@host/db"),
        ("https://token@host", "https://***@host"),
        ("s3://key:opensesame@bucket/path?scheme=http", "s3://***@bucket/path?scheme=http"),
        ("postgresql://host/db?user=me&password=opensesame&x=1", "postgresql://host/db?user=me&password=***&x=1"),
        (
            "POST to http://me:opensesame@h/a failed, then (http://b:open@c)",
            "POST to http://***@h/a failed, then (http://***@c)",
        ),
    ],
)
def test_secrets_are_hidden(text: str, told: str) -> None:
    assert redact(text) == told and has_secret(text)
    assert redact(told) == told


@pytest.mark.parametrize(
    "text",
    ["sqlite:////home/me/a@b/mlflow.db", "http://host:5000", "s3://bucket/path", "me@example.org", "mlflow.db", ""],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text and not has_secret(text)
