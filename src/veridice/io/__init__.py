"""Files to volumes and cases, and back."""
