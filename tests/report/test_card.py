"""Untrusted names in the model card are escaped."""

from melfast.data.preprocess import Preprocess
from melfast.models.record import ModelRecord
from melfast.report.card import making, markdown


def test_markdown() -> None:
    assert markdown("very light") == "very light"
    assert markdown("III-IV (tan), 25.5 %") == "III-IV (tan), 25.5 %"
    assert markdown("a|b\n# c") == r"a\|b\\n\# c"
    assert markdown("<img src=x> `x` [y](z) *s* _u_") == r"\<img src=x\> \`x\` \[y\](z) \*s\* \_u\_"
    assert markdown("https://x.org www.x.org a@b") == r"https\://x.org www\.x.org a\@b"


def test_record() -> None:
    record = ModelRecord(
        "resnet10t",
        Preprocess(4, 4),
        groups=("<b>",),
        threshold=0.5,
        threshold_rule="[f1](x)",
        group_thresholds=(0.25,),
        training={"versions": {"torch": "<script>"}},
    )
    text = "\n".join(making(record))
    assert r"\<b\> 0.2500" in text
    assert r"by \[f1\](x)." in text
    assert r"torch \<script\>." in text
