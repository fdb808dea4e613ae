#include "regions.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels.h"
#include "lesion.h"
#include "raster.h"

namespace melfast {
namespace {

// Longer side of the picture that the lesion and the vignette are found in: their borders are
// smooth, and hair is nearly gone.
constexpr ptrdiff_t kLesionSide = 160;

// In pixels of a picture with a longer side of kLesionSide.
constexpr ptrdiff_t kLesionMargin = 4, kDarkMargin = 1, kVignetteMargin = 5;

// In pixels of a picture with a longer side of kWorkingSide.
constexpr double kHairRadius = 5;   // hairs are less than 11 pixels wide
constexpr double kHairLength = 24;  // and longer than this
constexpr double kHairWidth = 8;    // pixels of a hair for each of its length, at most
constexpr double kGrowth = 2;       // of hair and glare, into MARGIN

constexpr int kDarkestSkin = 70;  // brightest channel; a vignette is darker, and than half the skin
constexpr int kGlareLevel = 235, kGlareAboveSkin = 45;  // of the least channel
constexpr int kPaperChroma = 14, kSkinChroma = 40;      // differences of channels
constexpr int kInkBlue = 10, kInkGreen = 5;             // above red

struct Channels {
  Raster red, green, blue;
};

Channels channels_of(const Image& image) {
  Channels out{Raster(image.height, image.width), Raster(image.height, image.width),
               Raster(image.height, image.width)};
  for (ptrdiff_t y = 0, i = 0; y < image.height; ++y) {
    const uint8_t* pixel = image.row(y);
    for (ptrdiff_t x = 0; x < image.width; ++x, ++i, pixel += image.pixel_stride)
      out.red[i] = pixel[0], out.green[i] = pixel[1], out.blue[i] = pixel[2];
  }
  return out;
}

// The image with a longer side of at most `side`.
Channels reduced(const Image& image, ptrdiff_t side) {
  const ptrdiff_t longer = std::max(image.height, image.width);
  if (longer <= side) return channels_of(image);
  const auto scaled = [&](ptrdiff_t size) {
    return std::max<ptrdiff_t>(1, (2 * size * side + longer) / (2 * longer));
  };
  const ptrdiff_t height = scaled(image.height), width = scaled(image.width);
  std::vector<uint8_t> pixels(static_cast<size_t>(3 * height * width));
  resize(image, {pixels.data(), Element::kU8, height, width, 3 * width});
  return channels_of({pixels.data(), height, width, 3 * width, 3});
}

// The middle value of a plane where it is wanted; 0 where nothing is.
int median(const Raster& values, const Raster& wanted) {
  std::array<ptrdiff_t, 256> histogram{};
  ptrdiff_t count = 0;
  for (ptrdiff_t i = 0; i < values.size(); ++i)
    if (wanted[i]) ++histogram[values[i]], ++count;
  int level = 0;
  for (ptrdiff_t passed = histogram[0]; level < 255 && 2 * passed < count;)
    passed += histogram[static_cast<size_t>(++level)];
  return count ? level : 0;
}

// The dark corners of a round field of view, or a black frame: what is much darker than the rest
// and joined to a corner.
Raster find_vignette(const Channels& image) {
  const ptrdiff_t height = image.red.height, width = image.red.width;
  Raster brightest(height, width), all(height, width, 1), dark(height, width);
  for (ptrdiff_t i = 0; i < dark.size(); ++i)
    brightest[i] = std::max({image.red[i], image.green[i], image.blue[i]});
  brightest = blur(std::move(brightest), 1);
  const int level = std::min(kDarkestSkin, median(brightest, all) / 2);
  // A picture that is dark all over has no skin to be darker than.
  for (ptrdiff_t i = 0; i < dark.size(); ++i) dark[i] = brightest[i] <= std::max(level, 12);
  const Components found = components_of(dark);
  const auto label = [&](ptrdiff_t i) { return found.label[static_cast<size_t>(i)]; };
  const int32_t corners[] = {label(0), label(width - 1), label((height - 1) * width),
                             label(height * width - 1)};
  for (ptrdiff_t i = 0; i < dark.size(); ++i)
    dark[i] = label(i) >= 0 && std::count(corners, corners + 4, label(i)) > 0;
  return dark;
}

// Thin dark lines: what a closing fills in, long for its area.
Raster find_hair(const Raster& luma, double scale) {
  const Raster filled = close(luma, std::max<ptrdiff_t>(1, std::lround(kHairRadius * scale)));
  Raster lines(luma.height, luma.width);
  for (ptrdiff_t i = 0; i < lines.size(); ++i) lines[i] = filled[i] - luma[i] > 8 + filled[i] / 12;
  const Components found = components_of(lines);
  std::vector<uint8_t> is_hair(found.parts.size());
  for (size_t part = 0; part < found.parts.size(); ++part) {
    const Components::Part& p = found.parts[part];
    const double length = std::hypot(static_cast<double>(p.bottom - p.top + 1),
                                     static_cast<double>(p.right - p.left + 1));
    is_hair[part] = length >= kHairLength * scale &&
                    static_cast<double>(p.size) <= std::max(1.0, kHairWidth * scale) * length;
  }
  for (ptrdiff_t i = 0; i < lines.size(); ++i)
    if (const int32_t label = found.label[static_cast<size_t>(i)]; label >= 0)
      lines[i] = is_hair[static_cast<size_t>(label)];
  return lines;
}

struct SkinColour {
  int red, green, blue;
};

// Mirrors of the lamp: nearly white, and far brighter than the skin.
Raster find_glare(const Channels& image, const SkinColour& skin) {
  const int level =
      std::min(kGlareLevel, std::min({skin.red, skin.green, skin.blue}) + kGlareAboveSkin);
  Raster glare(image.red.height, image.red.width);
  for (ptrdiff_t i = 0; i < glare.size(); ++i)
    glare[i] = std::min({image.red[i], image.green[i], image.blue[i]}) >= level;
  return glare;
}

// Ink and stickers that are bluer or greener than any skin, and white or grey paper.
Raster find_ruler(const Channels& image, const SkinColour& skin) {
  // Where the skin itself is grey or blue, colours say nothing.
  const bool coloured = skin.red - skin.blue > kSkinChroma;
  Raster ruler(image.red.height, image.red.width);
  for (ptrdiff_t i = 0; i < ruler.size(); ++i) {
    const int r = image.red[i], g = image.green[i], b = image.blue[i];
    const bool ink = b > r + kInkBlue || g > r + kInkGreen;
    const bool paper = std::max({r, g, b}) - std::min({r, g, b}) < kPaperChroma &&
                       g >= skin.green - kSkinChroma / 2;
    ruler[i] = coloured && (ink || paper);
  }
  return open(ruler, 1);
}

Raster resized(const Raster& mask, ptrdiff_t height, ptrdiff_t width) {
  if (mask.height == height && mask.width == width) return mask;
  Raster out(height, width);
  resize_mask(mask.values.data(), mask.height, mask.width, out.values.data(), height, width);
  return out;
}

// Whatever `mask` marks gets the bit.
void mark(uint8_t* regions, const Raster& mask, uint8_t bit) {
  for (ptrdiff_t i = 0; i < mask.size(); ++i) regions[i] |= mask[i] ? bit : uint8_t{0};
}

}  // namespace

void skin_regions(const Image& image, uint8_t* regions) {
  const ptrdiff_t height = image.height, width = image.width, size = height * width;
  const double scale =
      static_cast<double>(std::max(height, width)) / static_cast<double>(kWorkingSide);
  std::fill_n(regions, size, uint8_t{0});
  const auto mark_resized = [&](const Raster& mask, uint8_t bit) {
    mark(regions, resized(mask, height, width), bit);
  };

  const Channels small = reduced(image, kLesionSide);
  const Raster vignette = find_vignette(small);
  const Lesion lesion =
      find_lesion(small.red, small.green, small.blue, dilate(vignette, kVignetteMargin / 2));
  mark_resized(vignette, kVignette);
  mark_resized(lesion.mask, kLesion);
  mark_resized(dilate(vignette, kVignetteMargin), kMargin);
  mark_resized(dilate(lesion.mask, kLesionMargin), kMargin);
  mark_resized(dilate(open(lesion.dark, 1), kDarkMargin), kMargin);

  const Channels full = channels_of(image);
  Raster luma(height, width), skin(height, width);
  for (ptrdiff_t i = 0; i < size; ++i) {
    luma[i] = static_cast<uint8_t>(
        (77 * full.red[i] + 150 * full.green[i] + 29 * full.blue[i] + 128) / 256);
    skin[i] = regions[i] == 0;
  }
  const Raster hair = find_hair(luma, scale);
  const SkinColour colour{median(full.red, skin), median(full.green, skin),
                          median(full.blue, skin)};
  const Raster glare = find_glare(full, colour);
  Raster ruler = find_ruler(full, colour);
  for (ptrdiff_t i = 0; i < size; ++i) ruler[i] = ruler[i] && !(regions[i] & (kLesion | kVignette));
  mark(regions, hair, kHair);
  mark(regions, glare, kGlare);
  mark(regions, ruler, kRuler);
  const ptrdiff_t growth = std::max<ptrdiff_t>(1, std::lround(kGrowth * scale));
  Raster around(height, width);
  for (ptrdiff_t i = 0; i < size; ++i) around[i] = hair[i] | glare[i] | ruler[i];
  mark(regions, dilate(around, growth), kMargin);

  // MARGIN is said of what nothing else is said of.
  for (ptrdiff_t i = 0; i < size; ++i)
    if (regions[i] & ~kMargin) regions[i] &= static_cast<uint8_t>(~kMargin);
}

void resize_mask(const uint8_t* mask, ptrdiff_t height, ptrdiff_t width, uint8_t* out,
                 ptrdiff_t out_height, ptrdiff_t out_width) {
  // Positions in 1/256 of a pixel of the mask, from the centre of its first one.
  struct Tap {
    ptrdiff_t first, second;
    int weight;  // of the second, in 1/256
  };
  const auto tap_of = [](ptrdiff_t i, ptrdiff_t n, ptrdiff_t out_n) {
    const ptrdiff_t at =
        std::clamp<ptrdiff_t>(((2 * i + 1) * n * 128) / out_n - 128, 0, (n - 1) * 256);
    return Tap{at / 256, std::min(at / 256 + 1, n - 1), static_cast<int>(at % 256)};
  };
  std::vector<Tap> across(static_cast<size_t>(out_width));
  for (ptrdiff_t x = 0; x < out_width; ++x)
    across[static_cast<size_t>(x)] = tap_of(x, width, out_width);
  std::vector<int> blended(static_cast<size_t>(width));
  for (ptrdiff_t y = 0; y < out_height; ++y) {
    const Tap down = tap_of(y, height, out_height);
    const uint8_t *a = mask + down.first * width, *b = mask + down.second * width;
    for (ptrdiff_t x = 0; x < width; ++x)
      blended[static_cast<size_t>(x)] = (a[x] ? 256 - down.weight : 0) + (b[x] ? down.weight : 0);
    uint8_t* row = out + y * out_width;
    for (ptrdiff_t x = 0; x < out_width; ++x) {
      const Tap& tap = across[static_cast<size_t>(x)];
      const int value = blended[static_cast<size_t>(tap.first)] * (256 - tap.weight) +
                        blended[static_cast<size_t>(tap.second)] * tap.weight;
      row[x] = value >= 256 * 128 ? 255 : 0;
    }
  }
}

}  // namespace melfast
