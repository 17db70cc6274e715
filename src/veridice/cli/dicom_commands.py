"""``dicom``: one DICOM study in, objects for the archive out. ``gateway``: a node that does so for every study."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from veridice.case import plain_name
from veridice.cli.common import (
    DISCLAIMER,
    AsJson,
    Coverage,
    Device,
    Engine,
    MaxMissed,
    MaxWasted,
    MinDice,
    Output,
    Passes,
    Seed,
    Weights,
    err,
    from_extra,
    inference_settings,
    out,
    passes_bar,
)
from veridice.errors import InputError

EXTRA = "pip install 'veridice[dicom]'"
COMMANDS = ("start", "status", "retry")

gateway = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Inbox = Annotated[Path, typer.Option(help="Folder of studies and queue; made when absent.")]
FlairSeries = Annotated[str | None, typer.Option(help="Number, UID or part of the description of the FLAIR series.")]
T1Series = Annotated[str | None, typer.Option(help="The same of the T1w; none: without it.")]
MaskSeries = Annotated[str | None, typer.Option(help="The same of the segmentation to judge; none: ours.")]
Segment = Annotated[str | None, typer.Option(help="Number or part of the label of its segment.")]
Labelmap = Annotated[bool, typer.Option("--labelmap", help="Write segmentations of labels; not every viewer shows them.")]


def dicom(
    study_dir: Annotated[Path, typer.Argument(help="Folder of one DICOM study, with all its series.")],
    output: Output,
    flair_series: FlairSeries = None,
    t1_series: T1Series = None,
    mask_series: MaskSeries = None,
    segment: Segment = None,
    mask: Annotated[Path | None, typer.Option(help="Lesion mask in NIfTI, judged in place of a segmentation.")] = None,
    labelmap: Labelmap = False,
    deidentify: Annotated[
        bool, typer.Option("--deidentify", help="Objects, and the images they point at, without names, dates and UIDs.")
    ] = False,
    case: Annotated[str, typer.Option(help="Name for files and report; nothing of the patient belongs there.")] = "study",
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    max_missed: MaxMissed = 0.05,
    max_wasted: MaxWasted = 0.05,
    coverage: Coverage = 0.9,
    device: Device = "auto",
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Judge the FLAIR of a DICOM study; segmentation, maps, structured report and picture come back as DICOM."""
    settings = inference_settings(passes, seed, min_dice, max_missed, max_wasted, coverage, device, engine)
    if mask and (mask_series or segment):
        raise typer.BadParameter("give a file or a series, not both", param_hint="--mask, --mask-series, --segment")
    study = from_extra("veridice.gateway.study", "veridice dicom and gateway", EXTRA)
    from veridice.io.dicom_headers import files_below

    files = files_below(study_dir)
    options = study.StudyOptions(flair_series, t1_series, mask_series, segment, labelmap=labelmap)
    try:
        with passes_bar(settings.passes) as on_step:
            judged = study.judge_study(
                files,
                output,
                options=options,
                mask=mask,
                models=weights,
                settings=settings,
                case=plain_name(case),
                deidentified=deidentify,
                on_choice=None if as_json else _tell_choice,
                on_step=on_step,
            )
    except InputError as error:
        raise type(error)(f"{study_dir}: {error}" if str(study_dir) not in str(error) else str(error)) from error
    _tell(judged, output, as_json)


def _tell_choice(choice: Any) -> None:
    taken = {choice.flair.uid: "FLAIR", **({choice.t1.uid: "T1w"} if choice.t1 else {})}
    if choice.segmentation:
        taken[choice.segmentation.uid] = "mask"
    table = Table(
        "series", "description", "images", "taken as", "what it is", title="Series of the study", title_justify="left"
    )
    for series, reason in choice.reasons:
        taken_as = taken.get(series.uid, "")
        row = [
            str(series.number),
            escape(plain_name(series.description)),
            str(series.frames),
            taken_as,
            escape(plain_name(reason)),
        ]
        table.add_row(*row)
    out.print(table)
    for sentence in choice.unsure:
        out.print(f"[yellow]warning:[/yellow] {escape(plain_name(sentence))}")


def _tell(judged: Any, output: Path, as_json: bool) -> None:
    from veridice.cli.scan_commands import print_assessment, with_absolute_paths

    assessment = judged.result.assessment
    if as_json:
        row = with_absolute_paths(assessment, output)
        row["dicom"] = {what: str(path.resolve()) for what, path in judged.files.items()}
        sys.stdout.write(json.dumps(row) + "\n")
        return
    print_assessment(assessment, output)
    for what, path in judged.files.items():
        out.print(f"{what.replace('-', ' ')}: {escape(plain_name(str(path)))}", highlight=False)


def opening_gateway(arguments: list[str]) -> list[str]:
    """``gateway --aet ...`` means ``gateway start --aet ...``."""
    if arguments[:1] == ["gateway"] and len(arguments) > 1 and arguments[1] not in (*COMMANDS, "--help"):
        return ["gateway", "start", *arguments[1:]]
    return arguments


@gateway.callback()
def about() -> None:
    """A DICOM node that judges every study it gets and sends the results back. `gateway --inbox DIR ...` starts it."""


@gateway.command("start")
def start(
    inbox: Inbox,
    send: Annotated[
        str | None,
        typer.Option(help="Where results go: HOST:PORT/AET, or an address of DICOMweb; else they stay in the inbox."),
    ] = None,
    aet: Annotated[str, typer.Option(help="Our AE title.")] = "VERIDICE",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 11112,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 opens the node to the network.")] = "127.0.0.1",
    caller: Annotated[
        list[str] | None, typer.Option("--from", help="AE title that may send; repeat. Others are refused.")
    ] = None,
    poll: Annotated[str | None, typer.Option(help="Ask this DICOMweb address for studies too, or instead.")] = None,
    poll_days: Annotated[int, typer.Option(min=0, max=3650, help="How many days back studies are asked for.")] = 2,
    poll_seconds: Annotated[float, typer.Option(min=1, help="Between two looks.")] = 60.0,
    quiet: Annotated[float, typer.Option(min=0.1, help="Seconds without a new image after which a study is judged.")] = 60.0,
    own: Annotated[bool, typer.Option("--own", help="Judge our mask even where another tool's segmentation is there.")] = False,
    labelmap: Labelmap = False,
    keep_hours: Annotated[
        float, typer.Option(min=0, help="After which files of studies that were sent, or failed, go.")
    ] = 72.0,
    max_study_gb: Annotated[float, typer.Option(min=0.1, help="Largest study that is taken.")] = 8.0,
    min_free_gb: Annotated[float, typer.Option(min=0, help="Of the disk, that stay free: below it nothing is taken.")] = 1.0,
    tls_certificate: Annotated[Path | None, typer.Option(help="Ours (PEM); with it all connections are encrypted.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    tls_partners: Annotated[
        Path | None, typer.Option(help="Certificates, or their authority, that partners show (PEM).")
    ] = None,
    weights: Weights = None,
    calibration: Annotated[Path | None, typer.Option(help="calibration.json of your own; else the one that ships.")] = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    max_missed: MaxMissed = 0.05,
    max_wasted: MaxWasted = 0.05,
    coverage: Coverage = 0.9,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Take studies by C-STORE, or ask an archive for them; judge each; send the results. Ctrl-C ends it, nothing is lost."""
    settings = inference_settings(passes, seed, min_dice, max_missed, max_wasted, coverage, device, engine)
    if not caller and not poll:
        raise typer.BadParameter("say who may send, or which archive to ask", param_hint="--from, --poll")
    serve = from_extra("veridice.gateway.supervisor", "veridice dicom and gateway", EXTRA)
    from veridice.gateway.send import TITLE

    for title in (aet, *(caller or ())):
        if not TITLE.fullmatch(title):
            raise typer.BadParameter(f"'{title}' is no AE title: 1 to 16 letters without spaces", param_hint="--aet, --from")
    from veridice.gateway.inbox import Limits, tell_in_the_log
    from veridice.gateway.node import Partners
    from veridice.gateway.send import archive_of
    from veridice.gateway.tls import tls_files
    from veridice.gateway.worker import WorkerSettings

    tls = tls_files(tls_certificate, tls_key, tls_partners)
    tell_in_the_log()
    worker = WorkerSettings(
        inbox=inbox.resolve(),
        quiet_s=quiet,
        judge="own" if own else "any",
        labelmap=labelmap,
        weights=weights.resolve() if weights else None,
        calibration=calibration.resolve() if calibration else None,
        inference=settings,
    )
    options = serve.GatewayOptions(
        worker=worker,
        limits=Limits(study_bytes=int(max_study_gb * 1e9), free_bytes=int(min_free_gb * 1e9), keep_hours=keep_hours),
        partners=Partners(aet, tuple(caller), host, port, tls.coming() if tls else None) if caller else None,
        archive=archive_of(send, aet, tls) if send else None,
        poll_s=poll_seconds,
        tls=tls,
    )

    for address in filter(None, (send, poll)):
        if address.startswith("http://") and not re.match(r"http://(127\.0\.0\.1|localhost|\[::1\])[:/]", address):
            err.print("[yellow]warning:[/yellow] results and images go to the archive unencrypted: give an https:// address")

    def tell(at: str, number: int) -> None:
        err.print(escape(f"{aet} listens at {at}:{number}; Ctrl-C ends it, nothing is lost then. {DISCLAIMER}"))
        if at not in ("127.0.0.1", "::1") and tls is None:
            err.print("[yellow]warning:[/yellow] the node is open to the network and not encrypted: see --tls-certificate")

    serve.serve(options, poll, poll_days, tell)


@gateway.command("status")
def status(
    inbox: Inbox,
    study: Annotated[str | None, typer.Option(help="Only the study with this UID, or name in the table.")] = None,
    as_json: AsJson = False,
) -> None:
    """What became of each study. Studies are named by a hash; --study finds the one with a UID."""
    serve = from_extra("veridice.gateway.supervisor", "veridice dicom and gateway", EXTRA)
    rows = serve.statuses(inbox, study)
    if as_json:
        names = ("key", "state", "images", "verdict", "predicted_dice", "reason", "changed")
        sys.stdout.write(json.dumps([{name: getattr(row, name) for name in names} for row in rows]) + "\n")
        return
    table = Table(*(Column(name, no_wrap=True) for name in ("study", "state", "since", "images", "verdict", "Dice")), "reason")
    for row in rows:
        since = time.strftime("%m-%d %H:%M", time.localtime(row.changed))
        dice = "" if row.predicted_dice is None else f"{row.predicted_dice:.2f}"
        table.add_row(row.key, row.state, since, str(row.images), row.verdict, dice, escape(plain_name(row.reason)))
    out.print(table)


@gateway.command("retry")
def retry(
    study: Annotated[str, typer.Argument(help="The study: its UID, or its name in the table.")],
    inbox: Inbox,
    flair_series: FlairSeries = None,
    t1_series: T1Series = None,
    mask_series: MaskSeries = None,
    segment: Segment = None,
) -> None:
    """Judge a study once more, with series that a person chose."""
    serve = from_extra("veridice.gateway.supervisor", "veridice dicom and gateway", EXTRA)
    asked = {"flair_series": flair_series, "t1_series": t1_series, "mask_series": mask_series, "segment": segment}
    serve.retry(inbox, study, {name: value for name, value in asked.items() if value is not None})
    err.print(escape(f"{study}: will be judged again by the gateway of this inbox"))
