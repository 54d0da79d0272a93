"""Certificates and keys: what is checked of them before a connection is made."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

from kappacore.errors import InvalidOptionError

#: redis-py's names for the files, which may also come from a URL.
FILES = {"tls_ca": "ssl_ca_certs", "tls_cert": "ssl_certfile", "tls_key": "ssl_keyfile"}
_FOLDER = "ssl_ca_path"
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # how OpenSSL finds an authority in a folder


def complete(
    arguments: dict[str, Any],
    files: dict[str, Path],
    key_password: str | None,
    verify: bool | None,
) -> None:
    """Add what was given to redis-py's arguments for TLS, and check that it can be used.

    Args:
        arguments: The arguments so far, as the URL says; changed in place.
        files: The files and folders that were given, by the names of the options.
        key_password: What opens the client's key.
        verify: Whether to check the server's certificate; None: as the URL says.

    Raises:
        InvalidOptionError: If a file or a pass phrase cannot be used.
    """
    for name, path in files.items():
        is_folder = name == "tls_ca" and path.is_dir()
        arguments[_FOLDER if is_folder else FILES[name]] = str(path)
    if verify is not None:
        arguments["ssl_cert_reqs"] = "required" if verify else "none"
        arguments["ssl_check_hostname"] = verify
    verifies = arguments.setdefault("ssl_cert_reqs", "required") != "none"
    arguments.setdefault("ssl_check_hostname", verifies)
    if key_password is not None:
        arguments["ssl_password"] = key_password
    # An empty one fails where none at all would ask for it on the terminal, and wait.
    arguments.setdefault("ssl_password", "")
    _check(arguments)


def _check(arguments: dict[str, Any]) -> None:
    for name, argument in FILES.items():
        if argument in arguments and not Path(arguments[argument]).is_file():
            raise InvalidOptionError(
                f"The TLS file {arguments[argument]!r} does not exist or is not a file. Give "
                f"{name}= the path of a file in PEM form."
            )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _check_authorities(context, arguments.get(FILES["tls_ca"]), arguments.get(_FOLDER))
    certificate, key = arguments.get(FILES["tls_cert"]), arguments.get(FILES["tls_key"])
    if certificate is None and key is not None:
        raise InvalidOptionError(
            "tls_key= was given without tls_cert=. Give the certificate that belongs to the key, "
            "or leave both out."
        )
    if certificate is not None:
        _check_own(context, certificate, key or certificate, arguments["ssl_password"])


def _check_authorities(context: ssl.SSLContext, file: str | None, folder: str | None) -> None:
    if folder is not None and not any(
        _HASHED.fullmatch(path.name) for path in Path(folder).glob("*")
    ):
        raise InvalidOptionError(
            f"The TLS folder {folder!r} has no certificate under a name that TLS would look for. "
            f"Run: openssl rehash {folder}; or give tls_ca= a file in PEM form."
        )
    if file is not None:
        try:
            context.load_verify_locations(file)
        except ssl.SSLError as error:
            raise InvalidOptionError(
                f"The TLS file {file!r} holds no certificates ({error}). Give tls_ca= those of the "
                f"authorities to trust, in PEM form."
            ) from None


def _check_own(context: ssl.SSLContext, certificate: str, key: str, password: str) -> None:
    try:
        context.load_cert_chain(certificate, key, password)
    except (ssl.SSLError, ValueError) as error:  # the latter of a pass phrase that is too long
        if "ENCRYPTED" in Path(key).read_text(errors="replace"):
            if not password:
                raise InvalidOptionError(
                    f"The key {key!r} needs a pass phrase. Give it as tls_key_password=, or a key "
                    f"that needs none."
                ) from None
            raise InvalidOptionError(
                f"The key {key!r} cannot be used with the certificate {certificate!r} and the "
                f"pass phrase in tls_key_password= ({error}). Give those that belong together."
            ) from None
        raise InvalidOptionError(
            f"The certificate {certificate!r} and the key {key!r} cannot be used together "
            f"({error}). Give tls_cert= and tls_key= files in PEM form that belong together."
        ) from None
