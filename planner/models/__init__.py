"""The models that plan, behind one small interface (`interface`); nothing here is imported before it is used.

`host` drives ComfyUI's own classes, `folder` the library transformers; `files` finds models on disk and `choose`
says which of the two reads one.
"""
