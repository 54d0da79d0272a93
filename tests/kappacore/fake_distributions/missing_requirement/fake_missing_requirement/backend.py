import a_client_that_nobody_has  # noqa: F401
