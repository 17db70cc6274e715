"""The paper's experiment: which method finds the segmentations that failed? Folds, stages, methods, tables, figures."""
