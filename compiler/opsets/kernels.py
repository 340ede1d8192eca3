"""Steps that keep an operator's meaning but lose its kernel in ONNX Runtime 1.32 (CPU provider): they are not taken."""

LOST: dict[tuple[str, int], str] = {
    # Measured: 2-13 times slower in one and three dimensions, and in two where no blocked layout is used.
    ("AveragePool", 19): "ONNX Runtime's AveragePool of opset 19 is up to 13 times slower than that of 18",
    **{
        (op, 22): f"ONNX Runtime has no kernel for {op} of opset 22"
        for op in (
            "Bernoulli",
            "GlobalLpPool",
            "MaxRoiPool",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
            "RoiAlign",
        )
    },
}
