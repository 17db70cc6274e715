"""The paper's experiment on any data set: which method finds the failed segmentations."""
