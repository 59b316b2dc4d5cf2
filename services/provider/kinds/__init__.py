"""The kinds of provider. Each is one package: `client` (key, connection, life), `wire` (messages) and `errors`."""
