// The resize, row by row.
#pragma once

#include <functional>

#include "image.h"

namespace melfast {

// Makes the rows of a height x width resize of `extent` from the top down. row_at(y) says where one
// goes; done(y) hears that it is there. kRowsAtOnce rows are made together: that many of row_at's
// places are in use at a time.
void resize_rows(const Image& image, const Extent& extent, ptrdiff_t height, ptrdiff_t width,
                 const std::function<uint8_t*(ptrdiff_t)>& row_at,
                 const std::function<void(ptrdiff_t)>& done);

}  // namespace melfast
