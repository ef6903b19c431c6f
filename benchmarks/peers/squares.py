"""From photos to what the network learns from, as train/augment.hpp says it, in Pillow and numpy."""
import numpy
from PIL import Image

AB_SCALE = 100  # model/spec.hpp
NEAR_GRAY = 6  # train/augment.hpp
# image/color.hpp
LUMA = numpy.array([0.299, 0.587, 0.114], numpy.float32)
RGB_TO_XYZ = numpy.array([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
WHITE = numpy.array([0.950456, 1, 1.088754])
TO_WHITE = (RGB_TO_XYZ.T / WHITE).astype(numpy.float32)
LEVELS = numpy.arange(256) / 255
LINEAR = numpy.where(LEVELS <= 0.04045, LEVELS / 12.92, ((LEVELS + 0.055) / 1.055) ** 2.4).astype(numpy.float32)


def lab_ab(rgb):
    """a and b [H,W] of 8-bit sRGB [H,W,3]."""
    t = LINEAR[rgb] @ TO_WHITE
    f = numpy.where(t > (6 / 29) ** 3, numpy.cbrt(t), t * ((29 / 6) ** 2 / 3) + 4 / 29)
    return 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])


def resized(plane, side):
    """Area average to shrink, linear to enlarge."""
    return numpy.asarray(Image.fromarray(plane).resize((side, side), Image.BOX if side <= len(plane) else Image.BILINEAR))


def square(rgb, side):
    """luma [1,S,S] in 0..1, and the target [2,S/2,S/2]; None in its place where that is near gray."""
    ab = numpy.stack([resized(plane, side // 2) for plane in lab_ab(rgb)]).clip(-AB_SCALE, AB_SCALE)
    target = None if ab.std((1, 2)).sum() < NEAR_GRAY else ab / (2 * AB_SCALE) + 0.5
    return resized(rgb @ LUMA / 255, side)[None], target
