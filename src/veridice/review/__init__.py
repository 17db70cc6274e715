"""The reviewer's desk: a study in the browser, what people say of its masks, and the masks they correct.

May be imported by cli. What serves the desk needs the extra ``review``; what was stored is read without it.
"""

import lazy_loader as lazy

HANDED_ON = {
    "exchange": "MANIFEST TABLE calibration_rows edited_masks export import_ratings training_root",
    "options": "DeskOptions check_codes",
    "store": "FOLDER kept_open",
    "studied": "dataset_of open_study",
}
__getattr__, __dir__, __all__ = lazy.attach(__name__, submod_attrs={name: names.split() for name, names in HANDED_ON.items()})
