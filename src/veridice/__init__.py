"""Can this lesion mask be trusted? Predicted Dice, maps of doubt and a verdict for lesion segmentations.

>>> import veridice
>>> result = veridice.check("FLAIR.nii.gz", t1="T1w.nii.gz", mask="lesions.nii.gz")  # doctest: +SKIP
>>> result.verdict, result.predicted_dice, result.interval  # doctest: +SKIP
('review', 0.78, (0.65, 0.87))
"""

import lazy_loader as lazy

# Imported on first use: the command line answers at once, and stored results can be read on a machine without torch.
# What there is stands in the stub beside this file, which type checkers read too.
__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)
