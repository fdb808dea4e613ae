#include "retouch.h"

#include <algorithm>

#include "dispatch.h"

namespace melfast {
void retouch_row(const Retouch& retouch, ptrdiff_t y, ptrdiff_t width, uint8_t* rgb) {
  const Weights& mask = retouch.mask;
  const uint8_t* inside = mask.data ? mask.data + y * mask.row_stride : nullptr;
  if (retouch.curves)
    for (ptrdiff_t x = 0; x < width; ++x)
      curve_pixel(retouch.curves, 255 - inside[x * mask.pixel_stride], rgb + 3 * x, rgb + 3 * x);
  if (retouch.jitter) rows().jitter_row(retouch.jitter, width, rgb);
  if (retouch.masked)
    for (ptrdiff_t x = 0; x < width; ++x)
      for (ptrdiff_t c = 0; c < 3; ++c)
        rgb[3 * x + c] =
            static_cast<uint8_t>((rgb[3 * x + c] * inside[x * mask.pixel_stride] + 127) / 255);
  if (y >= retouch.erase[0] && y < retouch.erase[2])
    for (ptrdiff_t x = retouch.erase[1]; x < retouch.erase[3]; ++x)
      std::copy_n(retouch.fill, 3, rgb + 3 * x);
}

}  // namespace melfast
