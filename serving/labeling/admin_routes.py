"""``/admin/v1/…/labels``: operators make, fill, watch and close streams."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Request
from pydantic import Field

from feedback.log import EventConflict, EventLog
from serving.admin_models import Listing
from serving.errors import Conflict, InvalidRequest, NotFound
from serving.keys import Caller
from serving.labeling.answers import check_right_answer
from serving.labeling.golden import truth
from serving.labeling.places import Found, find_places
from serving.labeling.plan import Live, StreamPlan
from serving.labeling.statistics import RaterView, StreamView, rater_views, stream_view
from serving.labeling.streams import Stream, StreamNameTaken, Streams
from serving.validation import RequestModel

Audit = Callable[[Caller, str, str], None]


class NewStream(StreamPlan):
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")

    def plan(self) -> StreamPlan:
        return StreamPlan(**{name: getattr(self, name) for name in StreamPlan.model_fields})


class NewItem(RequestModel):
    """Answers of the log to be judged; with their right answer: a golden item."""

    completion_ids: list[str] = Field(min_length=1, max_length=16)
    right: int | float | str | list[int] | list[str] | None = Field(
        default=None,
        description="The value, the ranks, or the harms that are right, in the order of completion_ids; none: not golden.",
    )
    tests: str | None = Field(default=None, min_length=1, max_length=32_768, description="Python that checks code in the answer.")


class NewItems(RequestModel):
    items: list[NewItem] = Field(min_length=1, max_length=1000)


class Filled(RequestModel):
    """How many items came."""

    added: int


def add_label_routes(
    routes: APIRouter, streams: Streams, log: EventLog, for_project: Callable[[Request, str], Caller], audit: Audit
) -> None:
    """``for_project`` is the caller if the project is theirs, else it raises `NotFound`; ``audit`` notes who did what."""

    @routes.get("/admin/v1/projects/{project}/labels")
    def list_streams(project: str, request: Request) -> Listing[StreamView]:
        """Oldest first, closed ones included, each with its figures."""
        for_project(request, project)
        return Listing(data=tuple(stream_view(streams, stream) for stream in streams.list([project])))

    @routes.post("/admin/v1/projects/{project}/labels", status_code=201)
    def create_stream(project: str, body: NewStream, request: Request) -> StreamView:
        """Items are drawn from the log at once, where the source says so."""
        by = for_project(request, project)
        try:
            stream = streams.create(project, body.name, body.plan())
        except StreamNameTaken as error:
            raise Conflict(f"{str(error).capitalize()}: use another name.", param="name", code="stream_exists") from error
        streams.draw(stream, log)
        audit(by, "label.create", stream.id)
        return stream_view(streams, stream)

    @routes.get("/admin/v1/labels/{stream}")
    def show_stream(stream: str, request: Request) -> StreamView:
        return stream_view(streams, find(request, stream)[0])

    @routes.get("/admin/v1/labels/{stream}/raters")
    def list_raters(stream: str, request: Request) -> Listing[RaterView]:
        return Listing(data=tuple(rater_views(streams, find(request, stream)[0])))

    @routes.post("/admin/v1/labels/{stream}/items", status_code=201)
    def add_items(stream: str, body: NewItems, request: Request) -> Filled:
        """Answers are named by their completion ids; those that are in the stream already are passed over."""
        found, by = find(request, stream)
        added = add_named_items(streams, log, found, body.items)
        audit(by, "label.add", found.id)
        return Filled(added=added)

    @routes.post("/admin/v1/labels/{stream}/draw")
    def draw_items(stream: str, request: Request) -> Filled:
        """Fill the stream up to its quota from the log, as its source says."""
        found, by = find(request, stream)
        added = streams.draw(found, log)
        audit(by, "label.draw", found.id)
        return Filled(added=added)

    @routes.post("/admin/v1/labels/{stream}/close")
    def close_stream(stream: str, request: Request) -> StreamView:
        """Hand out no more of it; tasks that are out can still be answered. Closing twice changes nothing."""
        found, by = find(request, stream)
        closed = streams.close(found.id)
        audit(by, "label.close", found.id)
        return stream_view(streams, closed)

    def find(request: Request, id: str) -> tuple[Stream, Caller]:
        unknown = NotFound(f"There is no stream {id[:100]!r}: see GET /admin/v1/projects/…/labels.", param="stream")
        try:
            stream = streams.find(id)
            return stream, for_project(request, stream.project)
        except (LookupError, NotFound) as error:
            raise unknown from error


def add_named_items(streams: Streams, log: EventLog, stream: Stream, items: list[NewItem]) -> int:
    """How many were new. All are checked before the first is added. Raises `NotFound`, `InvalidRequest`, `LogError`."""
    answers = find_places(log, {id for item in items for id in item.completion_ids})
    for place, item in enumerate(items):
        _check_item(stream, item, answers, f"items[{place}]")
    return sum(_add(streams, log, stream, item, answers) for item in items)


def _check_item(stream: Stream, item: NewItem, answers: dict[str, Found], param: str) -> None:
    for id in item.completion_ids:
        if id not in answers or answers[id].project != stream.project:
            text = f"'{param}' names {id[:100]!r}, which is no answer of this project that ended well and can be read."
            raise NotFound(text, param=f"{param}.completion_ids", code="unknown_completion")
    fewest, most = stream.plan.answers
    count = len(set(item.completion_ids))
    if not fewest <= count <= most or count < len(item.completion_ids):
        text = f"'{param}' has {len(item.completion_ids)} answers: a {stream.plan.kind} is about {fewest} to {most}, each once."
        raise InvalidRequest(text, param=f"{param}.completion_ids")
    if len({answers[id].question for id in item.completion_ids}) > 1:
        text = f"'{param}' has answers to different questions: take answers to one."
        raise InvalidRequest(text, param=f"{param}.completion_ids")
    if item.right is not None:
        check_right_answer(stream.plan, item.right, count)
    elif isinstance(stream.plan.source, Live):
        text = f"'{param}' has no 'right': the items of a stream of conversations are golden ones, for its entry test."
        raise InvalidRequest(text, param=f"{param}.right")


def _add(streams: Streams, log: EventLog, stream: Stream, item: NewItem, answers: dict[str, Found]) -> bool:
    named = [answers[id] for id in item.completion_ids]
    if item.right is not None:
        try:
            log.append([truth(stream, named, item.right, streams.now())])
        except EventConflict as error:
            text = f"{item.completion_ids[0]!r} is golden in this stream, with another right answer."
            raise Conflict(text, param="right", code="item_exists") from error
    return streams.add(stream, [one.place for one in named], right_answer=item.right, tests=item.tests) is not None
