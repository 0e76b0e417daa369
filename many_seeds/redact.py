"""Keeps passwords out of what is printed, logged and published: CI keeps its logs, and others read them."""

import base64
import os
import re
from collections.abc import Iterator, Mapping
from urllib.parse import quote, unquote

HIDDEN = "***"
SHORTEST = 3  # characters of a password that is looked for as it is: a shorter one is a part of many words
SHORTEST_USER = 8  # the same of a user without a password, which may be a token, and may be a word

# An @ that is not escaped belongs to the password. A database's may have a slash as well, as SQLAlchemy reads it.
LOGIN = re.compile(r"(?<!\bhttp)(?<!\bhttps)://[^:/@\s]*:[^@\s]*@(?:[^/\s]*@)?|://[^/\s]*@", re.IGNORECASE)
_LONG = r"[\w.-]*(?:password|passwd|passphrase|pwd|token|secret|signature|credentials?|odbc_connect)"
_SHORT = r"(?:[\w.-]*[-_.])?(?:api|access|account|private|shared)?[-_.]?(?:key|sig|sas|auth)"
PARAMETER = re.compile(rf"((?:(?<![\w.-]){_LONG}|[?&;]{_SHORT})=)([^&\s#\"'<>]*[^&\s#\"'<>:;,])", re.IGNORECASE)
HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*b?['\"]?(?:basic|bearer)\s+)[^\s'\"]+", re.IGNORECASE)

# The variables of the environment that hold an address, and those that hold a secret.
ADDRESS = re.compile(r"(?:_UR[IL]|_ADDRESS|_PROXY|^DATA_MIRROR)$", re.IGNORECASE)
SECRET = re.compile(r"(?:PASSWORD|TOKEN|SECRET|SECRET_ACCESS_KEY)$", re.IGNORECASE)

TRACKING_USERNAME = "MLFLOW_TRACKING_USERNAME"
TRACKING_PASSWORD = "MLFLOW_TRACKING_PASSWORD"
SERVER = re.compile(r"(https?://)([^/?#\s]*)@(.*)", re.IGNORECASE | re.DOTALL)


def redact(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """The text with *** for what should stay between a person and a server.

    That is: the user and password of every address, values of parameters whose names say that they are secret, and,
    wherever they stand, the passwords and tokens in `environment`, as they are written there and decoded.
    """
    for secret in sorted(set(_secrets(environment)), key=len, reverse=True):  # one may begin with another
        text = text.replace(secret, HIDDEN)
    text = LOGIN.sub(f"://{HIDDEN}@", text)
    text = PARAMETER.sub(rf"\1{HIDDEN}", text)
    return HEADER.sub(rf"\1{HIDDEN}", text)


def without_login(address: str) -> tuple[str, dict[str, str]]:
    """A tracking server's address without user and password, and the variables from which MLflow takes these.

    Any other tracking URI, such as a database's, stays as it is.
    """
    if not (parts := SERVER.fullmatch(address)):
        return address, {}
    scheme, login, rest = parts.groups()
    user, colon, password = login.partition(":")
    variables = {TRACKING_USERNAME: unquote(user)} | ({TRACKING_PASSWORD: unquote(password)} if colon else {})
    return scheme + rest, variables


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """The passwords and tokens that the variables hold, in every form in which they may come up."""
    for name, value in environment.items():
        if SECRET.search(name):
            yield from _forms(value, environment.get(TRACKING_USERNAME, ""))
        elif ADDRESS.search(name):
            yield from _of_address(value)


def _of_address(address: str) -> Iterator[str]:
    scheme, _, rest = address.rpartition("://")  # a proxy may have no scheme
    # By either reading of a slash before the @: the password's, or the beginning of the path.
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
        for password in (secret, plain):  # as HTTP sends them
            yield base64.b64encode(f"{unquote(user)}:{password}".encode()).decode()
