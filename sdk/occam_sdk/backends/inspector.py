"""What TensorRT's engine inspector says of the number formats that an engine computes in."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

COMPUTE: Final = re.compile(
    r"convolution|convact|correlation|\bconv\b|gemm|matrix_?multiply|matmul", re.IGNORECASE
)
FORMATS: Final = {
    "int8": "int8", "float": "fp32", "fp32": "fp32", "half": "fp16", "fp16": "fp16",
    "bf16": "bf16", "bfloat16": "bf16", "fp8": "fp8",
}  # fmt: skip
FORMAT: Final = re.compile(rf"\b({'|'.join(FORMATS)})\b", re.IGNORECASE)
FORMAT_FIELDS: Final = ("Datatype", "DataType", "Format/Datatype")  # 11's, in both spellings; 10's


def layers_of(information: str) -> dict[str, int]:
    """How many convolutions and matrix products an engine computes in each number format.

    The format is that of a layer's first input: an INT8 convolution may well write float32, and a
    residual that is added in the same layer comes after.

    Args:
        information: of a whole engine, as JSON, from TensorRT 10 or 11. Layers of which there are only
            names, since the engine was built without details, are not counted.

    Raises:
        ValueError: it is no such JSON.

    Example:
        >>> layers_of('{"Layers": [{"LayerType": "gemm", "Inputs": [{"Datatype": "Int8"}]}]}')
        {'int8': 1}
    """
    # Not strict: names of ONNX nodes are copied into it, and may hold any character.
    said = json.loads(information, strict=False)
    if not isinstance(said, dict) or "Layers" not in said:
        raise ValueError("expected an object with Layers")
    formats: Counter[str] = Counter()
    for layer in said["Layers"]:
        if isinstance(layer, dict) and COMPUTE.search(_kind(layer)):
            siblings = layer.get("Name", "").count(
                " || "
            )  # that share their input: computed as one
            formats[_number_format(layer)] += 1 + siblings
    return dict(formats)


def _kind(layer: Mapping[str, Any]) -> str:
    if layer.get("LayerType") == "fusion":  # only the name of its kernel tells what it fuses
        return str(layer.get("TacticName", ""))
    return f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"


def _number_format(layer: Mapping[str, Any]) -> str:
    first = (layer.get("Inputs") or [{}])[0]
    for field in FORMAT_FIELDS:
        found = FORMAT.search(first.get(field, ""))
        if found:
            return FORMATS[found[0].lower()]
    return "unknown"
