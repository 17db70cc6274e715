"""What the gateway knows of its studies, and what it may forget."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from veridice.gateway.queue import MOST_TRIES, Queue, Sent

REPORT = Sent("1.2", "1.3", "1.4", "report.dcm")


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    made = Queue(tmp_path / "queue.sqlite")
    yield made
    made.close()


def add(queue: Queue, image: str = "i1", key: str = "s1", patient: str = "p1") -> None:
    queue.add_image(key, patient, image, "digest", f"{image}.dcm", 10)


def test_a_study_goes_its_way(queue: Queue) -> None:
    add(queue)
    add(queue, "i2")
    assert queue.claim(quiet_s=60) is None, "it has not been quiet for long"
    study = queue.claim(quiet_s=0)
    assert study is not None and (study.state, study.images) == ("judging", 2)
    assert queue.claim(quiet_s=0) is None, "it is being judged"
    assert queue.judged(study, "review", 0.7, [REPORT])
    waiting = queue.next_to_send()
    assert waiting is not None and waiting.objects == (REPORT,)
    queue.try_later(waiting, 60, "the archive does not answer")
    assert queue.next_to_send() is None
    queue.try_later(waiting, -1, "again")
    later = queue.next_to_send()
    assert later is not None and later.tries == 2
    queue.publish(later, [REPORT])
    assert queue.sent(later)
    assert [(row.state, row.verdict, row.published) for row in queue.studies()] == [("sent", "review", (REPORT,))]


@pytest.mark.parametrize("state", ["judging", "judged", "sent", "failed"])
def test_more_images_make_a_study_wait_again_whatever_became_of_it(queue: Queue, state: str) -> None:
    add(queue)
    study = queue.claim(0)
    assert study is not None
    if state in ("judged", "sent"):
        queue.judged(study, "accept", 0.9, [REPORT])
    if state == "sent":
        queue.sent(study)
    if state == "failed":
        queue.failed(study, "judging", "no FLAIR")
    add(queue, "i2")
    assert queue.study("s1").state == "received"
    if state == "judging":
        assert not queue.judged(study, "accept", 0.9, [REPORT]), "what was made of fewer images counts for nothing"
        assert queue.study("s1").state == "received"


def test_what_is_known_of_an_image(queue: Queue) -> None:
    assert queue.what_is_known("s1", "p1", "i1", "digest") == "new"
    add(queue)
    assert queue.what_is_known("s1", "p1", "i1", "digest") == "known"
    assert queue.what_is_known("s1", "p1", "i1", "other") == "other content"
    assert queue.what_is_known("s1", "p2", "i9", "digest") == "other patient"
    assert queue.study("s1").generation == 1, "looking changes nothing"


def test_a_judge_that_dies_is_tried_again_and_given_up_in_the_end(queue: Queue) -> None:
    add(queue)
    for _ in range(MOST_TRIES - 1):
        assert queue.claim(0) is not None
        assert queue.recover() == []
    assert queue.claim(0) is not None
    assert queue.recover() == ["s1"]
    row = queue.study("s1")
    assert row.state == "failed" and "memory" in row.reason
    add(queue, "i2")
    assert queue.claim(0) is not None, "more images give it another chance"


def test_kills_of_the_gateway_hardly_count_against_a_study(queue: Queue) -> None:
    add(queue)
    for _ in range(20):
        assert queue.claim(0) is not None
        queue.forgive()  # the gateway was killed, and begins again
        assert queue.recover() == []
    for _ in range(MOST_TRIES - 2):
        assert queue.claim(0) is not None
        queue.recover()
    assert queue.study("s1").state == "failed", "but what always takes the gateway with it is given up"


def test_files_go_after_their_time_and_what_became_of_them_stays(queue: Queue) -> None:
    add(queue)
    study = queue.claim(0)
    assert study is not None
    assert queue.done_before(time.time() + 1) == [], "it is being judged"
    queue.failed(study, "judging", "no FLAIR")
    assert queue.done_before(time.time() - 60) == []
    assert queue.done_before(time.time() + 1) == ["s1"]
    assert not queue.emptied("s1", time.time() - 60), "it changed meanwhile"
    assert queue.emptied("s1", time.time() + 1)
    assert queue.done_before(time.time() + 1) == []
    assert (queue.study("s1").state, queue.study("s1").images) == ("failed", 0)
    assert not queue.try_again("s1", {}), "nothing is there to judge"


def test_a_person_may_try_again_with_another_series(queue: Queue) -> None:
    add(queue)
    study = queue.claim(0)
    assert study is not None
    queue.failed(study, "judging", "two FLAIRs")
    assert queue.try_again("s1", {"flair_series": "2"})
    again = queue.claim(60)
    assert again is not None and again.options == {"flair_series": "2"}


def test_studies_that_were_judged_are_done_where_there_is_no_archive(queue: Queue) -> None:
    add(queue)
    study = queue.claim(0)
    assert study is not None
    queue.judged(study, "accept", 0.9, [REPORT])
    assert queue.done_before(time.time() + 1) == []
    assert queue.done_before(time.time() + 1, unsent_too=True) == ["s1"]


def test_names_are_hashed_with_a_salt_that_stays_and_is_the_sites_own(tmp_path: Path) -> None:
    first, again, other = (Queue(tmp_path / name / "q") for name in ("a", "a", "b"))
    assert first.hashed("1.2.3") == again.hashed("1.2.3") != other.hashed("1.2.3")
    assert b"1.2.3" not in (tmp_path / "a" / "q").read_bytes()


def test_many_at_once_lose_no_image_and_claim_no_study_twice(queue: Queue) -> None:
    def bring(worker: int) -> None:
        for number in range(20):
            add(queue, f"{worker}-{number}", key=f"s{number}")

    threads = [threading.Thread(target=bring, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(row.images for row in queue.studies()) == 160
    claimed: list[str] = []

    def judge() -> None:
        other = Queue(queue.file)
        while (study := other.claim(0)) is not None:
            claimed.append(study.key)

    threads = [threading.Thread(target=judge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == sorted({f"s{number}" for number in range(20)})
