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
constexpr double kHairNet = 0.15;   // of the box around hairs that cross, at most
constexpr double kGrowth = 2;       // of hair and glare, into MARGIN

// Of the brightest channel: a vignette is darker than this, and than half the skin, but for black.
constexpr int kDarkestSkin = 70, kBlack = 12;
constexpr int kGlareLevel = 235, kGlareAboveSkin = 45;  // of the least channel
constexpr int kPaperChroma = 14, kSkinChroma = 40;      // differences of channels
// How much blue and green exceed red: in ink, and in ink compared with the skin.
constexpr int kInkBlue = 10, kInkGreen = 5, kInkViolet = 40, kInkFar = 60;
constexpr ptrdiff_t kMedianStep = 5;  // pixels from one that is counted to the next

struct Channels {
  Raster red, green, blue;
};

Channels channels_of(const Image& image) {
  Channels out{Raster(image.height, image.width), Raster(image.height, image.width),
               Raster(image.height, image.width)};
  for (ptrdiff_t y = 0; y < image.height; ++y) {
    // The output does not alias the pointers; without this hint they are read again each time.
    uint8_t* __restrict r = out.red.row(y), * __restrict g = out.green.row(y);
    uint8_t* __restrict b = out.blue.row(y);
    const uint8_t* pixel = image.row(y);
    for (ptrdiff_t x = 0; x < image.width; ++x, pixel += image.pixel_stride)
      r[x] = pixel[0], g[x] = pixel[1], b[x] = pixel[2];
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
  resize(image, whole(image), {pixels.data(), Element::kU8, height, width, 3 * width});
  return channels_of({pixels.data(), height, width, 3 * width, 3});
}

// The median of every `step`-th selected value; 0 if none is selected.
int median(const Raster& values, const Raster& wanted, ptrdiff_t step) {
  std::array<ptrdiff_t, 256> histogram{};
  ptrdiff_t count = 0;
  for (ptrdiff_t i = 0; i < values.size(); i += step)
    if (wanted[i]) ++histogram[values[i]], ++count;
  int level = 0;
  for (ptrdiff_t passed = histogram[0]; level < 255 && 2 * passed < count;)
    passed += histogram[static_cast<size_t>(++level)];
  return count ? level : 0;
}

// The dark corners of a round field of view, or a black frame: pixels much darker than the rest
// and connected to a corner.
Raster find_vignette(const Channels& image) {
  const ptrdiff_t height = image.red.height, width = image.red.width;
  const Raster brightest =
      blur(map([](uint8_t r, uint8_t g, uint8_t b) { return std::max(std::max(r, g), b); },
               image.red, image.green, image.blue),
           1);
  const int half = median(brightest, Raster(height, width, 1), 1) / 2;
  const int level = std::max(std::min(kDarkestSkin, half), kBlack);
  const Components found =
      components_of(map([=](uint8_t value) { return value <= level; }, brightest));
  std::vector<uint8_t> in_corner(found.parts.size());
  for (const Components::Run& run : found.runs)
    if ((run.y == 0 || run.y == height - 1) && (run.begin == 0 || run.end == width))
      in_corner[static_cast<size_t>(run.label)] = 1;
  Raster vignette(height, width, 0);
  for (const Components::Run& run : found.runs)
    if (in_corner[static_cast<size_t>(run.label)])
      std::fill(vignette.row(run.y) + run.begin, vignette.row(run.y) + run.end, uint8_t{1});
  return vignette;
}

// Thin dark lines: filled by a closing, and long for their area.
Raster find_hair(const Raster& luma, double scale) {
  const Raster filled = close(luma, std::max<ptrdiff_t>(1, std::lround(kHairRadius * scale)));
  Raster lines =
      map([](int bright, int dark) { return bright - dark > 8 + bright / 12; }, filled, luma);
  const Components found = components_of(lines);
  std::vector<uint8_t> is_hair(found.parts.size());
  for (size_t part = 0; part < found.parts.size(); ++part) {
    const Components::Part& p = found.parts[part];
    const auto tall = static_cast<double>(p.bottom - p.top + 1);
    const auto wide = static_cast<double>(p.right - p.left + 1);
    const double length = std::sqrt(tall * tall + wide * wide);
    const auto size = static_cast<double>(p.size);
    const bool thin = size <= std::max(1.0, kHairWidth * scale) * length;
    const bool net = size <= kHairNet * tall * wide;
    is_hair[part] = length >= kHairLength * scale && (thin || net);
  }
  for (const Components::Run& run : found.runs)
    if (!is_hair[static_cast<size_t>(run.label)])
      std::fill(lines.row(run.y) + run.begin, lines.row(run.y) + run.end, uint8_t{0});
  return lines;
}

struct SkinColour {
  int red, green, blue;
};

// Reflections of the lamp: nearly white, or far brighter than the skin if any is visible.
Raster find_glare(const Channels& image, const SkinColour& skin) {
  const int darkest = std::min({skin.red, skin.green, skin.blue});
  const bool seen = std::max({skin.red, skin.green, skin.blue}) > 0;
  const int level = seen ? std::min(kGlareLevel, darkest + kGlareAboveSkin) : kGlareLevel;
  return map([=](uint8_t r, uint8_t g, uint8_t b) { return std::min(std::min(r, g), b) >= level; },
             image.red, image.green, image.blue);
}

// Ink and stickers that are bluer or greener than any skin, and white or grey paper. Where the skin
// itself is grey or blue, under a cast, only the distance from its colour counts.
Raster find_ruler(const Channels& image, const SkinColour& skin) {
  const int skin_blue = skin.blue - skin.red, skin_green = skin.green - skin.red;
  const bool coloured = -skin_blue > kSkinChroma;
  const int blue = coloured ? kInkBlue : skin_blue + kInkFar;
  const int green = coloured ? kInkGreen : skin_green + kInkFar;
  const int violet = skin_blue + kInkViolet;
  const int paper_chroma = coloured ? kPaperChroma : 0;
  const int paper_level = skin.green - kSkinChroma / 2;
  const auto is_ruler = [=](int r, int g, int b) {
    const int ink = (b - r > blue) | (g - r > green) | ((b - r > violet) & (b - g > kInkBlue));
    const int chroma = std::max(std::max(r, g), b) - std::min(std::min(r, g), b);
    return ink | ((chroma < paper_chroma) & (g >= paper_level));
  };
  return open(map(is_ruler, image.red, image.green, image.blue), 1);
}

Raster resized(const Raster& mask, ptrdiff_t height, ptrdiff_t width) {
  if (mask.height == height && mask.width == width) return mask;
  Raster out(height, width);
  resize_mask(mask.data(), mask.height, mask.width, out.data(), height, width);
  return out;
}

int any_of(int a, int b, int c) { return (a | b | c) != 0; }

}  // namespace

void skin_regions(const Image& image, uint8_t* regions) {
  const ptrdiff_t height = image.height, width = image.width;
  const double scale =
      static_cast<double>(std::max(height, width)) / static_cast<double>(kWorkingSide);

  const Channels small = reduced(image, kLesionSide);
  const Raster dark_corners = find_vignette(small);
  const Lesion found =
      find_lesion(small.green, small.blue, dilate(dark_corners, kVignetteMargin / 2));
  const Raster around =
      map(any_of, dilate(dark_corners, kVignetteMargin), dilate(found.mask, kLesionMargin),
          dilate(open(found.dark, 1), kDarkMargin));
  const Raster vignette = resized(dark_corners, height, width);
  const Raster lesion = resized(found.mask, height, width);
  const Raster margin = resized(around, height, width);

  const Channels full = channels_of(image);
  const Raster hair =
      find_hair(map([](int r, int g, int b) { return (77 * r + 150 * g + 29 * b + 128) / 256; },
                    full.red, full.green, full.blue),
                scale);
  const Raster skin =
      map([](int a, int b, int c) { return !any_of(a, b, c); }, lesion, margin, hair);
  const SkinColour colour{median(full.red, skin, kMedianStep),
                          median(full.green, skin, kMedianStep),
                          median(full.blue, skin, kMedianStep)};
  const Raster glare = find_glare(full, colour);
  const Raster ruler = map([](int found, int a, int b, int c) { return found && !any_of(a, b, c); },
                           find_ruler(full, colour), lesion, vignette, glare);
  const Raster close_by =
      dilate(map(any_of, hair, glare, ruler), std::max<ptrdiff_t>(1, std::lround(kGrowth * scale)));

  const auto marked = [](int mask, Region bit) { return mask ? int{bit} : 0; };
  map_into(
      regions, height * width,
      [=](int in_lesion, int in_hair, int in_vignette, int in_ruler, int in_glare, int near,
          int near_thing) {
        const int seen = marked(in_lesion, kLesion) | marked(in_hair, kHair) |
                         marked(in_vignette, kVignette) | marked(in_ruler, kRuler) |
                         marked(in_glare, kGlare);
        return seen ? seen : marked(near | near_thing, kMargin);
      },
      lesion.data(), hair.data(), vignette.data(), ruler.data(), glare.data(), margin.data(),
      close_by.data());
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
        std::clamp<ptrdiff_t>((2 * i + 1) * n * 128 / out_n - 128, 0, (n - 1) * 256);
    return Tap{at / 256, std::min(at / 256 + 1, n - 1), static_cast<int>(at % 256)};
  };
  std::vector<Tap> across(static_cast<size_t>(out_width));
  for (ptrdiff_t x = 0; x < out_width; ++x)
    across[static_cast<size_t>(x)] = tap_of(x, width, out_width);

  // Stretched rows of the mask, 0..255; those of the last output row are reused for the next.
  std::vector<uint8_t> upper(static_cast<size_t>(out_width)), lower(upper.size());
  ptrdiff_t upper_row = -1, lower_row = -1;
  const auto stretch = [&](ptrdiff_t y, std::vector<uint8_t>& to) {
    const uint8_t* row = mask + y * width;
    for (size_t x = 0; x < to.size(); ++x) {
      const Tap& tap = across[x];
      const int value =
          (row[tap.first] ? 256 - tap.weight : 0) + (row[tap.second] ? tap.weight : 0);
      to[x] = static_cast<uint8_t>(value - value / 256);
    }
  };
  for (ptrdiff_t y = 0; y < out_height; ++y) {
    const Tap down = tap_of(y, height, out_height);
    if (down.first == lower_row) upper.swap(lower), std::swap(upper_row, lower_row);
    if (down.first != upper_row) stretch(upper_row = down.first, upper);
    if (down.second != lower_row) stretch(lower_row = down.second, lower);
    const auto weight = static_cast<uint16_t>(down.weight),
               rest = static_cast<uint16_t>(256 - weight);
    map_into(
        out + y * out_width, out_width,
        [=](uint16_t a, uint16_t b) {
          return static_cast<uint16_t>(a * rest + b * weight) >= 128 * 255 ? 255 : 0;
        },
        static_cast<const uint8_t*>(upper.data()), static_cast<const uint8_t*>(lower.data()));
  }
}

}  // namespace melfast
