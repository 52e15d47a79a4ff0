"""Many edits: `tools/batch.py` puts these together. Standard library alone, but for Ray and for the redo's scores.

items: what to edit, under which id. workflow: an API-format file, and which of its inputs an item fills. places: where
edits run. results: what is kept, and the lock on its folder. run: items to places, with retries and progress.
"""
