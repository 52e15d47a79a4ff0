"""Published numbers, to set beside one's own and never as one's own: RePlan's paper (arXiv 2512.16864), table 1.

Judge: Gemini-2.5-Pro, IV-Edit's test split. None of these was measured by this project.
"""

SOURCE = "published: RePlan, arXiv 2512.16864, table 1; judge Gemini-2.5-Pro; not measured here"
COLUMNS = ("quality", "target", "effect", "consistency", "overall", "weighted")
TABLE = {
    "Gemini-2.5-Flash-Image": (3.89, 4.11, 3.93, 2.89, 3.71, 3.44),
    "GPT-4o": (3.61, 4.02, 3.78, 1.77, 3.30, 3.07),
    "InstructPix2Pix": (2.47, 2.47, 1.90, 1.40, 2.06, 1.48),
    "UniWorld-V1": (3.26, 2.89, 2.18, 1.46, 2.45, 1.84),
    "Bagel-Think": (3.44, 3.47, 2.93, 2.33, 3.05, 2.46),
    "Flux.1 Kontext dev": (3.93, 3.34, 2.73, 2.88, 3.22, 2.49),
    "Flux.1 Kontext dev + RePlan": (4.16, 3.47, 2.59, 3.64, 3.46, 2.55),
    "Qwen-Image-Edit": (3.47, 3.72, 3.24, 1.79, 3.05, 2.62),
    "Qwen-Image-Edit + RePlan": (3.86, 3.77, 3.16, 3.24, 3.51, 2.91),
}
