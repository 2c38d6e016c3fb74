"""What operators send and are told, as the admin port's OpenAPI shows it. Times are Unix seconds."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from ops.projects import PROJECT_NAME
from ops.registry import AdapterManifest, GateResult
from serving.keys import MOST_CONCURRENT, KeyInfo, KeyLimits, Role
from serving.validation import RequestModel

T = TypeVar("T")
_MOST = 2**31 - 1


class _View(BaseModel):
    model_config = ConfigDict(frozen=True)


class Listing(_View, Generic[T]):
    object: Literal["list"] = "list"
    data: tuple[T, ...]


class ErrorDetail(_View):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorReply(_View):
    """Every error, as OpenAI's API tells them."""

    error: ErrorDetail


class NewProject(RequestModel):
    name: str = Field(pattern=f"^{PROJECT_NAME}$")
    origins: list[str] = Field(default=[], max_length=100, description="Web pages that may send feedback with a receipt alone.")


class NewOrigins(RequestModel):
    origins: list[str] = Field(max_length=100, description="All of them: those not named may no longer.")


class ProjectView(_View):
    name: str
    created: float
    origins: tuple[str, ...]
    keys: int = Field(description="Keys that open it now.")


class LimitsBody(RequestModel):
    """None: no limit."""

    requests_per_min: int | None = Field(default=None, ge=1, le=_MOST)
    tokens_per_min: int | None = Field(default=None, ge=1, le=_MOST)
    concurrent: int | None = Field(default=None, ge=1, le=MOST_CONCURRENT)

    def limits(self) -> KeyLimits:
        return KeyLimits(**self.model_dump())


class NewKey(RequestModel):
    projects: list[str] = Field(default=[], max_length=1000, description="Whose key it is; or all_projects.")
    all_projects: bool = Field(default=False, description="Those made later too. For operators.")
    role: Literal["app", "annotator", "operator"] = "app"
    name: str = Field(default="", max_length=200, description="Whose it is, for the list.")
    days: float | None = Field(default=None, gt=0, le=36_500, description="Until it expires; None: never.")
    limits: LimitsBody = LimitsBody()


class KeyView(_View):
    id: str
    name: str
    role: Role
    projects: tuple[str, ...] = Field(description="Empty for a key of all projects.")
    all_projects: bool
    limits: KeyLimits
    created: float
    expires: float | None
    revoked: float | None

    @classmethod
    def fields_of(cls, info: KeyInfo) -> dict[str, Any]:
        shown = {name: getattr(info, name) for name in ("id", "name", "role", "limits", "created", "expires", "revoked")}
        return shown | {"projects": () if info.everywhere else info.projects, "all_projects": info.everywhere}


class CreatedKey(KeyView):
    key: str = Field(description="The secret. It is kept nowhere, and shown this once.")


class AdapterRow(_View):
    id: str
    project: str
    version: int
    parent: str = Field(description="Adapter id, or 'base'.")
    published: float
    state: str = Field(description="CHAMPION, RETIRED, GATED, REJECTED, REFUSED, or its rollout's state.")
    live: bool = Field(description="Every ready engine of this gateway has it.")
    gates: tuple[GateResult, ...]


class AdapterView(AdapterManifest):
    state: str
    live: bool
