"""Removes passwords from what is printed, logged and published."""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 3  # characters of a password that is searched for: a shorter one is a part of many words
SHORTEST_USER = 8  # the same for a user without a password, which may be a token or a word

# An unescaped @ belongs to the password. SQLAlchemy accepts a slash in a database's password too.
LOGIN = re.compile(r"(?<!\bhttp)(?<!\bhttps)://[^:/@\s]*:[^@\s]*@(?:[^/\s]*@)?|://[^/\s]*@", re.IGNORECASE)
_LONG = r"[\w.-]*(?:password|passwd|passphrase|pwd|token|secret|signature|credentials?|odbc_connect)"
_SHORT = r"(?:[\w.-]*[-_.])?(?:api|access|account|private|shared)?[-_.]?(?:key|sig|sas|auth)"
PARAMETER = re.compile(rf"((?:(?<![\w.-]){_LONG}|[?&;]{_SHORT})=)([^&\s#\"'<>]*[^&\s#\"'<>:;,])", re.IGNORECASE)
HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*b?['\"]?(?:basic|bearer)\s+)[^\s'\"]+", re.IGNORECASE)

# Environment variables with an address, and with a secret.
ADDRESS = re.compile(r"(?:_UR[IL]|_ADDRESS|_PROXY|^DATA_MIRROR)$", re.IGNORECASE)
SECRET = re.compile(r"(?:PASSWORD|TOKEN|SECRET|SECRET_ACCESS_KEY)$", re.IGNORECASE)

TRACKING_USERNAME = "MLFLOW_TRACKING_USERNAME"
TRACKING_PASSWORD = "MLFLOW_TRACKING_PASSWORD"
SERVER = re.compile(r"(https?://)([^/?#\s]*)@(.*)", re.IGNORECASE | re.DOTALL)


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Replace secrets in a text by ***.

    Secrets are the user and password of every address, the values of parameters with names such as "token", and the
    passwords and tokens in environment variables, as written and decoded.

    Args:
        text: any text.
        environment: the environment variables.

    Returns:
        The text without secrets.
    """
    for secret in sorted(set(_secrets(environment)), key=len, reverse=True):  # one may be the beginning of another
        text = text.replace(secret, HIDDEN)
    text = LOGIN.sub(f"://{HIDDEN}@", text)
    text = PARAMETER.sub(rf"\1{HIDDEN}", text)
    return HEADER.sub(rf"\1{HIDDEN}", text)


def without_login(address: str) -> tuple[str, dict[str, str]]:
    """Split the address of a tracking server into the address without user and password, and the login.

    Args:
        address: a tracking URI.

    Returns:
        The address, unchanged if it is not that of a server; and the environment variables from which MLflow reads user
        and password.
    """
    if not (parts := SERVER.fullmatch(address)):
        return address, {}
    scheme, login, rest = parts.groups()
    user, colon, password = login.partition(":")
    variables = {TRACKING_USERNAME: unquote(user)} | ({TRACKING_PASSWORD: unquote(password)} if colon else {})
    return scheme + rest, variables


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Passwords and tokens in environment variables, in every form in which they may occur."""
    for name, value in environment.items():
        if SECRET.search(name):
            yield from _forms(value, environment.get(TRACKING_USERNAME, ""))
        elif ADDRESS.search(name):
            yield from _of_address(value)


def _of_address(address: str) -> Iterator[str]:
    scheme, _, rest = address.rpartition("://")  # a proxy may have no scheme
    # A slash before the @ may be a part of the password or the beginning of the path.
    for login in (rest.partition("/")[0].rpartition("@")[0], rest.rpartition("@")[0]):
        user, colon, password = login.partition(":")
        if colon and "/" not in user:
            yield from _forms(password, user)
        elif scheme.startswith("http") and "/" not in user and len(user) >= SHORTEST_USER:
            yield from _forms(user, user)
    for parameter in PARAMETER.finditer(address):
        yield from _forms(parameter[2], "")


def _forms(secret: str, user: str) -> Iterator[str]:
    plain = unquote(secret)
    if len(plain) >= SHORTEST:
        yield from (secret, plain, quote(plain, safe=""))
        for password in (secret, plain):  # as in the headers of HTTP
            yield base64.b64encode(f"{unquote(user)}:{password}".encode()).decode()
