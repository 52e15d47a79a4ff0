"""From a plan and a rule table to exact attention inside ComfyUI's own diffusion models.

`wrappers`, `override`, `families` and `hints` alone touch ComfyUI; everything else is plain tensors and numbers.
"""
