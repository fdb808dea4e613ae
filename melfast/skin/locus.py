"""The locus of human skin colours in CIELAB, from light to dark."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

# Skin runs along a bent band in the L*-b* plane: b* is greatest near ITA 20 degrees and falls
# towards the lightest and the darkest skin (Chardon et al. 1991; Del Bino and Bernerd 2013; the
# same bend in L* and C*, South Asian skin at its top: "Comparing skin colours between different
# skin groups", 47 people by spectrophotometer).
# The knots are set by hand along that band, through the mean of 148 Koreans (L* 64.2, a* 9.0,
# b* 18.3: ITA 38; Yun et al. 2010) and within 1.5 b* of groups of darker facial skin (L*, b* of
# 52.5, 18.9; 41.5, 13.3; 37.7, 14.7: ITA 8, -33, -40; 120 people by spectroradiometer, "Proposed
# shade guide for human facial skin", IADR 2009). Measured a* spans from 9 on arms to 25 on faces;
# here it is some units above an arm's, as under a dermoscope. ITA does not depend on it.
_ITA = (-60.0, -45.0, -30.0, -15.0, 0.0, 10.0, 20.0, 28.0, 38.0, 45.0, 55.0, 65.0, 75.0)
_B = (9.5, 12.5, 15.0, 17.0, 18.5, 19.5, 20.0, 19.5, 18.3, 16.5, 13.0, 10.0, 6.5)
_A = (9.0, 10.5, 12.0, 13.0, 13.5, 13.0, 12.5, 11.5, 10.0, 9.5, 9.5, 9.0, 8.0)

ITA_RANGE = (_ITA[0], _ITA[-1])


def chroma(ita_deg: Any) -> tuple[Any, Any]:
    """a* and b* of skin with an ITA (number or array); outside ITA_RANGE those of the nearer end."""
    return np.interp(ita_deg, _ITA, _A), np.interp(ita_deg, _ITA, _B)


def lightness(ita_deg: ArrayLike, b: ArrayLike) -> Any:
    """L* that gives the ITA with this b*; within -90..90 degrees."""
    return 50.0 + np.asarray(b) * np.tan(np.deg2rad(ita_deg))
