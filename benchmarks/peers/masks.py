"""The published mask as its authors compute it: one OpenCV call per step."""

import cv2
import numpy as np
from numpy.typing import NDArray


def published_opencv(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """255 for pixels that the published method classifies as lesion or hair, otherwise 0."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    clahe = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8))
    lab[..., 0] = clahe.apply(np.ascontiguousarray(lab[..., 0]))
    image = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    long_cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (9, 9))
    black_hat = cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, long_cross)
    blurred = cv2.GaussianBlur(black_hat, (3, 3), 4)
    hair = cv2.threshold(blurred, 20, 255, cv2.THRESH_BINARY)[1]
    image[hair > 0] = 0
    value = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 2], (5, 5), 0)
    lesion = cv2.threshold(value, 0, 255, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)[1]
    cross = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    lesion = cv2.morphologyEx(lesion, cv2.MORPH_OPEN, cross, iterations=5)
    lesion = cv2.dilate(lesion, cross, iterations=5)
    lesion = cv2.morphologyEx(lesion, cv2.MORPH_CLOSE, cross, iterations=5)
    return np.asarray(lesion | hair, np.uint8)
