"""The admin port: projects, keys, adapters and rollouts, for operators. Adapter ids are shown here, and nowhere else.

An operator's key is for some projects, or for all: others do not exist for it, and what concerns all needs one for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer

from feedback.log import EventLog
from ops import metrics
from ops.audit import AuditError, AuditLog
from ops.lineage import states_in
from ops.registry import AdapterManifest, AdapterRefused, Registry
from ops.settings import Settings
from serving.admin_models import (
    AdapterRow,
    AdapterView,
    CreatedKey,
    ErrorReply,
    KeyView,
    Listing,
    NewKey,
    NewOrigins,
    NewProject,
    ProjectView,
)
from serving.auth import Authenticator
from serving.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unavailable, error_response, install_error_handlers
from serving.gate import Gate, Rules
from serving.keys import ALL_PROJECTS, Caller, KeyInfo, KeyStore
from serving.known_keys import KnownKeys
from serving.labeling.admin_routes import add_label_routes
from serving.labeling.streams import Streams
from serving.limits import BodyLimit
from serving.request_id import RequestId
from serving.validation import explain_first
from serving.worker_metrics import WorkerMetrics

if TYPE_CHECKING:
    from ops.controller import Controller

ADMIN_PORT: Rules = {
    ("GET", "/healthz"): "anyone",
    ("GET", "/metrics"): ("operator",),
    ("GET", "/openapi.json"): ("operator",),
    ("GET", "/admin/v1/projects"): ("operator",),
    ("POST", "/admin/v1/projects"): ("operator",),
    ("PUT", "/admin/v1/projects/{project}/origins"): ("operator",),
    ("GET", "/admin/v1/projects/{project}/rollout"): ("operator",),
    ("GET", "/admin/v1/projects/{project}/adapters"): ("operator",),
    ("GET", "/admin/v1/adapters/{adapter}"): ("operator",),
    ("GET", "/admin/v1/projects/{project}/labels"): ("operator",),
    ("POST", "/admin/v1/projects/{project}/labels"): ("operator",),
    ("GET", "/admin/v1/labels/{stream}"): ("operator",),
    ("GET", "/admin/v1/labels/{stream}/raters"): ("operator",),
    ("POST", "/admin/v1/labels/{stream}/items"): ("operator",),
    ("POST", "/admin/v1/labels/{stream}/draw"): ("operator",),
    ("POST", "/admin/v1/labels/{stream}/close"): ("operator",),
    ("GET", "/admin/v1/keys"): ("operator",),
    ("POST", "/admin/v1/keys"): ("operator",),
    ("POST", "/admin/v1/keys/{key_id}/revoke"): ("operator",),
}

_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request cannot be answered"},
    "5XX": {"model": ErrorReply, "description": "The server failed"},
}

_BEARER = HTTPBearer(auto_error=False, description="An operator's key.")
"""For the schema: the gate has looked at the key before."""

_log = structlog.get_logger(__name__)


class LiveAdapters(Protocol):
    """What is asked of the gateway's adapter manager."""

    def is_live(self, adapter: str) -> bool:
        """Whether every ready engine has it."""
        ...


def create_admin_app(
    settings: Settings,
    keys: KeyStore,
    registry: Registry,
    log: EventLog,
    manager: LiveAdapters,
    told: WorkerMetrics | None = None,
    clock: Callable[[], float] = time.time,
    known: KnownKeys | None = None,
) -> FastAPI:
    """The application for ``settings.admin_port``. It owns nothing it is given: whoever opened that closes it."""
    app = FastAPI(title="Plaudit admin", docs_url=None, redoc_url=None)
    desk = _Desk(settings, keys, registry, log, manager, clock)
    routes = APIRouter(responses=_ERRORS, dependencies=[Depends(_BEARER)])
    _add_projects(routes, desk)
    _add_keys(routes, desk)
    _add_adapters(routes, desk)
    add_label_routes(routes, Streams(keys, clock), log, _for_project, desk.audit)
    _add_own_routes(app, routes, told or WorkerMetrics(settings.run_dir, None))
    app.include_router(routes)
    install_error_handlers(app, "/admin/v1/projects, /admin/v1/keys and /admin/v1/adapters, see /openapi.json")
    app.add_exception_handler(RequestValidationError, _refused)
    app.add_middleware(BodyLimit, max_bytes=settings.limits.max_body_bytes, timeout_s=settings.limits.body_timeout_s)
    app.add_middleware(Gate, rules=ADMIN_PORT, routes=app.routes, authenticator=Authenticator(known or KnownKeys(keys)))
    app.add_middleware(RequestId)
    return app


@dataclass
class _Desk:
    """What the routes work with. They run in threads: none of them holds up an answer."""

    settings: Settings
    keys: KeyStore
    registry: Registry
    log: EventLog
    manager: LiveAdapters
    clock: Callable[[], float]
    controllers: dict[str, Controller] = field(default_factory=dict)
    controlling: threading.Lock = field(default_factory=threading.Lock)

    def audit(self, by: Caller, what: str, target: str) -> None:
        """Record what was done, in the file and in this process's own log. Raises `Unavailable`: it is done by then."""
        _log.info(what.replace(".", "_"), target=target, by=by.key_id)
        try:
            with closing(AuditLog.of(self.settings)) as log:
                log.record(by.key_id or "", what, target)
        except AuditError as error:
            _log.error("audit_failed", what=what, target=target, by=by.key_id, error=str(error))
            raise Unavailable("This was done, but could not be noted in the audit log.", code="audit_failed") from error

    def project_view(self, project: str) -> ProjectView:
        open_it = [info for info in self.keys.list(project) if info.holds(self.clock())]
        created, origins = self.keys.projects()[project], self.keys.origins().get(project, ())
        return ProjectView(name=project, created=created, origins=origins, keys=len(open_it))

    def rollout(self, project: str) -> dict[str, Any]:
        """As ``plaudit ab status --json`` has it. What was read of the log once is not read again."""
        with self.controlling:
            if project not in self.controllers:
                from ops.controller import Controller  # it brings SciPy, which no answer needs

                settings = self.settings.model_copy(update={"project": project})
                self.controllers[project] = Controller(self.log, settings, self.registry, self.clock)
            return self.controllers[project].status()

    def adapters(self, manifests: list[AdapterManifest], project: str) -> list[tuple[AdapterManifest, str, bool]]:
        """Each with its state, and whether it is live."""
        states = states_in(self.log, project, manifests)
        return [(manifest, states[manifest.id], self.manager.is_live(manifest.id)) for manifest in manifests]


def _add_own_routes(app: FastAPI, routes: APIRouter, told: WorkerMetrics) -> None:
    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        """The process lives."""
        return {"status": "ok"}

    @routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def metrics_page(request: Request) -> Response:
        """Everything this gateway measures, adapter ids included. For a key of all projects."""
        _everywhere(request)
        return Response(told.page(metrics.GATEWAY, metrics.LOG, metrics.ADMIN), media_type=_PROMETHEUS)


def _add_projects(routes: APIRouter, desk: _Desk) -> None:
    @routes.get("/admin/v1/projects")
    def list_projects(request: Request) -> Listing[ProjectView]:
        return Listing(data=tuple(desk.project_view(project) for project in _caller(request).projects))

    @routes.post("/admin/v1/projects", status_code=201)
    def create_project(body: NewProject, request: Request) -> ProjectView:
        """For a key of all projects."""
        by = _everywhere(request)
        try:
            made = desk.keys.create_project(body.name, body.origins)
        except ValueError as error:
            raise InvalidRequest(f"'origins': {error}.", param="origins") from error
        if not made:
            text = f"There is a project {body.name!r} already: PUT /admin/v1/projects/{body.name}/origins replaces its origins."
            raise Conflict(text, param="name", code="project_exists")
        desk.audit(by, "project.create", body.name)
        return desk.project_view(body.name)

    @routes.put("/admin/v1/projects/{project}/origins")
    def replace_origins(project: str, body: NewOrigins, request: Request) -> ProjectView:
        by = _for_project(request, project)
        try:
            desk.keys.set_origins(project, body.origins)
        except ValueError as error:
            raise InvalidRequest(f"'origins': {error}.", param="origins") from error
        desk.audit(by, "project.origins", project)
        return desk.project_view(project)

    @routes.get("/admin/v1/projects/{project}/rollout")
    def show_rollout(project: str, request: Request) -> dict[str, Any]:
        """Champion, challenger, exposure, evidence and what is missing, as 'plaudit ab status --json' has it."""
        _for_project(request, project)
        return desk.rollout(project)


def _add_keys(routes: APIRouter, desk: _Desk) -> None:
    @routes.get("/admin/v1/keys")
    def list_keys(request: Request, project: str | None = Query(default=None, max_length=100)) -> Listing[KeyView]:
        """Without their secrets, revoked ones included."""
        by = _caller(request) if project is None else _for_project(request, project)
        found = desk.keys.all() if project is None else desk.keys.list(project)
        return Listing(data=tuple(KeyView(**KeyView.fields_of(info)) for info in found if _is_theirs(info, by)))

    @routes.post("/admin/v1/keys", status_code=201)
    def create_key(body: NewKey, request: Request) -> CreatedKey:
        """The secret is shown this once."""
        by = _everywhere(request) if body.all_projects else _caller(request)
        projects = [*body.projects, ALL_PROJECTS] if body.all_projects else body.projects
        if not projects:
            raise InvalidRequest("'projects' is empty: name at least one.", param="projects")
        for project in body.projects:
            if not by.may(project):
                raise InvalidRequest(f"'projects' has {project[:100]!r}, which is none of this key's.", param="projects")
        ttl = None if body.days is None else body.days * 86_400
        first, *also = projects
        try:
            secret, info = desk.keys.create(first, body.role, body.name, ttl, also=also, limits=body.limits.limits())
        except ValueError as error:
            raise InvalidRequest(f"{error}.", param="role") from error
        desk.audit(by, "key.create", info.id)
        return CreatedKey(key=secret, **KeyView.fields_of(info))

    @routes.post("/admin/v1/keys/{key_id}/revoke")
    def revoke_key(key_id: str, request: Request) -> KeyView:
        """Refuse a key from now on, within a second by every gateway; revoking twice changes nothing."""
        by = _caller(request)
        unknown = NotFound(f"There is no key {key_id[:100]!r}: see GET /admin/v1/keys.", param="key_id")
        try:
            if not _is_theirs(desk.keys.find(key_id), by):
                raise unknown
        except LookupError as error:
            raise unknown from error
        desk.keys.revoke(key_id)
        desk.audit(by, "key.revoke", key_id)
        return KeyView(**KeyView.fields_of(desk.keys.find(key_id)))


def _add_adapters(routes: APIRouter, desk: _Desk) -> None:
    @routes.get("/admin/v1/projects/{project}/adapters")
    def list_adapters(project: str, request: Request) -> Listing[AdapterRow]:
        """Oldest first."""
        _for_project(request, project)
        known = desk.adapters(desk.registry.list(project), project)
        shown = AdapterRow.model_fields.keys() - {"state", "live"}
        return Listing(
            data=tuple(AdapterRow(**{n: getattr(m, n) for n in shown}, state=state, live=live) for m, state, live in known)
        )

    @routes.get("/admin/v1/adapters/{adapter}")
    def show_adapter(adapter: str, request: Request) -> AdapterView:
        """With everything its manifest says: gates with their figures, what it was trained on."""
        unknown = NotFound(f"There is no adapter {adapter[:100]!r}: see GET /admin/v1/projects/…/adapters.", param="adapter")
        try:
            manifest = desk.registry.get(adapter)
        except (LookupError, AdapterRefused) as error:
            raise unknown from error
        if not _caller(request).may(manifest.project):
            raise unknown
        ((_, state, live),) = desk.adapters([manifest], manifest.project)
        return AdapterView(**manifest.model_dump(), state=state, live=live)


def _caller(request: Request) -> Caller:
    """Whom the gate let in."""
    caller: Caller = request.state.caller
    return caller


def _for_project(request: Request, project: str) -> Caller:
    caller = _caller(request)
    if not caller.may(project):
        raise NotFound(f"There is no project {project[:100]!r} for this key: see GET /admin/v1/projects.", param="project")
    return caller


def _everywhere(request: Request) -> Caller:
    caller = _caller(request)
    if not caller.everywhere:
        raise Forbidden("This needs an operator's key of all projects: 'plaudit keys create --role operator --all-projects'.")
    return caller


def _is_theirs(info: KeyInfo, caller: Caller) -> bool:
    """Whether an operator may see and revoke a key: all that it opens is theirs too."""
    return caller.everywhere or all(caller.may(project) for project in info.projects)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """What FastAPI found wrong with a request, as our own 400."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_response(explain_first({**first, "loc": first["loc"][1:]}))
