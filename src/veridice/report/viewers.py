"""Commands that show a scan with its mask in the viewers that people have."""

from __future__ import annotations

from shlex import quote


def viewer_commands(flair: str | None, mask: str | None, t1: str | None = None) -> dict[str, str]:
    """A shell command for each viewer; none without a FLAIR and a mask.

    Args:
        flair, mask, t1: paths, as the reader's shell would have them.
    """
    if flair is None or mask is None:
        return {}
    flair, mask, t1 = quote(flair), quote(mask), quote(t1) if t1 else None
    return {
        "FSLeyes": f"fsleyes {f'{t1} ' if t1 else ''}{flair} {mask} --overlayType mask --outline --maskColour 1 0.35 0.12",
        "freeview": f"freeview -v {f'{t1} ' if t1 else ''}{flair} {mask}:colormap=lut:outline=1",
        "ITK-SNAP": f"itksnap -g {flair}{f' -o {t1}' if t1 else ''} -s {mask}",
    }
