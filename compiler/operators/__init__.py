"""tamago's own operators, each defined as an ONNX function; empty while every rewrite ends in operators that exist."""
