"""What is hidden of a text, and what is not."""

import base64
from collections.abc import Mapping

import pytest

from many_seeds.commands.redact import redact, without_login

BASIC = base64.b64encode(b"user:p@ss").decode()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("MLflow at http://user:p%40ss@host:5000/x is down", "MLflow at http://***@host:5000/x is down"),
        ("https://user:p@ss@host", "https://***@host"),
        ("two: http://a:b@c and https://d:e@f/", "two: http://***@c and https://***@f/"),
        ("a token: https://0123abcd@host/x", "a token: https://***@host/x"),
        ("postgresql://user:p/a?s@s@host/db", "postgresql://***@host/db"),
        ("postgresql://study@/mlflow?host=/tmp", "postgresql://***@/mlflow?host=/tmp"),
        ("mysql+pymysql://u:p@h/d?ssl_ca=x&password=p", "mysql+pymysql://***@h/d?ssl_ca=x&password=***"),
        ("host=db password=p%40ss user=x", "host=db password=*** user=x"),
        ("https://h/f.npz?X-Amz-Signature=ab/c&part=1", "https://h/f.npz?X-Amz-Signature=***&part=1"),
        ("https://h/f.npz?sv=2&sig=ab%2Fc", "https://h/f.npz?sv=2&sig=***"),
        ("f.npz?access_token=ab#top", "f.npz?access_token=***#top"),
        ("'https://h/?api_key=ab'", "'https://h/?api_key=***'"),
        (f"{{'Authorization': 'Basic {BASIC}'}}", "{'Authorization': 'Basic ***'}"),
    ],
)
def test_what_is_between_a_person_and_a_server_is_hidden_wherever_it_comes_from(text: str, shown: str) -> None:
    assert redact(text, {}) == shown


@pytest.mark.parametrize(
    "text",
    [
        "http://127.0.0.1:5000/#/experiments/1/runs?workflowType=x&viewStateShareKey=study-approaches",
        "https://host/package@1.0/x, or mail me@example.org",
        "sqlite:////home/me@work/mlflow.db",
        "tcp://127.0.0.1:8786",
        "tags.`study.key` = 'abc'; monkey=1; keys=2; a token is expected",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert redact(text, {}) == text


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"MLFLOW_TRACKING_URI": "http://user:p%40ss@host"}, f"p%40ss, p@ss, {BASIC}"),
        ({"MLFLOW_REGISTRY_URI": "postgresql://user:p/a@ss@host/db"}, "p/a@ss, p%2Fa%40ss"),
        ({"MLFLOW_BACKEND_STORE_URI": "postgresql://host/db?user=u&password=p%40ss"}, "p%40ss, p@ss"),
        ({"MLFLOW_TRACKING_USERNAME": "user", "MLFLOW_TRACKING_PASSWORD": "p@ss"}, f"p@ss, p%40ss, {BASIC}"),
        ({"MLFLOW_TRACKING_TOKEN": "p@ss"}, "p@ss"),
        ({"DATA_MIRROR": "https://p%40ssp%40ss@host/"}, "p@ssp@ss"),
        ({"DASK_SCHEDULER_ADDRESS": "tls://user:p%40ss@host:8786"}, "p@ss"),
        ({"https_proxy": "user:p%40ss@proxy:3128"}, "p%40ss p@ss"),
        ({"ONE_TOKEN": "p@ss", "OTHER_TOKEN": "p@ss-and-more"}, "p@ss-and-more"),
    ],
)
def test_what_the_environment_holds_is_hidden_in_every_form(environment: Mapping[str, str], text: str) -> None:
    assert set(redact(text, environment)) <= {"*", ",", " "}


@pytest.mark.parametrize(
    "environment",
    [
        {"MLFLOW_TRACKING_URI": "postgresql://study@/mlflow", "OTHER_PASSWORD": "", "A_TOKEN": "is"},
        {"DATA_MIRROR": "https://study.example.org/is@this"},
        {"MLFLOW_TRACKING_URI": "sqlite:////study:is@this/mlflow.db"},
    ],
)
def test_words_are_no_secrets_because_an_address_has_them_too(environment: Mapping[str, str]) -> None:
    assert redact("this is the study", environment) == "this is the study"


@pytest.mark.parametrize(
    ("given", "address", "user", "password"),
    [
        ("http://user:p%40ss@host:5000/x?y@z", "http://host:5000/x?y@z", "user", "p@ss"),
        ("https://us%3Aer:p@ss@host", "https://host", "us:er", "p@ss"),
        ("https://user@host/", "https://host/", "user", None),
        ("https://host/x@y", "https://host/x@y", None, None),
        ("postgresql://user:p%40ss@host/db", "postgresql://user:p%40ss@host/db", None, None),
    ],
)
def test_a_servers_address_is_told_from_user_and_password(
    given: str, address: str, user: str | None, password: str | None
) -> None:
    variables = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
    told = {name: value for name, value in variables.items() if value is not None}
    assert without_login(given) == (address, told)
