"""The names of object classes: COCO's, as the field has them."""

COCO_OF_VOC = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}  # the classes that Pascal VOC calls otherwise


def coco_name(name: str) -> str:
    """Return COCO's name of a class that may bear Pascal VOC's.

    >>> coco_name("sofa"), coco_name("person")
    ('couch', 'person')
    """
    return COCO_OF_VOC.get(name, name)
