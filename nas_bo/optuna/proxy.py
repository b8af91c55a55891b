"""A storage behind Optuna's gRPC proxy, ``grpc://host:port``: the proxy has the connections to the database, and its clients remember what has ended.

Start one on the machine of the database, in Python::

    optuna.storages.run_grpc_proxy_server(nas_bo.optuna.storages.backend("postgresql://..."), host="0.0.0.0", port=13000)

It asks nobody for a password: let only machines that you trust reach its port. Imports grpc where it is used.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from urllib.parse import urlsplit

from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, GrpcStorageProxy

from nas_bo.errors import HostError, MissingExtra

SCHEME = "grpc://"
READY_S = 10.0  # until a proxy answers


def proxy(url: str) -> BaseStorage:
    """The storage behind a proxy that answers.

    Raises:
        HostError: it is not ``grpc://host:port``, or nobody answers there.
        MissingExtra: grpcio is not installed.
    """
    try:
        made = urlsplit(url)
        host, port = made.hostname, made.port
    except ValueError:  # a port that cannot be one
        host = port = None
    if not host or not port or made.path.strip("/") or made.query or made.username:
        raise HostError(
            "a storage behind a proxy is written as grpc://host:port, such as grpc://10.0.0.5:13000, and nothing else"
        )
    if find_spec("grpc") is None:
        raise MissingExtra("grpcio", "grpc")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        found = GrpcStorageProxy(host=host, port=port)
    try:
        found.wait_server_ready(READY_S)
    except ConnectionError:
        raise HostError(
            f"nobody answers at grpc://{host}:{port}; start a proxy on the machine of the database, in Python: "
            f"optuna.storages.run_grpc_proxy_server(optuna.storages.RDBStorage('postgresql://...'), host='0.0.0.0', port={port})"
        ) from None
    return found
