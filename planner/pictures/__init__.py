"""Images and masks: resizing and restoring pixels, region masks, drawing a plan over its image."""
