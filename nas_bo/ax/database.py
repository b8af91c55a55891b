"""Ax's SQL storage for experiments with our spaces. Imports ax and sqlalchemy: loaded on first use only."""

from __future__ import annotations

from ax.api.configs import StorageConfig
from ax.core.parameter import Parameter
from ax.storage.metric_registry import CORE_METRIC_REGISTRY
from ax.storage.registry_bundle import RegistryBundle
from ax.storage.runner_registry import CORE_RUNNER_REGISTRY
from ax.storage.sqa_store.db import create_all_tables, get_engine, init_engine_and_session_factory
from ax.storage.sqa_store.decoder import Decoder
from ax.storage.sqa_store.sqa_classes import SQAParameter

from nas_bo import database_url
from nas_bo.ax.evaluate import Metric, Runner
from nas_bo.errors import HostError

METRIC, RUNNER = 7301, 7302  # our types in Ax's tables


class _Decoder(Decoder):  # type: ignore[misc]
    """Ax keeps the values that parameters depend on as the keys of a JSON object, which are texts ("true", "4"), and then
    does not find them among the values of the choice."""

    def parameter_from_sqa(self, parameter_sqa: SQAParameter) -> Parameter:
        below, values = parameter_sqa.dependents, parameter_sqa.choice_values
        if below and values:
            named = {_as_key(value): value for value in values}
            parameter_sqa.dependents = {named.get(_as_key(key), key): names for key, names in below.items()}
        return super().parameter_from_sqa(parameter_sqa)


def _as_key(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


class _Bundle(RegistryBundle):  # type: ignore[misc]
    @property
    def decoder(self) -> _Decoder:
        return _Decoder(config=self.sqa_config)


def config(url: str) -> StorageConfig:
    """See `nas_bo.ax.storage`."""
    given = database_url.shown(url)
    url = database_url.with_driver(url) if database_url.is_url(url) else database_url.sqlite_url(url)
    try:
        init_engine_and_session_factory(url=url, force_init=True)
        create_all_tables(get_engine())
    except Exception as error:
        raise HostError(
            f"the database {given!r} cannot be opened ({type(error).__name__}: {str(error).splitlines()[0]}); give a URL such as "
            "sqlite:///ax.db"
        ) from error
    metrics, runners = {**CORE_METRIC_REGISTRY, Metric: METRIC}, {**CORE_RUNNER_REGISTRY, Runner: RUNNER}
    return StorageConfig(url=url, registry_bundle=_Bundle(metric_clss=metrics, runner_clss=runners))
