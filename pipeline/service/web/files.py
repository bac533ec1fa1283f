"""The page's files, as they lie in the package."""

import hashlib
from pathlib import Path
from typing import Any, Final

from litestar import Request, Response, get
from litestar.params import FromPath

from engines.errors import RequestError
from pipeline.service.web.gate import needs

FOLDER: Final = Path(__file__).with_name("page")
TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
}


def page_files() -> dict[str, Path]:
    """Return the files of the page by their path in its folder: what a client asks for is looked up, never joined."""
    return {
        file.relative_to(FOLDER).as_posix(): file
        for file in FOLDER.rglob("*")
        if file.is_file() and file.suffix in TYPES
    }


def _answer(request: Request[Any, Any, Any], name: str) -> Response[bytes]:
    file = page_files().get(name)
    if file is None:
        raise RequestError(404, f"the page has no file {name[:100]!r}")
    content = file.read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"etag": tag, "cache-control": "no-cache"}  # asked for again each time, so that an update is seen at once
    if request.headers.get("if-none-match") == tag:
        return Response(b"", status_code=304, headers=headers)
    return Response(content, media_type=TYPES[file.suffix], headers=headers)


@get("/", opt=needs("nobody"), include_in_schema=False, sync_to_thread=True)
def index(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Return the page."""
    return _answer(request, "index.html")


@get("/page/{file:path}", opt=needs("nobody"), include_in_schema=False, sync_to_thread=True)
def page_file(request: Request[Any, Any, Any], file: FromPath[str]) -> Response[bytes]:
    """Return a file of the page."""
    return _answer(request, str(file).lstrip("/"))
