"""All routes as one application."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from litestar import Litestar, Request, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from engines.errors import RequestError, TrunklineError
from pipeline.service.auth import SAFE_METHODS
from pipeline.service.web import events, files, live, login, people, streams, system, tuning, video, zones
from pipeline.service.web.gate import (
    SLASH,
    OuterGate,
    framework_error,
    guard,
    needs,
    not_allowed,
    out_of_range,
    refused,
    user_of,
)
from pipeline.service.web.site import Site

MAX_BODY: Final = 20_000_000  # bytes of a request: a photo


def make_app(site: Site) -> OuterGate:
    """Return the application that serves a site, and closes it at the end."""

    @asynccontextmanager
    async def hearing(_: Litestar) -> AsyncIterator[None]:
        site.hub.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.to_thread(site.hub.stop)
            site.close()

    async def record(request: Request[Any, Any, Any]) -> None:
        await asyncio.to_thread(_record, site, request)

    app = Litestar(
        route_handlers=[
            files.index,
            files.page_file,
            *login.ROUTES,
            *live.ROUTES,
            *events.ROUTES,
            *people.ROUTES,
            *zones.ROUTES,
            *streams.ROUTES,
            *tuning.ROUTES,
            *system.ROUTES,
            *video.ROUTES,
        ],
        guards=[guard],
        # Their names must be no field's of a body: what is wrong there would count as the server's own fault.
        dependencies={
            "site": Provide(lambda: site, sync_to_thread=False),
            "reader": Provide(_user, sync_to_thread=False),
        },
        exception_handlers={
            RequestError: refused,
            TrunklineError: not_allowed,
            HTTPException: framework_error,
            OverflowError: out_of_range,
            RecursionError: out_of_range,
        },
        after_response=record,
        lifespan=[hearing],
        logging_config=None,
        state=State({"site": site}),
        request_max_body_size=MAX_BODY,
        openapi_config=OpenAPIConfig(
            title="Trunkline",
            version="1",
            operation_id_creator=_operation_id,
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
            openapi_router=Router(
                path="/api",
                route_handlers=[],
                opt=needs("viewer"),
                include_in_schema=False,
                before_request=_only_the_description,
            ),
        ),
    )
    return OuterGate(app, site)


def _only_the_description(request: Request[Any, Any, Any]) -> None:
    """Refuse what has no route in our form: the framework would answer with a page of its own."""
    if not request.url.path.endswith("/openapi.json"):
        raise RequestError(404, "Not Found")


def _operation_id(_: Any, method: Any, path: list[Any]) -> str:
    """The name of a route in the API's description: its method, and the parts of its path."""
    return "_".join((str(method).lower(), *(part if isinstance(part, str) else part.name for part in path)))


def _user(request: Request[Any, Any, Any]) -> Any:
    return user_of(request)


def _record(site: Site, request: Request[Any, Any, Any]) -> None:
    """Keep what was changed, and by whom; without what was sent."""
    who = request.scope.get("user")
    if request.method in SAFE_METHODS or who is None:
        return
    site.accounts.record(
        who.name, login.address_of(request), f"{request.method} {request.url.path.replace(SLASH, '/')}"
    )
