"""The files of the live chart: our script and style, and Plotly from the installed package.

Their addresses contain a hash or a version, so browsers may keep them for ever. They are
compressed once, when first asked for, and nothing comes from another host.
"""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from pathlib import Path

import plotly
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_HERE = Path(__file__).parent
_FILES = tuple(sorted(p for p in _HERE.iterdir() if p.suffix in (".js", ".css")))
_FOR_EVER = "public, max-age=31536000, immutable"
_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

# One hash for all of them: the scripts import each other by their names in this folder.
_HASH = hashlib.sha256(b"".join(path.read_bytes() for path in _FILES)).hexdigest()[:12]
SCRIPT = f"/live/{_HASH}/live_chart.js"
STYLE = f"/live/{_HASH}/live_chart.css"
PLOTLY = f"/live/plotly-{plotly.__version__}.min.js"

PRELOAD = ", ".join(
    (
        f"<{PLOTLY}>; rel=preload; as=script",
        f"<{STYLE}>; rel=preload; as=style",
        *(f"</live/{_HASH}/{p.name}>; rel=modulepreload" for p in _FILES if p.suffix == ".js"),
    )
)
"""The value of a Link header that fetches them while the page is still being made."""

_CONTENT = {f"/live/{_HASH}/{path.name}": path for path in _FILES} | {
    PLOTLY: Path(str(plotly.__file__)).parent / "package_data" / "plotly.min.js"
}


@cache
def compressed(path: str) -> bytes:
    """The file at *path*, gzipped. Plotly takes a third of a second the first time."""
    return gzip.compress(_CONTENT[path].read_bytes(), compresslevel=6, mtime=0)


def _serve(request: Request) -> Response:
    path = request.url.path
    headers = {"Cache-Control": _FOR_EVER, "Vary": "Accept-Encoding"}
    body = compressed(path)
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
    else:
        body = gzip.decompress(body)
    return Response(body, media_type=_TYPES[_CONTENT[path].suffix], headers=headers)


def routes() -> list[Route]:
    """One route a file."""
    return [Route(path, _serve) for path in _CONTENT]
