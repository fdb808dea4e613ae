"""Translate the flags of the published system to keys of the config.

They work on the command line (dash or underscore) and as top-level keys of a YAML file. The setting
that each one stands for is printed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from melfast.config.loading import Loader, Override
from melfast.io.errors import InputError

Known = Mapping[str, Any]
Keys = dict[str, Any]
# Takes a value and the config without the flags; returns the keys that the flag sets.
Translation = Callable[[Any, Known], Keys]


def _to(key: str) -> Translation:
    return lambda value, known: {key: value}


def _if_on(**keys: Any) -> Translation:
    """Keys (`loss__name`) that a flag sets when it is on; when off, it changes nothing."""
    dotted = {key.replace("__", "."): value for key, value in keys.items()}
    return lambda value, known: dict(dotted) if value else {}


def _two_classes(value: Any, known: Known) -> Keys:
    if value != 2:
        raise InputError(f"melfast has two classes, benign and malignant: expected 2, got {value}")
    return {}


def _table(value: Any, known: Known) -> Keys:
    return {"data.path": value, "data.images": known["data.path"]}


def _pieces(value: Any, known: Known) -> Keys:
    return {"train.accumulate": value, "train.batch_size": known["train.batch_size"] * value}


def _inverse_weights(value: Any, known: Known) -> Keys:
    by_group = known["model.head"] != "plain"
    return {"loss.weights": "ifw_class_group" if by_group else "ifw_class"} if value else {}


def _no_key(value: Any, known: Known) -> Keys:
    """For a flag that changes nothing here; NEEDLESS says why."""
    return {}


def _test(value: Any, known: Known) -> Keys:
    if value:
        raise InputError("is a command of its own: melfast evaluate --checkpoint RUN")
    return {}


# Accepted because old command lines contain them; a line says what they become.
NEEDLESS = {
    "log_dir": "the run's folder, output_dir, holds its logs",
    "distributed": "torchrun starts the processes",
    "world_size": "torchrun --nproc-per-node N starts N processes",
    "dist_url": "torchrun lets the processes find each other",
}


# The order matters: a flag may look up keys that an earlier one has set.
PUBLISHED: dict[str, Translation] = {
    "data_path": _to("data.path"),
    "skin_color_csv": _table,
    "model": _to("model.backbone"),
    "num_classes": _two_classes,
    "num_groups": _to("model.num_groups"),
    "pretrained": _to("model.pretrained"),
    "freeze_model": _to("model.freeze"),
    "input_size": lambda value, known: {"preprocess.height": value, "preprocess.width": value},
    "batch_size": _to("train.batch_size"),
    "update_freq": _pieces,
    "epochs": _to("train.epochs"),
    "device": _to("train.device"),
    "num_workers": _to("data.threads"),
    "lr": _to("optim.lr"),
    "min_lr": lambda value, known: {"optim.min_lr_ratio": value / known["optim.lr"]},
    "weight_decay": _to("optim.weight_decay"),
    "warmup_epochs": lambda value, known: {"optim.warmup": value, "optim.warmup_unit": "epochs"},
    "layer_decay": _to("optim.layer_decay"),
    "mixup": _to("train.mixup"),
    "cutmix": _to("train.cutmix"),
    "smoothing": _to("loss.label_smoothing"),
    "model_ema": _if_on(train__ema=0.9999),
    "use_amp": _if_on(train__precision="bf16"),
    "output_dir": _to("output.dir"),
    "log_dir": _no_key,
    "checkpoint": _to("model.weights"),
    "test": _test,
    "domain_independent_loss": _if_on(model__head="domain_independent"),
    "domain_discriminative_loss": _if_on(model__head="domain_discriminative"),
    "conditional_accuracy": _if_on(model__inference="group_conditional"),
    "ohem": _if_on(loss__name="ohem"),
    "recall_ce": _if_on(loss__name="recall_ce"),
    "focal_loss": _if_on(loss__name="focal"),
    "ifw": _inverse_weights,
    "oversample_malignant": _if_on(sampler__name="oversample"),
    "undersample_benign": _if_on(sampler__name="undersample"),
    "undersample_benign_ratio": _to("sampler.ratio"),
    "cielab": _if_on(preprocess__colour="cielab"),
    "skin_former": _if_on(augment__skin_former={"very light": 0.2, "light": 0.4}),
    "segment_out_skin": _if_on(preprocess__masked=True),
    "seed": _to("train.seed"),
    "distributed": _no_key,
    "world_size": _no_key,
    "dist_url": _no_key,
}


# These refine a key that another flag has set.
REFINES = {"update_freq": "batch_size", "skin_color_csv": "data_path"}


def translate(flags: Mapping[str, tuple[Any, str]], known: Known) -> list[Override]:
    """The keys of the config that the given flags set.

    Args:
        flags: for each name its value and where it was given; text is read as YAML.
        known: dotted keys of the config without the flags.
    Raises:
        InputError: a flag has no counterpart here, or two of them contradict each other.
    """
    values, sources = dict(known), dict[str, str]()
    overrides = []
    for name, meaning in PUBLISHED.items():
        if name not in flags:
            continue
        value, where = flags[name]
        if isinstance(value, str):
            value = yaml.load(value, Loader=Loader)
        try:
            keys = meaning(value, values)
        except InputError as error:
            raise InputError(f"{where}: {name}: {error}") from None
        except (TypeError, ZeroDivisionError):
            raise InputError(f"{where}: {name}: expected a number, got {value!r}") from None
        for key, found in keys.items():
            before = sources.get(key)
            if before not in (None, REFINES.get(name)) and values[key] != found:
                raise InputError(
                    f"{where}: {before} and {name} contradict each other: one sets "
                    f"{key} {values[key]!r}, the other {found!r}"
                )
            values[key], sources[key] = found, name
            overrides.append(Override(key, found, f"{where}: {name}"))
    return overrides
