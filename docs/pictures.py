"""The pictures of docs/methods and docs/howto, from drawn images and by melfast's own functions.

python docs/pictures.py [FOLDER]    draws them all, by default into docs/pictures

The same on every run. Photographs are JPEG, plots PNG; both are to be read at a phone's width, and
no colour alone tells what is what.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from melfast.config.schema import LossConfig
from melfast.losses import build_loss
from melfast.metrics import scores
from melfast.metrics.calibration import fit
from melfast.metrics.gaps import Gaps
from melfast.metrics.groups import Groups
from melfast.metrics.threshold import choose_by_group, choose_threshold
from melfast.prepare.synth import SynthSample, draw_sample
from melfast.skin import locus
from melfast.skin import published_ita as published
from melfast.skin.colour import lab_to_srgb, srgb_to_lab
from melfast.skin.curves import destinations, level_curves, light_gains
from melfast.skin.former import move_skin, skin_weights
from melfast.skin.ita import estimate_tone
from melfast.skin.masks import Region, find_regions, make_mask
from melfast.skin.tone import TONE_GROUPS, ita_degrees

FOLDER = Path(__file__).parent / "pictures"
WIDTH, DPI = 5.0, 150  # 750 pixels: twice what a phone shows
# Okabe and Ito's colours, told apart by colour-blind people too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
STYLE = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "figure.facecolor": "white",
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 2,
    "legend.fontsize": 10,
    "legend.frameon": False,
}
SIX = TONE_GROUPS["six"]
SIZE = (320, 240)  # of a drawn image
SEED = 1
# What regions are painted with, over the image.
PAINT = {
    Region.MARGIN: ("margin", (120, 120, 120)),
    Region.VIGNETTE: ("vignette", (20, 20, 20)),
    Region.GLARE: ("glare", (255, 255, 255)),
    Region.RULER: ("ruler, ink", (204, 121, 167)),
    Region.LESION: ("lesion", (213, 94, 0)),
    Region.HAIR: ("hair", (0, 114, 178)),
}


def draw_all(folder: Path) -> list[Path]:
    """Draws every picture into a folder; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            save(draw(), folder / name)
            files.append(folder / name)
    return files


def save(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    if path.suffix == ".jpg":
        picture.save(path, quality=80, subsampling=0, optimize=True)
    else:
        picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def new(height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, NDArray]:
    """A figure and its axes [rows, columns]."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def show(axis: Axes, image: NDArray, title: str, **options) -> None:
    axis.imshow(image, **options)
    axis.set_title(title)
    axis.axis("off")


def skin_image(index: int) -> SynthSample:
    return draw_sample(SEED, index, SIZE)


def painted(image: NDArray[np.uint8], regions: NDArray[np.uint8]) -> NDArray[np.uint8]:
    out = image.copy()
    for region, (_, colour) in PAINT.items():
        inside = regions & region != 0
        out[inside] = (image[inside].astype(int) + 2 * np.array(colour)) // 3
    return out


# Skin tone.


def draw_plane(axis: Axes) -> None:
    """The L*-b* plane with the six tone groups."""
    edges = (90, *SIX.lower_deg, -90)
    for edge in SIX.lower_deg:
        x, y = np.cos(np.deg2rad(edge)), np.sin(np.deg2rad(edge))
        axis.plot([0, 100 * x], [50, 50 + 100 * y], color=GREY, linewidth=0.8, zorder=1)
        far = min(33.5 / x, 46 / max(abs(y), 1e-9))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        place = {"ha": "center", "va": "center", "bbox": box}
        axis.text(far * x, 50 + far * y, f"{edge:g}°", fontsize=8, color=GREY, **place)
    axis.plot(0, 50, "+", color="black")
    axis.set(xlabel="b* (blue to yellow)", ylabel="L* (lightness)", xlim=(-3, 36), ylim=(2, 98))
    axis.grid(visible=False)
    for name, (high, low) in zip(SIX.names, itertools.pairwise(edges), strict=True):
        middle = np.deg2rad((min(high, 80) + max(low, -70)) / 2)
        reach = min(27 / np.cos(middle), 41 / abs(np.sin(middle)))
        axis.text(reach * np.cos(middle), 50 + reach * np.sin(middle), name, fontsize=9, ha="center", va="center")


def ita_plane() -> Figure:
    figure, axes = new(4.6)
    axis = axes[0, 0]
    draw_plane(axis)
    ita = np.arange(-58, 75, 7.0)
    a, b = locus.chroma(ita)
    lightness = locus.lightness(ita, b)
    colours = lab_to_srgb(np.stack([lightness, a, b], axis=1)) / 255
    axis.scatter(b, lightness, s=120, c=colours, edgecolors="black", linewidths=0.8, zorder=3)
    place = int(np.argmin(np.abs(ita - 33)))
    axis.annotate(
        "",
        (b[place], lightness[place]),
        (0, 50),
        zorder=4,
        arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 2},
    )
    axis.plot([0, 12], [50, 50], color=BLUE, linewidth=1, linestyle=":")
    turn = np.deg2rad(np.linspace(0, ita[place], 40))
    axis.plot(9 * np.cos(turn), 50 + 9 * np.sin(turn), color=BLUE, linewidth=1.5)
    axis.text(10, 53.2, f"ITA {ita[place]:g}°", color=BLUE, fontsize=10)
    axis.set_title("Colours of skin, and the six tone groups")
    return figure


def ita_steps() -> Figure:
    sample = skin_image(26)
    regions = find_regions(sample.image)
    skin = regions == 0
    tone = estimate_tone(sample.image, regions=regions)
    figure, axes = new(5.0, 2, 2, height_ratios=(1, 1.25))
    show(axes[0, 0], sample.image, "1. the image")
    show(axes[0, 1], np.where(skin[..., None], sample.image, np.uint8(255)), "2. clean skin")
    colours = srgb_to_lab(sample.image)[skin][::17]
    for axis in axes[1]:
        axis.set(xlabel="b*", xlim=(0, 32), ylim=(38, 70), aspect="equal")
    axes[1, 0].set_ylabel("L*")
    axis = axes[1, 0]
    axis.scatter(colours[:, 2], colours[:, 0], s=2, c=lab_to_srgb(colours) / 255)
    axis.set_title("3. its colours")
    axis = axes[1, 1]
    lightness, _, b = tone.lab
    axis.scatter(colours[:, 2], colours[:, 0], s=2, color="#cccccc")
    axis.plot([0, 40], [50, 50], color=GREY, linewidth=1, linestyle=":")
    axis.annotate("", (b, lightness), (0, 50), arrowprops={"arrowstyle": "-|>", "color": BLUE, "linewidth": 2})
    axis.plot(b, lightness, "o", markersize=9, color=np.array(tone.rgb) / 255, mec="black")
    axis.set_title(f"4. ITA {tone.ita_deg:.1f}° (true {sample.ita_deg:.1f}°)")
    return figure


def conventions() -> Figure:
    """What either convention calls the colours of human skin."""
    ita = np.linspace(*locus.ITA_RANGE, 200)
    a, b = locus.chroma(ita)
    rgb = lab_to_srgb(np.stack([locus.lightness(ita, b), a, b], axis=1))
    true = ita_degrees(srgb_to_lab(rgb))
    eight_bit = [published.ita8_degrees(colour) for colour in rgb]
    figure, axes = new(4.3)
    axis = axes[0, 0]
    for edge in SIX.lower_deg:
        axis.axhline(edge, color=GREY, linewidth=0.7, linestyle=":")
        axis.axvline(edge, color=GREY, linewidth=0.7, linestyle=":")
    axis.plot([-60, 75], [-60, 75], color=GREY, linewidth=1, linestyle="--")
    axis.text(-40, -37, "the same", color=GREY, rotation=36, rotation_mode="anchor", fontsize=10)
    axis.scatter(true, eight_bit, s=40, c=rgb / 255, zorder=3)
    axis.plot(true, eight_bit, color="black", linewidth=1, zorder=4)
    axis.set(
        xlabel="ITA, degrees",
        ylabel="8-bit number, “degrees”",
        xlim=(-60, 75),
        ylim=(-60, 75),
        xticks=SIX.lower_deg,
        yticks=SIX.lower_deg,
    )
    axis.set_title("One skin, two conventions")
    axis.grid(visible=False)
    return figure


# Masks.


def lesion_steps() -> Figure:
    """The steps that find a lesion, by SciPy, and what the core makes of them."""
    sample = skin_image(14)
    scale = 160 / max(SIZE)
    small = np.asarray(Image.fromarray(sample.image).reduce(round(1 / scale)))
    blue = small[..., 2].astype(float)
    smooth = ndimage.grey_opening(ndimage.grey_closing(blue, 5), 5)
    for axis_of, _ in itertools.product((0, 1), range(3)):
        smooth = ndimage.convolve1d(smooth, np.array([1, 2, 1]) / 4, axis_of, mode="nearest")
    levels = np.arange(255)
    dark_share = np.array([(smooth <= level).mean() for level in levels])
    means = [
        (smooth[smooth <= v].mean(), smooth[smooth > v].mean()) if 0 < s < 1 else (0, 0)
        for v, s in zip(levels, dark_share, strict=True)
    ]
    between = [s * (1 - s) * (m[1] - m[0]) ** 2 for s, m in zip(dark_share, means, strict=True)]
    level = int(np.argmax(between))
    bright = means[level][1]
    figure, axes = new(5.6, 3, 2, height_ratios=(1, 1, 1))
    show(axes[0, 0], sample.image, "1. the image")
    show(axes[0, 1], smooth, "2. blue channel, no hair", cmap="gray")
    axis = axes[1, 0]
    counts, edges = np.histogram(smooth, bins=40)
    axis.stairs(counts, edges, fill=True, color="#bbbbbb")
    for part, style in zip((0, 0.25, 0.5), ("-", "--", ":"), strict=True):
        axis.axvline(level + part * (bright - level), color=ORANGE, linestyle=style)
    axis.set(yticks=[], xlabel="level of the blue channel")
    axis.set_title("3. three thresholds")
    parts = np.zeros(smooth.shape)
    for part in (0.5, 0.25, 0):
        parts[smooth <= level + part * (bright - level)] += 1
    show(
        axes[1, 1],
        parts,
        "4. shapes they cut out",
        cmap=ListedColormap(["white", "#bbbbbb", "#888888", "#444444"]),
        interpolation="nearest",
    )
    mask = make_mask(sample.image)
    show(axes[2, 0], sample.image, "5. the best shape")
    axes[2, 0].contour(mask, [128], colors="white", linewidths=3)
    axes[2, 0].contour(mask, [128], colors=BLUE, linewidths=1.5)
    show(axes[2, 1], sample.image, "the true border")
    axes[2, 1].contour(sample.mask, [0.5], colors="white", linewidths=3)
    axes[2, 1].contour(sample.mask, [0.5], colors=ORANGE, linewidths=1.5, linestyles="--")
    return figure


def regions() -> Figure:
    figure, axes = new(5.4, 3, 2)
    for row, index in enumerate((17, 32, 24)):
        image = skin_image(index).image
        show(axes[row, 0], image, "the image" if row == 0 else "")
        show(axes[row, 1], painted(image, find_regions(image)), "what was found" if row == 0 else "")
    used = (Region.LESION, Region.HAIR, Region.VIGNETTE, Region.MARGIN)
    handles = [mpl.patches.Patch(color=np.array(PAINT[r][1]) / 255, label=PAINT[r][0]) for r in used]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1, columnspacing=1)
    return figure


def methods_of_masks() -> Figure:
    """The lesion by the project's own and by the published method."""
    figure, axes = new(4.0, 2, 2)
    for row, index in enumerate((24, 26)):
        sample = skin_image(index)
        for column, method in enumerate(("lesion", "published")):
            mask = make_mask(sample.image, method) > 0  # type: ignore[arg-type]
            overlap = (mask & sample.mask).sum() / (mask | sample.mask).sum()
            axis = axes[row, column]
            show(axis, sample.image, f"{method}: IoU {overlap:.2f}")
            axis.contourf(mask, [0.5, 1.5], colors=[BLUE], alpha=0.55)
            axis.contour(sample.mask, [0.5], colors="white", linewidths=2)
    return figure


# Skin-former.


def former_curves() -> Figure:
    """Where a skin colour goes, and the curves of levels that take it there."""
    ita = np.linspace(*locus.ITA_RANGE, 100)
    _, b = locus.chroma(ita)
    start = np.array(estimate_tone(skin_image(26).image).lab)
    targets = np.array([60.0, 0.0, -40.0])
    styles = ("--", "-", ":")
    ends = destinations(np.tile(start, (3, 1)), targets)
    curves = level_curves(light_gains(np.tile(start, (3, 1)), ends))
    figure, axes = new(7.6, 2, 1)
    axis = axes[0, 0]
    axis.plot(b, locus.lightness(ita, b), color=GREY, linewidth=4, alpha=0.4, zorder=2, label="human skin")
    every = np.linspace(*locus.ITA_RANGE, 136)
    path = destinations(np.tile(start, (len(every), 1)), every)
    axis.plot(path[:, 2], path[:, 0], color=BLUE, linewidth=1.5, zorder=3)
    for colour, ita_deg in zip((start, *ends), (ita_degrees(start), *targets), strict=True):
        axis.plot(colour[2], colour[0], "o", markersize=14, mec="black", zorder=5, color=lab_to_srgb(colour) / 255)
        axis.text(colour[2] + 1, colour[0], f"{ita_deg:.0f}°", fontsize=11, va="center")
    axis.set(xlabel="b* (blue to yellow)", ylabel="L* (lightness)", xlim=(4, 26), ylim=(30, 78))
    axis.plot([], [], color=BLUE, linewidth=1.5, label="this skin, at any ITA")
    axis.legend(loc="upper right")
    axis.set_title("Where a skin of 23° goes")
    axis = axes[1, 0]
    level = lab_to_srgb(start)
    axis.plot([0, 255], [0, 255], color=GREY, linewidth=0.8)
    for curve, target, style in zip(curves, targets, styles, strict=True):
        axis.plot(curve[0], color=ORANGE, linestyle=style, label=f"red, to {target:g}°")
        axis.plot(curve[2], color=BLUE, linestyle=style, label=f"blue, to {target:g}°")
        axis.plot(level[0], curve[0][level[0]], "o", color=ORANGE)
        axis.plot(level[2], curve[2][level[2]], "o", color=BLUE)
    axis.set(
        xlabel="level before",
        ylabel="level after",
        xlim=(0, 255),
        ylim=(0, 255),
        xticks=(0, 64, 128, 192, 255),
        yticks=(0, 64, 128, 192, 255),
    )
    axis.legend(loc="lower right", fontsize=9)
    axis.set_title("Its curves; dots: the skin's own levels")
    return figure


def former_row() -> Figure:
    """An image at several targets, and how far each of its pixels is moved."""
    sample = skin_image(26)
    regions = find_regions(sample.image)
    tone = estimate_tone(sample.image, regions=regions)
    figure, axes = new(5.4, 3, 2)
    show(axes[0, 0], sample.image, f"measured {tone.ita_deg:.1f}°")
    weights = skin_weights(sample.image, regions, tone.lab)
    show(axes[0, 1], weights, "how far a pixel is moved", cmap="gray", vmin=0, vmax=255)
    for axis, target in zip(axes.ravel()[2:], (50, 0, -20, -40), strict=True):
        moved = move_skin(sample.image, target, tone=tone, regions=regions)
        show(axis, moved.image, f"to {target}°: measured {moved.tone.ita_deg:.1f}°")
    return figure


# Losses.


def losses() -> Figure:
    """Loss of one image by P of its true class, with the plain head."""
    p = torch.linspace(0.005, 0.995, 199)
    logits = torch.stack([torch.zeros_like(p), torch.logit(p)], dim=1)
    ones, groups = torch.ones(len(p), dtype=torch.int64), torch.zeros(len(p), dtype=torch.int64)
    cells = np.array([[1.0, 1.0], [0.0, 0.0]])
    figure, axes = new(3.9)
    axis = axes[0, 0]
    for label, style, colour, config in (
        ("ce", "-", "black", LossConfig()),
        ("ce, label_smoothing 0.1", "-.", GREEN, LossConfig(label_smoothing=0.1)),
        ("focal, gamma 1", "--", BLUE, LossConfig("focal", focal_gamma=1)),
        ("focal, gamma 2", ":", ORANGE, LossConfig("focal", focal_gamma=2)),
    ):
        loss = build_loss(config, cells)(logits, ones, groups)
        axis.plot(p, loss, style, color=colour, label=label)
    axis.set(xlabel="P of the true class", ylabel="loss of the image", xlim=(0, 1), ylim=(0, 4))
    axis.legend()
    axis.set_title("A hard image is at the left, an easy one at the right")
    return figure


def group_dro() -> Figure:
    """Weights of three groups whose losses stay as they are."""
    shares, losses_of = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.5, 0.9])
    cells = np.append(np.stack([shares * 800, shares * 200], axis=1), [[0, 0]], axis=0)
    criterion = build_loss(LossConfig("group_dro"), cells)
    counts = 64 * torch.from_numpy(np.append(shares, 0.0))
    sums = torch.stack([counts * torch.from_numpy(np.append(losses_of, 0.0)), counts])
    weights = []
    for _ in range(600):
        weights.append(criterion.group_weights()[:3].tolist())
        criterion.update(sums)
    figure, axes = new(3.7)
    axis = axes[0, 0]
    for line, style, colour, share, loss in zip(
        np.array(weights).T, ("-", "--", ":"), (BLUE, GREEN, ORANGE), shares, losses_of, strict=True
    ):
        axis.plot(line, style, color=colour, label=f"loss {loss}, {share:.0%} of the images")
    axis.set(xlabel="step", ylabel="weight of an image", ylim=(0, 8), xlim=(0, 600))
    axis.legend()
    axis.set_title("group_dro, dro_rate 0.01, losses held still")
    return figure


# Statistics.


def drawn_scores(seed: int = 0) -> tuple[NDArray, NDArray, Groups]:
    """Class, P(malignant) and group of 900 made-up images; the last group is small and harder."""
    rng = np.random.default_rng(seed)
    names, sizes, lift = ("light", "intermediate", "dark"), (500, 300, 100), (2.4, 2.3, 1.7)
    index = np.repeat(np.arange(3), sizes)
    y_true = (rng.random(900) < 0.2).astype(np.int64)
    odds = rng.normal(-2.2 + np.array(lift)[index] * y_true, 1.0)
    return y_true, 1 / (1 + np.exp(-odds)), Groups("tone", index, names)


def gap_by_chance() -> Figure:
    """The gap of recall next to the gaps after reassigning the groups at random within each class."""
    y_true, score, groups = drawn_scores()
    called = (score >= choose_threshold(y_true, score, "youden")).astype(np.int64)
    gap = Gaps.of(scores.Sample(y_true == 1, called == 1, None), groups, permutations=4000).of_metric("recall")
    malignant = y_true == 1
    hits, labels = called[malignant] == 1, groups.index[malignant]
    dealt = np.random.default_rng(0).permuted(np.tile(labels, (4000, 1)), axis=1)
    rates = [(hits & (dealt == i)).sum(axis=1) / (labels == i).sum() for i in range(3)]
    figure, axes = new(4.0)
    axis = axes[0, 0]
    axis.hist(np.ptp(rates, axis=0), 45, color="#bbbbbb", label="groups dealt out again")
    axis.axvline(gap.mean, color=BLUE, label=f"mean by chance {gap.mean:.2f}")
    axis.axvline(gap.upper, color=BLUE, linestyle="--", label=f"5 % exceed {gap.upper:.2f}")
    axis.axvline(gap.gap, color=ORANGE, label=f"the gap {gap.gap:.2f}, p = {gap.p_value:.3f}")
    height = axis.get_ylim()[1]
    axis.plot(
        [gap.low, gap.high],
        [-0.06 * height] * 2,
        color=ORANGE,
        linewidth=4,
        label=f"its interval {gap.low:.2f} to {gap.high:.2f}",
    )
    axis.set(
        xlabel="largest less smallest recall of a group",
        yticks=[],
        ylabel="permutations",
        ylim=(-0.12 * height, height),
        xlim=(0, gap.high + 0.03),
    )
    figure.legend(loc="outside lower left", ncols=2, columnspacing=1)
    return figure


def equal_recall() -> Figure:
    """One threshold for all, and one per group for equal recall."""
    y_true, score, groups = drawn_scores(1)
    common = choose_threshold(y_true, score, "recall", 0.8)
    own = choose_by_group(y_true, score, groups.index, 3, 0.8)
    figure, axes = new(4.6, 3, 1, sharex=True)
    for place, (axis, name) in enumerate(zip(axes[:, 0], groups.names, strict=True)):
        mine = (groups.index == place) & (y_true == 1)
        axis.hist(score[mine], 25, range=(0, 1), color="#bbbbbb")
        recalls = [(score[mine] >= limit).mean() for limit in (common, own[place])]
        axis.axvline(common, color=GREY, linestyle="--", label=f"one for all: recall {recalls[0]:.2f}")
        axis.axvline(own[place], color=ORANGE, label=f"its own: recall {recalls[1]:.2f}")
        axis.set(yticks=[], xlim=(0, 1), ylim=(0, 2 * axis.get_ylim()[1]))
        axis.set_title(f"{name}: {mine.sum()} malignant", loc="left")
        axis.legend(loc="upper right")
    axes[-1, 0].set_xlabel("P(malignant) of malignant images")
    return figure


def calibration() -> Figure:
    """P(malignant) against the observed fraction, before and after fitting a temperature."""
    rng = np.random.default_rng(2)
    odds = rng.normal(-0.8, 1.2, 6000)
    y_true = (rng.random(6000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    score = 1 / (1 + np.exp(-2.2 * odds))  # too sure by a factor of 2.2
    valid, test = slice(0, 3000), slice(3000, None)
    temperature = fit("temperature", y_true[valid], score[valid])["temperature"]
    steps = np.array(fit("isotonic", y_true[valid], score[valid])["isotonic"])
    after = {
        "before": score[test],
        f"temperature {temperature:.2f}": 1 / (1 + np.exp(-np.log(score[test] / (1 - score[test])) / temperature)),
        "isotonic": np.interp(score[test], *steps.T),
    }
    figure, axes = new(4.2)
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for (label, probability), style, colour in zip(
        after.items(), ("o-", "s-", "^:"), (ORANGE, BLUE, GREEN), strict=True
    ):
        place = np.minimum((probability * 10).astype(int), 9)
        many = np.bincount(place, minlength=10)
        kept = many > 20
        mean = np.bincount(place, probability, 10)[kept] / many[kept]
        share = np.bincount(place, y_true[test], 10)[kept] / many[kept]
        axis.plot(mean, share, style, color=colour, label=label, linewidth=1.5)
    axis.set(xlabel="P(malignant), mean of a tenth", ylabel="share that is malignant", xlim=(0, 1), ylim=(0, 1))
    axis.legend()
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "ita-plane.png": ita_plane,
    "ita-steps.jpg": ita_steps,
    "conventions.png": conventions,
    "lesion-steps.jpg": lesion_steps,
    "regions.jpg": regions,
    "mask-methods.jpg": methods_of_masks,
    "former-curves.png": former_curves,
    "former-row.jpg": former_row,
    "losses.png": losses,
    "group-dro.png": group_dro,
    "gap-by-chance.png": gap_by_chance,
    "equal-recall.png": equal_recall,
    "calibration.png": calibration,
}


if __name__ == "__main__":
    for file in draw_all(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(f"{file}: {file.stat().st_size / 1e3:.0f} kB")
