"""Procedural dermoscopy with known truth: skin of a stated ITA, lesions, artefacts, patients."""

from melfast.prepare.synth.dataset import SynthSettings, synthesize
from melfast.prepare.synth.draw import SynthSample, draw_sample
from melfast.prepare.synth.overview import write_sheet

__all__ = ["SynthSample", "SynthSettings", "draw_sample", "synthesize", "write_sheet"]
