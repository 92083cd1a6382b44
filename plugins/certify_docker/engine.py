"""The one place that talks to the docker SDK's client and translates its errors.

Which engine: what ``DOCKER_HOST``, ``DOCKER_TLS_VERIFY``, ``DOCKER_CERT_PATH`` or the current docker context say, as
the SDK reads them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.errors import ImageNotFound as SdkImageNotFound

from certify.errors import CertifyError, EngineUnavailable, ImageNotFound, NodeLost
from certify.logs import responses

_LOG = logging.getLogger(__name__)
#: Labels on everything certify makes: which run made it, as what.
RUN_LABEL = "dev.certify.run"
NODE_LABEL = "dev.certify.node"
OWNER_LABEL = "dev.certify.owner"
_REMEDY = "start it (`systemctl start docker`, or `dockerd` as root) or set DOCKER_HOST; see `certify doctor`"


def connect(host: str | None = None, timeout: int = 60) -> docker.DockerClient:
    """A client of the engine at ``host``, or of the environment's. Raises EngineUnavailable."""
    with translated():
        client = docker.DockerClient(base_url=host, timeout=timeout) if host else _from_environment(timeout)
        client.api.hooks["response"].append(responses(_LOG))
        client.ping()
        return client


@contextmanager
def connected() -> Iterator[docker.DockerClient]:
    """A client of the environment's engine for a few calls, closed afterwards. Raises EngineUnavailable."""
    client = connect()
    try:
        yield client
    finally:
        client.close()


def _from_environment(timeout: int) -> docker.DockerClient:
    if not os.environ.get("DOCKER_HOST"):
        from docker.context import ContextAPI

        context = ContextAPI.get_current_context()
        if context is not None and context.name != "default":
            return docker.DockerClient(base_url=context.Host, tls=context.TLSConfig or False, timeout=timeout)
    return docker.from_env(timeout=timeout)


@contextmanager
def translated(
    missing: type[CertifyError] = NodeLost, refused: type[CertifyError] = EngineUnavailable
) -> Iterator[None]:
    """Turn the SDK's errors into certify's. ``missing`` is what a 404 means here, ``refused`` any other refusal."""
    try:
        yield
    except SdkImageNotFound as error:
        raise ImageNotFound(_explain(error), "list what is there with `docker images`") from None
    except NotFound as error:
        raise missing(_explain(error)) from None
    except APIError as error:
        raise refused(f"the docker engine refused: {_explain(error)}") from None
    except DockerException as error:
        raise EngineUnavailable(f"the docker engine does not answer: {_explain(error)}", _REMEDY) from None
    except (requests.exceptions.RequestException, OSError) as error:
        raise EngineUnavailable(f"the docker engine does not answer: {_explain(error)}", _REMEDY) from None


def _explain(error: Exception) -> str:
    text: Any = getattr(error, "explanation", None) or error
    return " ".join(str(text).split())[:300]
