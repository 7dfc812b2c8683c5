"""What is found in media is posted to the Annotations service: once, with the caller's token; its answers decide."""

from __future__ import annotations

import base64
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from infra.database.pool import Database
from infra.encryption.box import SecretBox
from infra.errors import RecordError, RefusedError, TransientError
from sinks.annotations.errors import AnnotationFailedError, AnnotationRefusedError, TokenForgottenError
from sinks.annotations.payloads import post_id
from sinks.postgres.sink import PostgresSink
from tests.harnesses.annotation_site import BOX, PICTURE, AnnotationSite, found_event
from tests.servers.annotations import Annotations, Posted, annotations_service

pytestmark = pytest.mark.integration

NOTED = "SELECT frame_id, posted, annotation_id FROM annotation_posts WHERE run_id = $1 ORDER BY frame_id"


@pytest.fixture
async def service() -> AsyncIterator[Annotations]:
    async with annotations_service() as found:
        found.tokens.add("caller")
        yield found


@pytest.fixture
async def site(tmp_path: Path, database: Database, service: Annotations) -> AsyncIterator[AnnotationSite]:
    found = AnnotationSite(database, tmp_path, service.url)
    yield found
    await found.close()


def answering(service: Annotations, status: int, **answer: Any) -> None:
    async def answer_post(_: Posted) -> web.Response:
        return web.Response(status=status, **answer)

    service.answer_post = answer_post


async def test_a_frame_is_posted_with_its_picture_and_the_token_of_the_caller(
    site: AnnotationSite, service: Annotations, caplog: pytest.LogCaptureFixture
) -> None:
    """C-S3-020, C-S3-021, C-S3-022, C-S3-023, C-S3-025."""
    caplog.set_level(logging.DEBUG)
    run = await site.run()
    event = await site.keep_picture(found_event(6, run, (0.91234, 0.5)))
    await site.sink(image=True).write([event])
    [post] = service.posts
    assert (post.token, post.key, post.status) == ("caller", str(post_id(run, event.frame_id)), 201)
    detection = {"centerX": 0.5, "centerY": 0.75, "width": 0.5, "height": 0.5, "classNum": 3, "label": "bird"}
    assert base64.b64decode(post.body.pop("image")) == PICTURE
    assert post.body == {
        "mediaId": "clip",
        "source": 0,
        "videoTime": 1.5,
        "detections": [{**detection, "confidence": 0.9123}, {**detection, "confidence": 0.5}],
    }
    [noted] = await site.rows(NOTED, run)
    assert noted == {"frame_id": event.frame_id, "posted": True, "annotation_id": "a-1"}
    assert "caller" not in caplog.text


async def test_only_media_whose_callers_sent_a_token_are_posted(site: AnnotationSite, service: Annotations) -> None:
    """C-S3-020: a batch is valid when something was found in it."""
    silent, run = await site.run("silent", None, annotate=False), await site.run()
    others = [found_event(0, None), found_event(1, UUID(int=5)), found_event(2, silent)]
    await site.sink().write([*others, found_event(3, run, ()), found_event(4, run, video=False)])
    [post] = service.posts
    assert (post.body["mediaId"], post.body["videoTime"], "image" in post.body) == ("clip", 0.0, False)
    assert [row["posted"] for row in await site.rows(NOTED, run)].count(False) == 1
    assert await site.rows(NOTED, silent) == []


async def test_a_picture_above_the_limit_is_left_out(site: AnnotationSite, service: Annotations) -> None:
    run = await site.run()
    event = found_event(0, run)
    large = event.model_copy(update={"image": event.image.model_copy(update={"size_bytes": 5_000})})
    await site.sink(image=True, max_image_bytes=4_999).write([large])
    assert "image" not in service.posts[0].body


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413])
async def test_write_after_4xx_raises_a_record_error_with_the_response(
    site: AnnotationSite, service: Annotations, status: int
) -> None:
    """C-S3-023."""
    run, sink = await site.run(), site.sink()
    answering(service, status, text='{"error": "no such medium for caller"}')
    with pytest.raises(AnnotationRefusedError) as caught:
        await sink.write([found_event(0, run)])
    assert f"answered {status}" in str(caught.value)
    assert "no such medium" in str(caught.value)
    assert "caller" not in str(caught.value)
    # A re-drive asks again.
    service.answer_post = None
    await sink.write([found_event(0, run)])
    assert len(service.taken) == 1


async def test_many_frames_of_one_medium_that_is_unknown_count_once(site: AnnotationSite, service: Annotations) -> None:
    """One client must not hold what others found: the share of dead letters counts the first frame only."""
    run, sink = await site.run(), site.sink()
    events = [found_event(number, run) for number in range(4)]
    answering(service, 404)
    counts = []
    for event in events:
        with pytest.raises(RecordError) as caught:
            await sink.write([event])
        counts.append(caught.value.counts)
    assert counts == [True, False, False, False]


async def test_refused_frames_of_a_batch_are_posted_once_in_its_halves(
    site: AnnotationSite, service: Annotations
) -> None:
    run, sink = await site.run(), site.sink()
    events = [found_event(number, run) for number in range(4)]
    answering(service, 400)
    for part in (events, events[:2], events[:1]):
        with pytest.raises(AnnotationRefusedError):
            await sink.write(part)
    assert len(service.posts) == 4


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
async def test_posts_with_5xx_are_made_again_and_taken_ones_are_not(
    site: AnnotationSite, service: Annotations, status: int
) -> None:
    """C-S3-024."""
    run, sink = await site.run(), site.sink()
    events = [found_event(number, run) for number in range(3)]
    bad = str(post_id(run, events[1].frame_id))

    async def answer_post(post: Posted) -> web.Response:
        return web.Response(status=status if post.key == bad else 201)

    service.answer_post = answer_post
    with pytest.raises(TransientError, match=f"answered {status}"):
        await sink.write(events)
    assert len(service.taken) == 2
    answering(service, 201)
    await sink.write(events)
    assert sorted(post.key for post in service.taken) == sorted(str(post_id(run, each.frame_id)) for each in events)


async def test_a_post_that_fails_while_others_are_taken_is_given_up_after_its_time(
    site: AnnotationSite, service: Annotations
) -> None:
    """C-S3-024."""
    run, sink = await site.run(), site.sink(retry_s=0.0, give_up_s=3_600.0)
    events = [found_event(number, run) for number in range(2)]
    bad = str(post_id(run, events[0].frame_id))

    async def answer_post(post: Posted) -> web.Response:
        return web.Response(status=500, text="the disk of the service is full") if post.key == bad else web.Response()

    service.answer_post = answer_post
    with pytest.raises(TransientError):
        await sink.write(events)
    with pytest.raises(AnnotationFailedError, match=r"disk of the service.*annotations.retry_s.*others were taken"):
        await sink.write(events)


async def test_a_service_that_is_away_is_waited_for_however_long(
    site: AnnotationSite, service: Annotations, tmp_path: Path
) -> None:
    run = await site.run()
    away = AnnotationSite(site.database, tmp_path, "http://127.0.0.1:1")
    sink = away.sink(retry_s=0.0, give_up_s=0.0)
    for _ in range(3):
        with pytest.raises(TransientError, match=r"127\.0\.0\.1:1 \(media\.annotations_url\) cannot be connected to"):
            await sink.write([found_event(0, run)])
    await away.close()


async def test_a_hanging_service_gets_no_more_posts_than_are_made_at_once(
    site: AnnotationSite, service: Annotations
) -> None:
    run, sink = await site.run(), site.sink(timeout_s=0.1, concurrency=2)

    async def answer_post(_: Posted) -> web.Response:
        raise web.HTTPServiceUnavailable(headers={"Retry-After": "30"})

    service.answer_post = answer_post
    events = [found_event(number, run) for number in range(20)]
    with pytest.raises(TransientError):
        await sink.write(events)
    assert len(service.posts) <= 4
    with pytest.raises(TransientError, match="asked to wait"):
        await sink.write(events)
    assert len(service.posts) <= 4


async def test_a_redirect_is_not_followed_and_holds(site: AnnotationSite, service: Annotations) -> None:
    run = await site.run()
    answering(service, 302, headers={"Location": f"{service.url}/annotations"})
    with pytest.raises(RefusedError, match=r"media\.annotations_url"):
        await site.sink().write([found_event(0, run)])
    assert len(service.posts) == 1


async def test_the_page_of_a_proxy_holds_and_counts_nothing_as_posted(
    site: AnnotationSite, service: Annotations
) -> None:
    run, sink = await site.run(), site.sink(retry_s=0.0, give_up_s=0.0)
    answering(service, 200, text="<html>sign in, caller</html>", content_type="text/html")
    for _ in range(2):
        with pytest.raises(TransientError, match=r"answered 200: <html>sign in, \*+</html>.*media\.annotations_url"):
            await sink.write([found_event(0, run)])
    assert await site.rows(NOTED, run) == []
    answering(service, 204)
    await sink.write([found_event(0, run)])
    assert len(await site.rows(NOTED, run)) == 1


async def test_an_opaque_token_is_refreshed_when_it_is_refused(site: AnnotationSite, service: Annotations) -> None:
    """C-S3-026."""
    run, sink = await site.run("clip", "opaque", refresh="again"), site.sink()
    await site.execute("UPDATE media_runs SET refresh_at = NULL WHERE id = $1", run)
    with pytest.raises(TransientError, match="answered 401"):
        await sink.write([found_event(0, run)])
    [row] = await site.rows("SELECT refresh_at <= clock_timestamp() AS due FROM media_runs WHERE id = $1", run)
    assert row["due"]
    # The console was refused a new one.
    await site.execute("UPDATE media_runs SET refresh_at = NULL, refresh_token = NULL WHERE id = $1", run)
    with pytest.raises(AnnotationRefusedError):
        await sink.write([found_event(0, run)])
    assert service.taken == []


async def test_an_expired_token_is_refreshed_at_once_and_the_new_one_is_used(
    site: AnnotationSite, service: Annotations
) -> None:
    """C-S3-026."""
    run, sink = await site.run("clip", "old", refresh="again"), site.sink()
    with pytest.raises(TransientError, match="answered 401"):
        await sink.write([found_event(0, run)])
    [row] = await site.rows("SELECT refresh_at <= clock_timestamp() AS due FROM media_runs WHERE id = $1", run)
    assert row["due"]
    await site.execute("UPDATE media_runs SET token = $2 WHERE id = $1", run, BOX.encrypt("caller", "media"))
    await sink.write([found_event(0, run)])
    assert [post.token for post in service.posts] == ["old", "caller"]
    # It may expire, too; but a new one that is refused at once is a reason for a dead letter.
    await site.execute("UPDATE media_runs SET token = $2 WHERE id = $1", run, BOX.encrypt("old again", "media"))
    with pytest.raises(TransientError, match="answered 401"):
        await sink.write([found_event(1, run)])
    await site.execute("UPDATE media_runs SET token = $2 WHERE id = $1", run, BOX.encrypt("wrong", "media"))
    with pytest.raises(AnnotationRefusedError):
        await sink.write([found_event(1, run)])


async def test_a_token_of_other_encryption_keys_holds_and_loses_nothing(
    site: AnnotationSite, service: Annotations
) -> None:
    run, sink = await site.run(), site.sink(retry_s=0.0, give_up_s=0.0)
    other = SecretBox([b"x" * 32]).encrypt("caller", "media")
    await site.execute("UPDATE media_runs SET token = $2 WHERE id = $1", run, other)
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"encryption\.keys"):
            await sink.write([found_event(0, run)])
    assert service.posts == []


async def test_a_forgotten_token_makes_a_dead_letter_unless_the_operator_gives_one(
    site: AnnotationSite, service: Annotations
) -> None:
    run = await site.run("clip", None, annotate=True)
    with pytest.raises(TokenForgottenError, match=r"annotations\.token"):
        await site.sink().write([found_event(0, run)])
    service.tokens.add("of the operator")
    await site.sink(token="of the operator").write([found_event(0, run)])
    assert [post.token for post in service.posts] == ["of the operator"]


async def test_a_post_that_could_not_be_noted_is_noted_later_and_not_made_again(
    site: AnnotationSite, service: Annotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, sink = await site.run(), site.sink()

    async def fail(*_: object) -> None:
        raise TransientError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr("sinks.annotations.sink.write_notes", fail)
        with pytest.raises(TransientError):
            await sink.write([found_event(0, run)])
    await sink.write([found_event(0, run)])
    assert len(service.posts) == 1
    assert len(await site.rows(NOTED, run)) == 1


async def test_frames_of_two_model_versions_are_posted_once(site: AnnotationSite, service: Annotations) -> None:
    run = await site.run()
    event = found_event(0, run)
    again = event.model_copy(update={"id": UUID(int=9)})
    await site.sink().write([event, again])
    await site.sink().write([again])
    assert len(service.posts) == 1


async def test_the_rows_of_another_sink_do_not_need_the_service(site: AnnotationSite, service: Annotations) -> None:
    run = await site.run()
    answering(service, 500)
    sink, postgres = site.sink(), PostgresSink(site.database)
    with pytest.raises(TransientError):
        await sink.write([found_event(0, run)])
    await postgres.write([found_event(0, run)])
    assert len(await site.rows("SELECT id FROM detections")) == 1
