"""What runs at a site for each message of the server, in a process that Flower starts. It reads scans; none of them leaves."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable

from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import fixedclipping_mod
from flwr.common.constant import ErrorCode
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from veridice.errors import ConfigError, OutputError, VeridiceError
from veridice.federated.federation import load_federation
from veridice.federated.messages import (
    ARRAYS,
    BUSY,
    EXAMPLES,
    FINGERPRINT,
    LACKS,
    METRICS,
    NETWORK,
    ROUND,
    SAID,
    TEXT,
    federation_file,
    from_record,
    to_record,
)
from veridice.federated.site import NetworksLackError, Site
from veridice.quality.common_scores import SiteScores
from veridice.quality.site_reports import SiteReport

Answer = Callable[[Site, Message], RecordDict]
app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """A round of local training: weights in, weights and a count out."""

    def learnt(site: Site, question: Message) -> RecordDict:
        said = question.content[SAID]
        if site.agreement.privacy and said.get(KEY_CLIPPING_NORM) != site.agreement.privacy.clip:
            raise ConfigError("the server asks for changes that are not shortened as agreed")
        local = site.train(str(said[NETWORK]), int(said[ROUND]), from_record(question.content[ARRAYS]))
        # Where privacy is promised, sites count alike and their sizes are not told.
        count = 1 if site.agreement.privacy else local.examples
        return RecordDict({ARRAYS: to_record(local.arrays), METRICS: MetricRecord({EXAMPLES: count})})

    def inner(question: Message, _context: Context) -> Message:
        return answered(question, learnt)

    # The change is shortened before it leaves, where the server asks for that.
    shortened = KEY_CLIPPING_NORM in message.content[SAID]
    return fixedclipping_mod(message, context, inner) if shortened else inner(message, context)


@app.evaluate()
def evaluate(message: Message, _context: Context) -> Message:
    """Metrics of the common weights on the site's validation people."""

    def judged(site: Site, question: Message) -> RecordDict:
        said = question.content[SAID]
        metrics = site.score(str(said[NETWORK]), int(said[ROUND]), from_record(question.content[ARRAYS]))
        return RecordDict({METRICS: MetricRecord(dict(metrics))})

    return answered(message, judged)


@app.query("keep")
def keep(message: Message, _context: Context) -> Message:
    """Keep final weights."""

    def kept(site: Site, question: Message) -> RecordDict:
        site.keep(str(question.content[SAID][TEXT]), from_record(question.content[ARRAYS]))
        return RecordDict()

    return answered(message, kept)


@app.query("scores")
def scores(message: Message, _context: Context) -> Message:
    """Sorted scores of the site's masks."""

    def shared(site: Site, question: Message) -> RecordDict:
        found = site.scores(json.loads(str(question.content[SAID][TEXT])))
        return RecordDict({SAID: ConfigRecord({TEXT: json.dumps([one.model_dump() for one in found])})})

    return answered(message, shared)


@app.query("finish")
def finish(message: Message, _context: Context) -> Message:
    """Keep the common decision, where there is one; nothing more will be asked."""

    def finished(site: Site, question: Message) -> RecordDict:
        content = json.loads(str(question.content[SAID][TEXT]))
        try:
            common = [SiteScores.model_validate(one) for one in content["scores"]]
            reports = {needed: SiteReport.model_validate(one) for needed, one in content["report"].items()}
            site.decide(common, reports, int(content["sites"]))
        finally:
            site.finish()
        return RecordDict()

    return answered(message, finished)


def answered(message: Message, answer: Answer) -> Message:
    """The reply to a message; of an error nothing is told but its kind, since its text may name people and folders.

    The text goes to the site's own log.
    """
    try:
        federation = load_federation(federation_file(), "site")
        assert federation.site is not None  # noqa: S101 (load_federation made sure)
        site = Site.of(federation, federation.site)
        if message.content[SAID].get(FINGERPRINT) != site.fingerprint:
            site.tell("no part taken: the server agreed on something else; compare agreed.txt and start again")
            return refused(message, "this site agreed on something else; compare the [federation] sections and configurations")
        with site.working():
            return Message(answer(site, message), reply_to=message)
    except OutputError:
        traceback.print_exc()
        return refused(message, BUSY)
    except NetworksLackError:
        return refused(message, LACKS)
    except Exception as error:
        traceback.print_exc()
        kind = "an input of this site cannot be used" if isinstance(error, VeridiceError) else "this site failed"
        return refused(message, f"{kind} ({type(error).__name__}); see its own log")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def refused(message: Message, why: str) -> Message:
    """An answer that is none."""
    return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, why), reply_to=message)
