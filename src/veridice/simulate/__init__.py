"""Simulated patients: a brain, lesions, two contrasts, a scanner, and the truth (after SynthSeg, WMH-SynthSeg)."""
