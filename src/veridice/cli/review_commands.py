"""``review``: a judged study in the browser; its ratings out and in."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from veridice.cli.common import Weights, err, from_extra, one_of, out
from veridice.errors import InputError

COMMANDS = ("open", "export", "import")
EXTRA = "pip install 'veridice[review]'"

review = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
Study = Annotated[Path, typer.Argument(help="Folder of derivatives that veridice run made.")]
Dataset = Annotated[
    Path | None, typer.Option("--bids-dir", help="Root of the BIDS data set; else looked for above the folder of derivatives.")
]


def opening(arguments: list[str]) -> list[str]:
    """``review STUDY`` means ``review open STUDY``."""
    if arguments[:1] == ["review"] and len(arguments) > 1 and arguments[1] not in (*COMMANDS, "--help"):
        return ["review", "open", *arguments[1:]]
    return arguments


@review.callback()
def about() -> None:
    """Look at the masks of a study in the browser: decide, correct, agree. `review STUDY_OUT` opens the desk."""


@review.command("open")
def open_desk(
    study_out: Study,
    bids_dir: Dataset = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8765,
    raters: Annotated[str, typer.Option(help="Codes of the raters, with commas between.")] = "R1",
    adjudicator: Annotated[str | None, typer.Option(help="Code of the one who decides where raters differ.")] = None,
    blind: Annotated[bool, typer.Option("--blind", help="Hide the verdict and what others said, and shuffle.")] = False,
    scale: Annotated[str, typer.Option(help="decision (accept, needs edit, reject) or 1-5; stays for the study.")] = "decision",
    double: Annotated[float, typer.Option(min=0, max=1, help="Share of the scans that several raters read.")] = 0.0,
    readings: Annotated[int, typer.Option(min=2, max=20, help="How many raters read those.")] = 2,
    max_bad: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Of the masks that nobody looks at, share that may be bad.")
    ] = 0.05,
    webhook: Annotated[
        str | None, typer.Option(help="Address that gets each rating, signed with VERIDICE_WEBHOOK_SECRET.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Others than 127.0.0.1 are open to the network.")
    ] = "127.0.0.1",
    allow_host: Annotated[list[str] | None, typer.Option(help="Further name that this machine is reached by; repeat.")] = None,
    new_links: Annotated[bool, typer.Option("--new-links", help="Make new links; the old ones stop working.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the first rater's link in the browser.")] = False,
    weights: Weights = None,
    calibration: Annotated[Path | None, typer.Option(help="The calibration.json that the study was judged with.")] = None,
) -> None:
    """Serve a judged study; prints one link for each rater. Ctrl-C ends it."""
    from veridice.review import DeskOptions, check_codes

    codes = check_codes(raters.split(","))
    if adjudicator is not None:
        check_codes([adjudicator])
        if adjudicator in codes:
            raise InputError("--adjudicator: is one of --raters; who decides must not be one of those who differ")
    if double and readings > len(codes):
        raise InputError(f"--double: {readings} raters are to read those scans; name as many with --raters")
    options = DeskOptions(
        raters=codes,
        adjudicator=adjudicator,
        blind=blind,
        scale=one_of(("decision", "1-5"), scale, "--scale"),
        double=double,
        readings=readings,
        max_bad=max_bad,
        weights=weights,
        calibration=calibration,
    )

    def tell(links: dict[str, str], scans: int) -> None:
        _tell(links, scans, study_out, host)
        if open_browser:
            webbrowser.open(next(iter(links.values())))

    serving = from_extra("veridice.review.serve", "veridice review", EXTRA)
    serving.serve(study_out, bids_dir, options, host, port, allow_host or (), webhook, new_links, tell)


def _tell(links: dict[str, str], scans: int, study: Path, host: str) -> None:
    err.print(escape(f"{scans} scans of {study}. The links hold the raters' keys: give each rater his own and nobody else's."))
    if host not in ("127.0.0.1", "localhost", "::1"):
        err.print("[yellow]warning:[/yellow] the desk is open to the network and not encrypted: put it behind a proxy with TLS")
    for code, link in links.items():
        out.print(f"{escape(code)}: {escape(link)}", highlight=False)
    err.print("Ctrl-C ends the desk. Nothing is lost then. Research use only; not a medical device.")


@review.command("export")
def export_ratings(study_out: Study, bids_dir: Dataset = None) -> None:
    """Write ratings.tsv, a rating beside each page, and a manifest of corrected masks for veridice train."""
    from veridice.review import MANIFEST, TABLE, edited_masks, export, kept_open, open_study, training_root

    scans = open_study(study_out, bids_dir)
    with kept_open(study_out) as store:
        done = export(study_out, scans, store)
        edited = [scan for scan, _ in edited_masks(study_out, scans, store)]
    counts = f"{done['ratings']} ratings of {done['scans']} scans -> {study_out / f'{TABLE}.tsv'}"
    err.print(escape(counts))
    if edited:
        manifest, root = study_out / "review" / MANIFEST, training_root(study_out, edited)
        err.print(escape(f"{len(edited)} corrected masks -> {manifest} (train with --manifest {manifest} --data {root})"))


@review.command("import")
def take_in(
    study_out: Study,
    files: Annotated[list[Path], typer.Argument(help="*_rating.json saved from the pages of scans, or their folder.")],
    bids_dir: Dataset = None,
) -> None:
    """Take over ratings that were saved from the pages of scans; the same one twice counts once."""
    from veridice.review import import_ratings, kept_open, open_study

    scans = open_study(study_out, bids_dir)
    with kept_open(study_out) as store:
        new, known, left_out = import_ratings(files, scans, store)
    for sentence in left_out:
        err.print(f"[yellow]warning:[/yellow] {escape(sentence)}")
    err.print(escape(f"{new} ratings taken over, {known} known before, {len(left_out)} left out"))
    raise typer.Exit(3 if left_out and not new and not known else 0)
