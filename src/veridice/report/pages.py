"""Pages from templates that lie beside the code that fills them: every text is escaped, every gap is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

VERDICT_WORDS = {
    "accept": "The mask is expected to be good enough.",
    "review": "A person should look at this mask.",
    "reject": "The mask is expected to have failed.",
}


def page_environment(package: str) -> Environment:
    """Templates in the folder ``templates`` of a package."""
    return Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
