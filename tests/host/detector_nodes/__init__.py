"""A node pack for tests only: a detector as packs write them, with the sockets BBOX and JSON."""


class Detector:
    """Finds the same two things in every image."""

    CATEGORY, FUNCTION = "tests", "detect"
    INPUT_TYPES = classmethod(lambda cls: {"required": {"image": ("IMAGE",)}})
    RETURN_TYPES = ("BBOX", "BBOX", "JSON")

    def detect(self, image):
        boxes = [(35.0, 60.0, 182.0, 100.0), (2.0, 4.0, 100.0, 90.0)]
        found = {"bboxes": [list(box) for box in boxes], "labels": ["a dog", "a cat"]}
        return boxes, [boxes] * len(image), [found] * len(image)


NODE_CLASS_MAPPINGS = {"TestDetector": Detector}
