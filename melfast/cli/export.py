"""melfast export."""

from pathlib import Path

import click

from melfast.cli import CONTEXT


@click.command("export", context_settings=CONTEXT)
@click.option(
    "--checkpoint", required=True, type=Path,
    help="Run folder (its best checkpoint), checkpoint folder, or model.safetensors in one.",
)  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["onnx"]), default="onnx", show_default=True)
@click.option("--output", required=True, type=Path, help="The file to write.")
def command(checkpoint: Path, kind: str, output: Path) -> None:
    """Write a classifier as one self-contained ONNX file.

    It takes uint8 RGB images at the model's size and gives the probability of malignancy and the
    logits; colour conversion, normalisation and decoding are inside. Its numbers are compared with
    torch's before the file gets its name.

    \b
    Example: melfast export --checkpoint runs/first --format onnx --output model.onnx
    """
    from melfast.engines.export import CHECK_BATCHES, OPSET, export_onnx
    from melfast.train.checkpoint import load_model

    classifier, record = load_model(checkpoint)
    check = export_onnx(classifier, record, output)
    size = record.preprocess
    batches = ", ".join(map(str, CHECK_BATCHES))
    click.echo(
        f"{output}: {output.stat().st_size / 1e6:.1f} MB, {record.backbone}, opset {OPSET}, "
        f"input uint8 RGB [B, {size.height}, {size.width}, 3]"
    )
    click.echo(
        f"  checked against torch on {check.images} drawn images, batches of {batches}: "
        f"probability within {check.probability_error:.1e} "
        f"(of {check.lowest:.3f} to {check.highest:.3f})"
    )
    if record.threshold is None:
        click.echo("note: the model has no threshold; melfast predict will use 0.5", err=True)
