"""From a plan and a rule table to exact attention inside ComfyUI's own diffusion models.

`wrappers` and `override` call ComfyUI's diffusion models, `hints` its text encoders, and `families` knows both by name;
everything else is plain tensors and numbers. Read `payload` (what is sent) first, then `wrappers` (when) and `grouped`
(how).
"""
