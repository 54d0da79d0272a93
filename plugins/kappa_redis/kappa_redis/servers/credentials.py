"""Passwords that change: asked for at each connection, and in no pickle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import redis
from redis.credentials import CredentialProvider

from kappacore.errors import InvalidOptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    #: A password, or a user and a password.
    Login = str | bytes | tuple[str, str]


class NoCredentialsError(redis.AuthenticationError):
    """There is nothing to log in with now."""


class AskedCredentials(CredentialProvider):
    """Gives redis-py the credentials that are right at this moment.

    Args:
        ask: Returns a password, or a user and a password.
        username: Who logs in, where ``ask`` does not say it.
    """

    def __init__(self, ask: Callable[[], Login], username: str | None) -> None:
        self._ask = ask
        self.username = username
        #: What was given last, to be taken out of errors.
        self.last: tuple[str | None, str | None] = (username, None)

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return the password, after the user if one is known.

        Raises:
            NoCredentialsError: If there are none now.
        """
        try:
            found: Any = self._ask()
        except redis.RedisError:
            raise
        except Exception as error:
            raise NoCredentialsError(
                f"credentials= raised {type(error).__name__}: {error}"
            ) from error
        pair = found if isinstance(found, tuple) else (self.username, found)
        if (
            len(pair) != 2
            or not isinstance(pair[0], str | bytes | None)
            or not isinstance(pair[1], str | bytes)
        ):
            raise NoCredentialsError(
                f"credentials= returned a {type(found).__name__}, not a password or a pair of "
                f"user and password"
            )
        try:
            username, password = (
                each.decode() if isinstance(each, bytes) else each for each in pair
            )
        except UnicodeDecodeError:  # which holds the password
            raise NoCredentialsError("credentials= returned bytes that are not UTF-8") from None
        self.last = username, password
        return (password,) if username is None else (username, password)


def read_credentials(
    arguments: dict[str, Any],
    username: str | None,
    password: str | None,
    password_file: str | Path | None,
    credentials: Callable[[], Login] | None,
) -> None:
    """Add to redis-py's arguments who logs in.

    Args:
        arguments: The arguments so far, as the URL says; changed in place.
        username: Who logs in.
        password: The password.
        password_file: A file that holds it.
        credentials: A function that returns it, or the user and it.

    Raises:
        InvalidOptionError: If more than one says what the password is, or one cannot.
    """
    ways = {
        "password_file=": password_file,
        "a password in url=": arguments.get("password"),
        "password=": password,
        "credentials=": credentials,
    }
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1 and (password_file is not None or credentials is not None):
        raise InvalidOptionError(
            f"{' and '.join(given)} were given. Leave all but one of them out."
        )
    if credentials is not None and not callable(credentials):
        raise InvalidOptionError(
            f"credentials= is a {type(credentials).__name__}, not a function that returns a "
            f"password, or a pair of user and password."
        )
    for name, value in (("username", username), ("password", password)):
        if value is not None:  # YAML has numbers
            arguments[name] = value.decode() if isinstance(value, bytes) else str(value)
    if password_file is not None:
        credentials = partial(_read_password, Path(password_file))
    if credentials is not None:
        arguments["credential_provider"] = AskedCredentials(
            credentials, arguments.pop("username", None)
        )


def _read_password(path: Path) -> str:
    shown = f"password_file={str(path)!r}"
    try:
        password = path.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeError) as error:
        raise NoCredentialsError(f"{shown} cannot be read: {error}") from None
    if not password:
        raise NoCredentialsError(f"{shown} holds no password")
    return password
