"""The three networks of the paper. They see tensors only: no files, affines or paths (but `weights`)."""
